"""Joining other processes; tests/experiments/test_processes.py has more than one of them."""

import jax
import pytest

from jaxattack import distributed
from jaxattack.errors import UserError

ON = {"JAXATTACK_DISTRIBUTED": "1"}


def joined(address="localhost:1234", count="2", index="0"):
    return {
        **ON,
        "JAXATTACK_COORDINATOR": address,
        "JAXATTACK_PROCESSES": count,
        "JAXATTACK_PROCESS": index,
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({**ON, "JAXATTACK_COORDINATOR": "localhost:1"}, "set all of JAXATTACK_COORDINATOR"),
        ({**ON, "JAXATTACK_PROCESSES": "2", "JAXATTACK_PROCESS": "0"}, "set all of JAXATTACK_COO"),
        (joined(count="two"), "JAXATTACK_PROCESSES is 'two'"),
        (joined("localhost"), "a port between 1 and 65535"),
        (joined("localhost:0"), "a port between 1 and 65535"),
        (joined("localhost:99999"), "a port between 1 and 65535"),
        (joined(":1234"), "host:port"),
        (joined(index="2"), "which this is, from 0"),
        (joined(count="0"), "which this is, from 0"),
        (joined(index="-1"), "which this is, from 0"),
        ({**joined(), "JAXATTACK_TIMEOUT": "never"}, "JAXATTACK_TIMEOUT is 'never'"),
        ({"JAXATTACK_DISTRIBUTED": "maybe"}, "JAXATTACK_DISTRIBUTED is 'maybe'"),
        ({"JAXATTACK_PROCESS": "0"}, "JAXATTACK_PROCESS is set, but not JAXATTACK_DISTRIBUTED=1"),
        ({"SLURM_PROCID": "1", "SLURM_JOB_ID": "1"}, "Slurm started several tasks"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, "Slurm started several tasks"),
        ({"XLA_FLAGS": "--xla_no_such_flag=1"}, "does not know: --xla_no_such_flag=1"),
    ],
)
def test_what_the_environment_tells_by_half_is_refused(monkeypatch, given, says):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        distributed.initialize()
    assert says in str(error.value)


@pytest.mark.parametrize("error", [KeyError("SLURM_PROCID"), ValueError("no\ncluster")])
def test_who_cannot_be_joined_is_a_line(monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.setenv("JAXATTACK_DISTRIBUTED", "yes")
    with pytest.raises(
        UserError, match=r"could not be joined \((the environment lacks SLURM|no cl)"
    ):
        distributed.initialize()


def test_a_device_that_is_not_there_is_a_line(monkeypatch):
    def none():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match="JAX_PLATFORMS is 'cuda': jax has no device"):
        distributed.initialize()


@pytest.mark.parametrize("home", ["", "/proc"])
def test_without_a_home_nothing_is_cached(monkeypatch, home):
    monkeypatch.setattr(distributed.pathlib.Path, "expanduser", lambda path: path / "x")
    monkeypatch.setenv("XDG_CACHE_HOME", f"{home}/nowhere" if home else "/dev/null")
    assert distributed._cache() is None


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
