"""Joining other processes; tests/experiments/test_processes.py has more than one of them."""

import jax
import pytest

from jaxattack import distributed
from jaxattack.errors import UserError


@pytest.mark.parametrize(
    "given",
    [
        {"JAXATTACK_COORDINATOR": "localhost:1"},
        {"JAXATTACK_PROCESSES": "2", "JAXATTACK_PROCESS": "0"},
        {"JAXATTACK_COORDINATOR": "x:1", "JAXATTACK_PROCESSES": "two", "JAXATTACK_PROCESS": "0"},
    ],
)
def test_half_of_an_address_is_refused(monkeypatch, given):
    for name, value in {"JAXATTACK_DISTRIBUTED": "1", **given}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="set all of JAXATTACK_COORDINATOR"):
        distributed.initialize()


def test_a_cluster_that_jax_knows_is_left_to_jax(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: calls.append(given))
    monkeypatch.setenv("JAXATTACK_DISTRIBUTED", "1")
    distributed.initialize()
    assert calls == [{"initialization_timeout": 1800}]


def test_one_process_is_the_first_and_may_leave_as_it_likes():
    assert distributed.is_first()
    assert not distributed.several()
    result = object()
    assert distributed.first(lambda: result, "act") is result
    distributed.leave(1)  # does nothing
