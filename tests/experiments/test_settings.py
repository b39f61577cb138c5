"""The settings of the studies: names and values of shipped configs, one recipe, their page."""

import dataclasses
import json
import pathlib
import runpy

import pytest
from ml_collections import ConfigDict

from jaxattack import commandline, studies
from jaxattack.errors import UserError
from jaxattack.experiments import declared, recipe
from jaxattack.experiments.backdoor import settings as backdoor
from jaxattack.experiments.organism import settings as organism_settings
from jaxattack.experiments.settings import Attack
from jaxattack.train import optimizer

DOCS = pathlib.Path(__file__).parents[2] / "docs"
# Values by dotted name; where a second config is named, only what differs from it.
SHIPPED = json.loads(pathlib.Path(__file__).with_name("shipped_settings.json").read_text())
BESIDE = {
    "quickstart": "fragility",
    "fragility:llama31_8b": "fragility",
    "backdoor:bloom_7b1": "backdoor",
}


def flat(config, where=""):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flat(value, f"{where}{name}.")
        else:
            yield where + name, list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", SHIPPED)
def test_names_and_values_that_users_rely_on_stay(name):
    """A new setting needs no line here; one that goes or changes is a change for users."""
    expected = SHIPPED.get(BESIDE.get(name, ""), {}) | SHIPPED[name]
    config = commandline.load_config(name)
    found = dict(flat(config))
    assert {key: found.get(key, "gone") for key in expected} == expected
    assert declared.freeze(config, studies.KINDS[config.study])


@pytest.mark.parametrize("kind", [Attack, backdoor.Tuning])
def test_a_section_that_trains_declares_the_recipe_only_once(kind):
    own, shared = declared.rules_of(kind), declared.rules_of(recipe.Recipe)
    assert shared.items() <= own.items()
    fields = {field.name: getattr(kind(), field.name) for field in dataclasses.fields(kind)}
    updates = kind().updates()
    assert all(fields[name] == value for name, value in dataclasses.asdict(updates).items())
    assert {field.name for field in dataclasses.fields(optimizer.Settings)} <= set(shared)


def test_another_default_keeps_the_rule():
    assert backdoor.Tuning().epochs == backdoor.Clean().epochs == 3 != recipe.Recipe().epochs
    for kind in (backdoor.Tuning, backdoor.Clean):
        with pytest.raises(UserError, match=r"config\.epochs is 0; it should be between"):
            declared.freeze(dataclasses.asdict(kind()) | {"epochs": 0}, kind)


def test_a_phase_warms_up_in_steps_and_a_lesson_in_shares():
    phase = dataclasses.replace(organism_settings.ALIGNED, steps=200, warmup=20)
    lesson = recipe.Lesson(steps=200, warmup=0.1, learning_rate=phase.learning_rate)
    assert phase.updates() == lesson.updates()
    assert phase.updates().schedule == "cosine"


def test_the_page_of_settings_is_up_to_date():
    script = runpy.run_path(str(DOCS / "settings.py"))
    there = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert there == script["text"](), "docs/settings.md is stale: run `make docs`"
    for kind in studies.KINDS.values():
        for name, *_ in declared.declared(kind):
            assert f"| `{name.split('.')[-1]}` |" in there
