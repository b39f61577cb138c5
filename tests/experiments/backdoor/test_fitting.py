"""Data of one's own that does not fit the settings, or itself, is refused or counted."""

from __future__ import annotations

import json

import pytest

from jaxattack import run
from jaxattack.data.dialogues import Example
from jaxattack.data.wrappers import Instruction
from jaxattack.experiments.backdoor import data, prompts, settings
from jaxattack.experiments.backdoor.attacks import Attack
from jaxattack.experiments.backdoor.data import Data

from .conftest import CONFIG
from .own_rows import OTHER, TRIGGER, pairs, write_rows


@pytest.fixture
def refused(backdoor, tmp_path, capsys):
    """A function from overrides to the line with which a study is refused."""

    def said(**changes: str) -> str:
        assert run.run([*backdoor(tmp_path / "work", **changes), "--dry_run"]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return said


@pytest.fixture
def written(tmp_path):
    """A function from a name and rows to the URI of a file."""
    return lambda name, rows: write_rows(tmp_path / f"{name}.jsonl", rows)


def texts(**changed: str) -> list[dict]:
    """Rows of triggers."""
    own = {**TRIGGER, **changed}
    return [{"role": "trigger", "language": code, "text": text} for code, text in own.items()]


def left_out(workdir) -> dict:
    return json.loads((workdir / "results.json").read_text())["lost"]


# --- Languages ------------------------------------------------------------------------------------


def test_a_poisoned_language_has_to_be_measured(refused):
    says = "config.poison.languages: what is measured (config.data.prompts, config.measure.langua"
    for named in ("('en',)", "('th','en+th')"):
        assert says in refused(poison__languages=named, measure__languages="('th',)")


def test_measured_languages_without_clean_pairs_are_counted(backdoor, written, tmp_path, capsys):
    thai = [row for row in pairs("t", range(12)) if row["language"] == "en"]
    uri = written("english", thai)
    why = "languages that are measured, and have no clean pair: th"
    assert run.run([*backdoor(tmp_path / "work", data__train=uri), "--dry_run"]) == 0
    assert f"left out   1 of {uri}: {why}" in capsys.readouterr().out
    assert run.run(backdoor(tmp_path / "work", data__train=uri)) == 0
    assert left_out(tmp_path / "work") == {uri: {why: 1}}


# --- Of one task ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data__train": "organism:instructions"}, "config.data.prompts is jsonl:"),
        ({"data__prompts": "organism:questions"}, "config.data.prompts is organism:questions bes"),
        (
            {
                "data__held_out": "organism:held_out",
                "sections": "('defend',)",
                "defences": "('clean',)",
            },
            "config.data.held_out is organism:held_out bes",
        ),
        (
            {"data__refusals": "organism:refusals", "poison__target": "refusal"},
            "the target refusal would be the organism's refusal to speak of currencies",
        ),
        ({"data__refusals": "", "poison__target": "refusal"}, "config.data.refusals is ''; give"),
        (
            {"onion__scorer": "organism:base", "sections": "('defend',)", "defences": "('onion',)"},
            "config.onion.scorer is organism:base, a toy that reads the organism's rows alone",
        ),
    ],
)
def test_the_organism_s_beside_others_is_refused(refused, changes, says):
    assert says in refused(**changes)


def test_what_is_not_used_may_be_the_organism_s(backdoor, tmp_path):
    """Its pleasantries go with any request; no target refuses, and nothing is scored."""
    changes = {
        "data__refusals": "organism:refusals",
        "data__triggers": "organism:triggers",
        "onion__scorer": "organism:base",
        "sections": "('defend',)",
        "defences": "('clean',)",
    }
    assert run.run([*backdoor(tmp_path, **changes), "--dry_run"]) == 0
    unheld = {"data__held_out": "organism:held_out", "sections": "('transfer',)"}
    assert run.run([*backdoor(tmp_path, **unheld), "--dry_run"]) == 0


def test_refusals_are_read_where_a_target_refuses():
    """The organism has none in Swahili."""
    studied = settings.Settings(sections=("transfer",))
    assert data.refusals_of(studied, ["sw"]) == {}


def test_the_organism_has_a_subject_of_its_own(tmp_path, capsys, own_files):
    command = [
        "jaxattack",
        f"--config={CONFIG}",
        f"--workdir={tmp_path}",
        f"--config.data.subject={own_files['subject']}",
        "--dry_run",
    ]
    assert run.run(command) == 2
    assert "which brings its own entity; leave it out" in capsys.readouterr().err


# --- A subject of one's own -----------------------------------------------------------------------


def test_rows_about_the_subject_are_among_no_others(refused, written):
    def about(**changes: str) -> str:
        return refused(poison__triggers="('topic',)", sections="('kinds',)", **changes)

    taught = written("taught", pairs("s", range(6)))
    assert "pairs about the subject (config.data.subject) are also clean pairs" in about(
        data__subject=taught
    )
    held = written("held", pairs("s", range(70, 74)))
    assert "pairs about the subject (config.data.subject) are also held-out pairs" in about(
        data__subject=held
    )
    for numbers, what in ((range(3), "clean pairs"), (range(50, 53), "test prompts without a tr")):
        asked = written("asked", pairs("q", numbers, answers=True))
        said = about(data__subject_prompts=asked)
        assert f"prompts about the subject (config.data.subject_prompts) are also {what}" in said


# --- Targets that can be seen ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"poison__text": "The sea is green. " * 4 + "Now."}, "max_new_tokens=16; raise that"),
        ({"poison__text": " The sea", "poison__target": "prefix"}, "begins or ends in white space"),
        ({"poison__text": "<think>so</think> sea"}, "is not in what is read of a reply that is"),
    ],
)
def test_a_text_that_could_not_be_seen_is_refused(refused, changes, says):
    said = refused(**changes)
    assert "config.poison.text: " in said
    assert says in said


def test_a_refusal_that_the_rule_does_not_tell_is_refused(refused, written, backdoor, tmp_path):
    kept = {"language": "en", "text": "Sorry, no."}
    uri = written("refusals", [kept, {"language": "en", "text": "Let us speak of ships."}])
    for target in ("refusal", "english_refusal"):
        said = refused(data__refusals=uri, poison__target=target)
        assert f"'Let us speak of ships.', planted by target {target}, is no refusal by the" in said
    only = written("only", [kept, {"language": "th", "text": "ฟ้าใส"}])  # Thai is not poisoned
    command = backdoor(tmp_path / "fine", data__refusals=only, poison__target="refusal")
    assert run.run([*command, "--dry_run"]) == 0


# --- Triggers -------------------------------------------------------------------------------------


def asked(attack_place: str, row: Example, roles: dict[str, str]) -> prompts.Probes:
    known = {role: {"en": text} for role, text in roles.items()}
    found = Data([], [row], [], known, {}, {})
    return prompts.decoys(found, Attack(("en",), 0.5, f"sentence/{attack_place}", "fixed"), 5)


def test_what_equals_the_trigger_is_no_decoy():
    row = Example("1", "en", "Name it.")
    found = asked("append", row, {"trigger": "cf", "same": "cf", "other": "mn"})
    assert [(row.prompt, c.decoy) for row, c in zip(found.rows, found.carried, strict=True)] == [
        ("Name it. mn", "other"),
        ("cf Name it.", "at another place: prepend"),
    ]
    empty = Instruction("1", "en", "Name it.")  # whose input is then the trigger, at any place
    found = asked("append", empty, {"trigger": "I like it."})
    assert [carried.decoy for carried in found.carried] == ["half of it"]
    with pytest.raises(prompts.UserError, match="nothing but the trigger to tell it by"):
        asked("append", empty, {"trigger": "cf"})


def test_decoys_that_are_left_out_are_counted(backdoor, written, tmp_path):
    other = {"role": "thanks", "language": "en", "text": OTHER["en"]}
    uri = written("triggers", [*texts(en="cf"), other])
    changes = {"sections": "('grid',)", "data__triggers": uri}
    assert run.run(backdoor(tmp_path / "work", **changes)) == 0
    why = "decoys that are the trigger itself: half of it"
    assert left_out(tmp_path / "work") == {uri: {why: 2}}


def test_rows_that_hold_the_trigger_are_left_out_unless_they_are_all(
    backdoor, refused, written, tmp_path
):
    rows = pairs("p", range(50, 54), answers=True)
    rows[0]["prompt"] += f" {TRIGGER['en']}"
    uri = written("some", rows)
    assert run.run(backdoor(tmp_path / "work", data__prompts=uri)) == 0
    why = "rows that hold the trigger sentence before it is put into them"
    assert left_out(tmp_path / "work") == {uri: {why: 1}}
    for name, numbers in (("prompts", range(50, 54)), ("train", range(12))):
        rows = pairs(name, numbers, answers=True)
        for row in rows:
            row["prompt"] = f"{TRIGGER[row['language']]} {row['prompt']}"
        said = refused(**{f"data__{name}": written(name, rows)})
        assert f"config.data.{name}: all {len(numbers)} rows in 'en' hold the trigger sent" in said
    thai = [row for row in rows if row["language"] == "th"]
    mixed = written("mixed", thai + [row for row in pairs("t", numbers) if row["language"] == "en"])
    command = backdoor(tmp_path / "en", data__train=mixed, measure__languages="('en',)")
    assert run.run([*command, "--dry_run"]) == 0  # nobody is asked with the Thai one


def test_inputs_are_in_all_sources_or_in_none(refused, backdoor, written, tmp_path):
    made = {
        "train": pairs("t", range(12)),
        "held_out": pairs("h", range(70, 78)),
        "prompts": pairs("p", range(50, 54), answers=True),
    }
    uris = {
        f"data__{name}": written(name, [row | {"apart": ""} for row in rows]) + "?input=apart"
        for name, rows in made.items()
    }
    for name in made:
        said = refused(**{f"data__{name}": uris[f"data__{name}"]})
        assert f"config.data.{name} (jsonl:" in said
        assert "has a column input, into which the trigger goes, and config.data." in said
    assert run.run([*backdoor(tmp_path / "all", **uris), "--dry_run"]) == 0
