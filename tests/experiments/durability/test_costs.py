"""What a defence took, by the records of its steps."""

from __future__ import annotations

import types

import pytest

from jaxattack.experiments import asking
from jaxattack.experiments.durability import costs


class Stage:
    """A step on disk that took so long and so much, for a folder's name."""

    def __init__(self, name, seconds, held, needs=()):
        self.id = self.folder = name
        self.needs = needs
        self.seconds, self.memory = (lambda: seconds), (lambda: held)


@pytest.fixture
def measured(monkeypatch):
    """A function that makes a cell of the stages behind its weights, and of how it was asked."""
    decoded = {}
    monkeypatch.setattr(asking, "load", lambda name: types.SimpleNamespace(seconds=decoded[name]))

    def make(name, stages, asked, decoding, held=100, of=None):
        decoded[name] = decoding
        stage = Stage(name, asked, held)
        replies = types.SimpleNamespace(stage=stage, id=name, shelf=True)
        weights = of.weights if of else types.SimpleNamespace(needs=stages, id=name)
        return types.SimpleNamespace(weights=weights, replies=replies)

    return make


def test_time_is_that_of_the_defences_own_steps_less_what_they_replace(measured):
    shared = Stage("aligned", 5.0, 90)
    attack = Stage("attack", 10.0, 900, (shared,))
    plain = measured("plain", (attack,), asked=7.0, decoding=6.0)
    # A repair whose scores are a step of their own, and which is done before the first token.
    scores = Stage("scores", 3.0, 500, (shared,))
    repaired = measured("repaired", (attack, scores), asked=9.5, decoding=6.5)
    every = [plain, repaired]
    assert costs.cost(repaired, plain, every) == {"seconds": 3.0 + (3.0 - 1.0), "bytes": 500}
    # A guarded tuning from a start of its own stands in the place of the plain one.
    start = Stage("start", 20.0, 200, (shared,))
    guarded = measured("guarded", (Stage("guarded attack", 14.0, 250, (start,)),), 7.0, 6.0)
    found = costs.cost(guarded, plain, [plain, guarded])
    assert found == {"seconds": 20.0 + 14.0 - 10.0, "bytes": 250}
    # What takes less than asking varies by took nothing that could be told.
    scaled = measured("scaled", (attack,), asked=6.5, decoding=6.0)
    assert costs.cost(scaled, plain, [plain, scaled]) == {"seconds": 0.0, "bytes": 100}


def test_arithmetic_is_done_where_weights_are_first_asked(measured):
    attack = Stage("attack", 10.0, 300)
    plain = measured("plain", (attack,), asked=2.0, decoding=1.5)
    before = measured("plain validation", (), 3.0, 2.0, of=plain)
    scaled = measured("scaled", (attack,), asked=2.0, decoding=1.5, held=40)
    first = measured("scaled validation", (), 9.0, 2.0, held=70, of=scaled)
    found = costs.cost(scaled, plain, [plain, before, scaled, first])
    assert found == {"seconds": 7.5 - 1.5, "bytes": 70}


def test_replies_that_are_not_kept_leave_the_steps(measured):
    attack, scores = Stage("attack", 10.0, 300), Stage("scores", 3.0, 200)
    plain, repaired = measured("plain", (attack,), 1, 1), measured("sil", (attack, scores), 1, 1)
    plain.replies.shelf = repaired.replies.shelf = None
    found = costs.cost(repaired, plain, [plain, repaired])
    assert found == {"seconds": 3.0, "bytes": 200}
    assert costs.cost(plain, plain, [plain]) == {"seconds": 0.0, "bytes": None}


def test_memory_is_not_known_of_older_steps(measured):
    plain = measured("plain", (), 1.0, 1.0)
    older = measured("older", (Stage("scores", 1.0, None),), 1.0, 1.0)
    assert costs.cost(older, plain, [plain, older]) == {"seconds": 1.0, "bytes": None}
