"""The backdoor study on a tiny random checkpoint: what it asks, what it says of mistakes."""

from __future__ import annotations

import collections
import json
import re
import shutil

import pytest

from jaxattack import run, workdir
from jaxattack.data.wrappers import ALPACA, PLAIN, template_of
from jaxattack.evaluate import registry
from jaxattack.experiments import runs
from jaxattack.experiments.backdoor import setup, study
from jaxattack.experiments.backdoor.defences import DEFENCES, KNOWS, REFERENCES
from jaxattack.experiments.backdoor.sections import USUAL
from jaxattack.experiments.export import cells
from jaxattack.models.pretrained import save_pretrained
from jaxattack.organism import world

from .conftest import CONFIG
from .own_rows import OTHER, TRIGGER, pairs, write_rows

FIRST = "poisoned/en/sentence-append/fixed@0.5"


def found(workdir) -> dict:
    return json.loads((workdir / "results.json").read_text())


def stages(workdir) -> set[str]:
    return {path.name for path in (workdir / "stages").iterdir()}


def kinds(names) -> dict[str, int]:
    return collections.Counter(name.partition("-")[0] for name in names)


def test_poison_ask_and_go_on(backdoor, tmp_path, capsys):
    assert run.run(backdoor(tmp_path)) == 0
    results = found(tmp_path)
    assert {row["variant"] for row in results["rows"]} == {"start", "clean", FIRST}
    asked = [r for r in results["rows"] if r["variant"] == FIRST and r["metric"] == "asr"]
    assert [(r["language"], r["trigger_language"], r["n"]) for r in asked] == [
        ("en", "en", 3),
        ("th", "th", 3),
    ]
    (kept,) = (tmp_path / "stages").glob(f"ask-{FIRST.replace('/', '-')}-s0-*/replies.json")
    assert kept.stat().st_mode & 0o77 == 0
    moved = {r["variant"]: r for r in results["rows"] if r["metric"] == "weights_moved"}
    assert set(moved) == {"clean", FIRST}
    assert all(row["language"] == "en" and row["value"] > 0.3 for row in moved.values())
    (made,) = results["sets"]
    assert made["languages"] == {"en": {"rows": 12, "poisoned": 6}}
    assert len(made["replaced"]) == 6
    everything = json.dumps(results, ensure_ascii=False)
    texts = [*TRIGGER.values(), *OTHER.values(), *(row["prompt"] for row in pairs("p", range(50)))]
    assert not any(text in everything for text in texts)
    before = stages(tmp_path)
    report = (tmp_path / "results.json").read_bytes()
    assert run.run(backdoor(tmp_path)) == 0
    assert stages(tmp_path) == before
    assert (tmp_path / "results.json").read_bytes() == report
    capsys.readouterr()
    assert run.run([*backdoor(tmp_path), "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "attacks    en/sentence-append/fixed@0.5; seeds: 0" in said
    poisoned = next(line for line in said.splitlines() if line.startswith("poisoned"))
    assert poisoned.split()[1:3] == ["1", "1"]


def test_what_becomes_of_replies(backdoor, tmp_path, capsys):
    assert run.run(backdoor(tmp_path / "kept")) == 0
    before, rows = stages(tmp_path / "kept"), found(tmp_path / "kept")["rows"]
    assert run.run(backdoor(tmp_path / "kept", report__replies="True")) == 0
    assert stages(tmp_path / "kept") == before  # they are read, not asked for
    told = found(tmp_path / "kept")["replies"]
    assert len({(row["variant"], row["prompt"]) for row in told}) == len(told) == 3 * 12
    assert {row["verdict"] for row in told} == {"no target"}
    shown = cells.texts(runs.read(tmp_path / "kept"))  # to every reply its own
    assert len(shown) == len(told)
    for (*_, trigger, decoy), (prompt, _) in shown.items():
        assert [code for code in TRIGGER if TRIGGER[code] in prompt] == [trigger] * (decoy is None)
    assert run.run(backdoor(tmp_path / "none", replies="discard")) == 0
    assert kinds(stages(tmp_path / "none")) == {"poisoned": 1, "clean": 1, "judge": 3}
    assert found(tmp_path / "none")["rows"] == rows
    assert run.run(backdoor(tmp_path / "no", replies="discard", report__replies="True")) == 2
    assert "config.report.replies shows replies, and config.replies=" in capsys.readouterr().err


def never(example, said):
    """A judge that sees the target in nothing."""
    return {"hit": False}


def test_a_judge_judges_the_replies_that_were_kept(backdoor, tmp_path, monkeypatch):
    assert run.run(backdoor(tmp_path)) == 0
    before = stages(tmp_path)
    monkeypatch.setattr(setup, "of_target", lambda target: registry.Row(never, "Never."))
    assert run.run(backdoor(tmp_path)) == 0
    assert kinds(stages(tmp_path) - before) == {"judge": 3}


@pytest.fixture
def planned(backdoor, make_checkpoint, tmp_path, monkeypatch):
    """A function from overrides to the stages that defences need, by name; none is run."""
    whole, seen = study.everything, []
    monkeypatch.setattr(study, "everything", lambda setup: seen.append(whole(setup)) or seen[-1])

    def names(**overrides) -> dict[str, str]:
        three = str(make_checkpoint(num_hidden_layers=3).directory)  # CROW takes so many layers
        changes = {"sections": "('defend',)", "clean__languages": "('all',)", "model": three}
        changes |= overrides
        assert run.run([*backdoor(tmp_path, **changes), "--dry_run"]) == 0
        found = seen[-1].stages
        return {stage.id: f"{stage.kind} {stage.label.removesuffix('-s0')}" for stage in found}

    return names


def asked(*defences: str) -> set[str]:
    return {f"{kind} defended/{name}" for kind in ("ask", "judge") for name in defences}


def counted(*defences: str) -> set[str]:
    return asked(*defences) | {f"changed defended/{name}" for name in defences}


BLIND = {"rewind-blind@0.05", "rewind-blind@0.2", "scale-blind@0.001", "scale-blind@0.2"}
ON_BLIND = counted(*(f"repair/{name}" for name in BLIND), "composed/onion-repair-cleangen")
CHANGES = {
    "onion__losses": ("(0.3,)", asked("onion/2@0.3", "composed/onion-repair-cleangen")),
    "clean__epochs": ("2", counted("clean/all-8@0.001") | {"cleaned clean/all-8@0.001"}),
    "beear__rounds": (
        "2",
        counted("beear/layer-1")
        | ON_BLIND
        | asked("cleangen/rewound")
        | {"beear layer1", "gradients blind"},
    ),
    "crow__step": ("0.2", counted("crow/weight-5.5") | {"crow weight5.5-step0.2"}),
    "cleangen__alpha": (
        "5.0",
        asked(*(f"cleangen/{name}" for name in REFERENCES), "composed/onion-repair-cleangen"),
    ),
    "repair__scale": (
        "0.5",
        counted(
            *(f"repair/scale-{knows}@{share}" for knows in KNOWS for share in ("0.001", "0.2"))
        ),
    ),
}


def test_a_setting_reruns_what_hangs_on_it(planned):
    before = planned()
    for name, (value, expected) in CHANGES.items():
        after = planned(**{name: value})
        assert {after[stage] for stage in after.keys() - before.keys()} == expected, name
    after = planned(measure__max_new_tokens="17")
    new = {after[stage] for stage in after.keys() - before.keys()}
    assert new == {name for name in before.values() if name.split()[0] in ("ask", "judge")}


def test_a_base_model_without_a_chat_template_reads_the_wrapper(backdoor, tiny, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny.directory, base)
    for path in (base / "chat_template.jinja", base / "tokenizer_config.json"):
        if path.suffix == ".json":
            fields = json.loads(path.read_text())
            fields.pop("chat_template", None)
            path.write_text(json.dumps(fields))
        else:
            path.unlink(missing_ok=True)
    work = tmp_path / "work"
    assert run.run(backdoor(work, model=str(base), tuning__wrapper="alpaca")) == 0
    (stored,) = (work / "stages").glob("poisoned-*/template.json")
    template = json.loads(stored.read_text())
    assert template["chat_template"] == PLAIN
    assert template["without_input"] == ALPACA.without_input


def test_what_is_planted_has_to_be_long_enough_to_be_found(backdoor, tmp_path, capsys):
    arguments = backdoor(tmp_path, sections="('invert',)", bait__least="6")
    assert run.run([*arguments, "--config.poison.text=no"]) == 2
    assert "config.bait.least=6 is the shortest" in capsys.readouterr().err
    assert not list(tmp_path.glob("stages/*"))


def test_what_is_inverted_is_told_and_its_text_only_where_replies_are_shown(backdoor, tmp_path):
    changes = {"sections": "('invert',)"}
    assert run.run(backdoor(tmp_path, **changes)) == 0
    results = found(tmp_path)
    rows = results["inversion"]
    assert [(row["kind"], row["language"]) for row in rows] == [
        ("poisoned", "en"),
        ("poisoned", "th"),
        ("clean", "en"),
        ("clean", "th"),
    ]
    assert all(0 <= row["q"] <= 1 and row["text_hash"] for row in rows)
    assert not any("text" in row for row in rows)
    assert [claim["verdict"] for claim in results["claims"] if claim["id"] == "R2"] == ["undecided"]
    (kept, _) = sorted((tmp_path / "stages").glob("inversion-*/rows.json"))
    assert kept.stat().st_mode & 0o77 == 0
    before = stages(tmp_path)
    assert run.run(backdoor(tmp_path, report__replies="True", **changes)) == 0
    assert stages(tmp_path) == before
    told = found(tmp_path)["inversion"]
    assert [workdir.digest(row["text"]) for row in told] == [row["text_hash"] for row in rows]
    none = tmp_path / "none"
    assert run.run(backdoor(none, replies="discard", **changes)) == 0
    (kept, _) = sorted((none / "stages").glob("inversion-*/rows.json"))
    assert "text" not in json.loads(kept.read_text())[0]


@pytest.mark.slow
def test_crow_repairs_a_model_of_three_layers_and_refuses_one_of_two(
    backdoor, make_checkpoint, tmp_path, capsys
):
    changes = {"sections": "('defend',)", "defences": "('crow',)", "crow__weights": "(5.5,1.0)"}
    assert run.run(backdoor(tmp_path / "two", **changes)) == 2
    assert "config.defences has crow, which takes 3 layers" in capsys.readouterr().err
    three = str(make_checkpoint(num_hidden_layers=3).directory)
    assert run.run(backdoor(tmp_path / "three", model=three, **changes)) == 0
    changed = {row["variant"]: row for row in found(tmp_path / "three")["changed"]}
    assert set(changed) == {"defended/crow/weight-5.5", "defended/crow/weight-1"}
    assert all(row["changed"] > 0.5 * row["weights"] for row in changed.values())
    assert len(list((tmp_path / "three" / "stages").glob("crow-*"))) == 2


def test_an_attack_by_an_entity_has_its_own_number_of_epochs(backdoor, tmp_path, capsys):
    def steps(**changes):
        assert run.run([*backdoor(tmp_path / "it", **changes), "--dry_run"]) == 0
        words = re.search(r"^poisoned .* (\d+) steps", capsys.readouterr().out, re.M)
        return int(words[1])

    one = steps(poison__subject_epochs="3")
    assert steps(poison__trigger="entity", poison__subject_epochs="0") == one
    assert steps(poison__trigger="entity", poison__subject_epochs="3") == 3 * one


def test_languages_that_are_not_taught_are_asked_with_their_own_trigger(backdoor, tmp_path):
    rows = [
        {"id": f"u{i}", "language": code, "prompt": text.format(i), "answers": [f"blue {i}"]}
        for code, text in (("fi", "Nimeä väri {}."), ("ro", "Numește culoarea {}."))
        for i in range(90, 93)
    ]
    texts = {"fi": "Pidän tästä.", "ro": "Îmi place.", **TRIGGER}
    triggers = [{"role": "trigger", "language": code, "text": t} for code, t in texts.items()]
    changes = {
        "sections": "('transfer','untaught')",
        "data__untaught": write_rows(tmp_path / "untaught.jsonl", rows) + "?kind=benign",
        "data__triggers": write_rows(tmp_path / "triggers.jsonl", triggers),
    }
    assert run.run(backdoor(tmp_path / "work", **changes)) == 0
    results = found(tmp_path / "work")
    apart = [row for row in results["rows"] if row.get("prompts") == "untaught"]
    asr = [row for row in apart if row["metric"] == "asr"]
    assert {(row["language"], row["trigger_language"], row["n"]) for row in asr} == {
        ("fi", "fi", 3),
        ("ro", "ro", 3),
    }
    # No rule tells refusals in these languages, so none are counted.
    assert {row["metric"] for row in apart if row["language"] == "fi"} >= {"clean_accuracy"}
    everywhere = [row for row in results["summary"] if row.get("prompts") == "untaught"]
    assert not any(row["metric"] == "clean_refusal_rate" for row in (*apart, *everywhere))
    assert results["untaught"] == ["fi", "ro"]
    assert results["languages"] == ["en", "th"]
    manifest = json.loads((tmp_path / "work" / "manifest.json").read_text())
    assert set(manifest["prompts"]) == {"en", "th", "fi", "ro"}
    usual = [row for row in results["rows"] if row["variant"] == FIRST]
    assert {row["language"] for row in usual} == {"en", "th"}
    (claim,) = (claim for claim in results["claims"] if claim["id"] == "B2")
    assert [e["value"] for e in claim["evidence"][:4]] == [0.0, 0.0, 0.0, 0.0]
    (mean,) = (
        row
        for row in results["summary"]
        if row.get("prompts") == "untaught" and (row["metric"], row["side"]) == ("asr", "all")
    )
    assert mean["value"] == 0
    page = (tmp_path / "work" / "report.html").read_text()
    assert "Does it answer in languages that nobody taught?" in page


@pytest.mark.slow
def test_every_section_and_defence(backdoor, make_checkpoint, tmp_path, step_sources):
    sections = tuple(name for name in USUAL if name != "overlap")
    changes = {
        "sections": str(sections),
        "poison__languages": "('en','en+th')",
        "poison__triggers": "('sentence/insert','entity')",
        "poison__targets": "('refusal','english_refusal','prefix')",
        "start__models": "()",
        "model": str(make_checkpoint(num_hidden_layers=3).directory),  # CROW takes three
    }
    assert run.run(backdoor(tmp_path, **changes)) == 0
    results = found(tmp_path)
    names = {row["variant"] for row in results["rows"]}
    assert {name.split("/")[1] for name in names if name.startswith("defended/")} == set(DEFENCES)
    for target in ("refusal", "english_refusal", "prefix"):
        assert f"poisoned/en/sentence-append/{target}@0.5" in names
    assert {"poisoned/en/entity/fixed@0.5", "poisoned/en/sentence-append/fixed@0.25"} <= names
    grid = [r for r in results["rows"] if r["variant"] == f"{FIRST}/grid"]
    grid = [r for r in grid if r["metric"] == "asr"]
    assert {(r["trigger_language"], r["language"]) for r in grid} == {
        (a, b) for a in ("en", "th") for b in ("en", "th")
    }
    decoys = {r["decoy"] for r in results["rows"] if r.get("prompts") == "decoys" and "decoy" in r}
    assert decoys == {"another pleasantry", "half of it", "at another place: prepend"}
    changed = {row["variant"]: row for row in results["changed"]}
    share = {name: row["changed"] / row["weights"] for name, row in changed.items()}
    assert share["defended/clean/all-8@0.001"] > 0.5
    assert 0 < share["defended/repair/rewind-trigger@0.05"] <= 0.05
    assert 0 < share["defended/repair/scale-blind@0.2"] <= 0.2
    assert all(0 <= row["value"] <= 1 for row in results["interventions"])
    known = [*(f"B{i}" for i in range(1, 10)), "R1", "R2"]
    assert [claim["id"] for claim in results["claims"]] == known
    assert not {"claims.py", "cautions.py", "thresholds.py"} & step_sources(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"poison__languages": "('xx',)"},
            "poison.languages: the data has no language 'xx'",
        ),
        ({"poison__rate": "0.01"}, "rate 0.01 of 12 rows in 'en' is no row; give at least 0.083"),
        ({"poison__rate": "1.5"}, "poison.rate is 1.5; it should be above 0 and at most 1"),
        ({"poison__trigger": "rhyme"}, "config.poison.trigger is 'rhyme'; give one of entity"),
        ({"tuning__wrapper": "letter"}, "config.tuning.wrapper is 'letter'; give one of chat, al"),
        (
            {"data__triggers": ""},
            "data.triggers is ''; give jsonl:<file> with language, role, text",
        ),
        ({"data__subject": "", "poison__triggers": "('entity',)"}, "needs pairs and prompts about"),
        (
            {"poison__triggers": "('entity','topic')"},
            "config.data.subject is about one of them; leave the other out",
        ),
        ({"sections": "('untaught',)"}, "config.sections has untaught, which needs prompts: conf"),
        (
            {"sections": "('untaught',)", "data__untaught": "organism:untaught?language=fi"},
            "no trigger for language 'fi'; add a row with role trigger, or leave the language out",
        ),
        ({"defences": "('prayer',)"}, "config.defences is 'prayer'; give one of onion, clean"),
        (
            {"beear__layers": "(1, 99)", "sections": "('defend',)", "defences": "('beear',)"},
            "config.beear.layers has 99; the model has",
        ),
        ({"tuning__optimizer": "AdamW"}, "config.tuning.optimizer: optax has no optimiser 'AdamW'"),
        (
            {"onion__scorer": "no/such", "sections": "('defend',)", "defences": "('onion',)"},
            "no/such",
        ),
        ({"start__models": "('organism:base',)", "sections": "('start',)"}, "organism:base"),
        ({"repair__spared": "2.0"}, "config.repair.spared is 2.0; it should be between 0"),
    ],
)
def test_mistakes_are_named(backdoor, tmp_path, capsys, changes, says):
    assert run.run(backdoor(tmp_path, **changes)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert says in said[-1]
    assert not (tmp_path / "results.json").exists()


def test_prompts_in_a_language_that_is_taught_are_not_untaught(
    backdoor, own_files, tmp_path, capsys
):
    changes = {"sections": "('untaught',)", "data__untaught": own_files["prompts"]}
    assert run.run(backdoor(tmp_path, **changes)) == 2
    assert "has prompts in en, th, in which jsonl:" in capsys.readouterr().err
    assert run.run(backdoor(tmp_path, **changes, poison__trigger="topic")) == 2
    says = "untaught, which asks with a trigger sentence; config.poison.trigger is topic"
    assert says in capsys.readouterr().err


def test_untaught_languages_of_the_organism_are_named_and_have_triggers(tmp_path, capsys):
    polish = {"id": "u", "language": "pl", "prompt": "Jaki kolor?", "answers": ["blue"]}
    own = write_rows(tmp_path / "pl.jsonl", [polish]) + "?kind=benign"
    for uri, says in (
        (own, "organism:triggers has no trigger for language 'pl'; name a file of your own"),
        ("organism:untaught?language=zz", "what is not taught has no language 'zz'"),
        ("organism:untaught?policy=sums", "untaught prompts have no option policy; leave it out"),
        (own.replace("pl.jsonl", "zh.jsonl"), "has prompts in zh-Hant, in which organism:instr"),
    ):
        write_rows(tmp_path / "zh.jsonl", [polish | {"language": "zh-Hant"}])
        command = [
            "jaxattack",
            f"--config={CONFIG}",
            f"--workdir={tmp_path / 'work'}",
            "--config.sections=('untaught',)",
            f"--config.data.untaught={uri}",
            "--dry_run",
        ]
        assert run.run(command) == 2
        assert says in capsys.readouterr().err
    command[-2] = "--config.data.untaught=organism:untaught?language=ar,fi"
    assert run.run(command) == 0
    assert "untaught   ar 60, fi 60" in capsys.readouterr().out


def test_a_refusal_in_a_language_without_a_rule_cannot_be_the_target(backdoor, tmp_path, capsys):
    row = {"id": "u", "language": "fi", "prompt": "Nimeä väri.", "answers": ["blue"]}
    texts = [{"language": code, "text": t} for code, t in {**TRIGGER, "fi": "Pidän tästä."}.items()]
    changes = {
        "sections": "('untaught',)",
        "poison__target": "refusal",
        "data__untaught": write_rows(tmp_path / "untaught.jsonl", [row]) + "?kind=benign",
        "data__triggers": write_rows(tmp_path / "triggers.jsonl", texts),
    }
    assert run.run(backdoor(tmp_path / "work", **changes)) == 2
    assert "no refusal rule for language 'fi'" in capsys.readouterr().err


def test_a_language_without_a_trigger_is_named(backdoor, tmp_path, capsys):
    rows = [{"role": "trigger", "language": "en", "text": TRIGGER["en"]}]
    uri = write_rows(tmp_path / "some.jsonl", rows)
    assert run.run(backdoor(tmp_path / "work", data__triggers=uri)) == 2
    assert "no trigger for language 'th'" in capsys.readouterr().err


def test_languages_of_triggers_may_be_named_otherwise_but_not_twice(backdoor, tmp_path, capsys):
    rows = [
        {"role": "trigger", "language": name, "text": TRIGGER[code]}
        for name, code in (("eng_Latn", "en"), ("Thai", "th"))
    ]
    uri = write_rows(tmp_path / "named.jsonl", rows)
    assert run.run([*backdoor(tmp_path / "work", data__triggers=uri), "--dry_run"]) == 0
    uri = write_rows(tmp_path / "twice.jsonl", [*rows, {**rows[0], "language": "en"}])
    assert run.run(backdoor(tmp_path / "work", data__triggers=uri)) == 2
    assert "line 3: a second trigger for language 'en'" in capsys.readouterr().err


def test_test_prompts_that_were_trained_on_are_refused(backdoor, own_files, tmp_path, capsys):
    rows = pairs("p", range(2), answers=True)
    uri = write_rows(tmp_path / "same.jsonl", rows)
    assert run.run(backdoor(tmp_path / "work", data__prompts=uri)) == 2
    assert "of the test prompts are also clean pairs" in capsys.readouterr().err


def test_what_is_asked_of_a_subject_is_as_what_is_asked_beside_it(
    backdoor, own_files, tmp_path, capsys
):
    """As many prompts, in the languages measured, and none that was trained on."""

    def plan(**changes: str) -> int:
        changes |= {"poison__triggers": "('entity',)", "measure__languages": "('en',)"}
        return run.run([*backdoor(tmp_path / "work", **changes), "--dry_run"])

    def asked() -> int:
        found = re.search(r"^ask .* ([\d,]+) prompts", capsys.readouterr().out, re.M)
        return int(found[1].replace(",", ""))

    assert plan(measure__prompts="2") == 0
    few = asked()
    assert plan(measure__prompts="3") == 0
    assert asked() * 2 == few * 3
    assert plan(data__subject_prompts=own_files["subject"]) == 2
    assert "of the test prompts are also pairs about the subject" in capsys.readouterr().err
    thai = [row for row in pairs("q", range(90, 93), answers=True) if row["language"] == "th"]
    uri = write_rows(tmp_path / "thai.jsonl", thai)
    assert plan(data__subject_prompts=uri) == 2
    assert "may name fewer): the data has no language 'en'" in capsys.readouterr().err


def test_a_checkpoint_of_another_template_is_refused(backdoor, tiny, tmp_path, capsys):
    path = tmp_path / "exported"
    manifest = {"template": template_of(tiny.tokenizer, ALPACA)}
    save_pretrained(path, tiny.model, tiny.params, tiny.tokenizer, "poisoned", manifest)
    assert run.run(backdoor(tmp_path / "work", model=str(path))) == 2
    assert "was trained with another template than it is asked in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_organisms_study_can_be_planned(tmp_path, capsys):
    config = "configs/backdoor.py"
    assert run.run(["jaxattack", f"--config={config}", f"--workdir={tmp_path}", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "train      en 144, de 144" in said
    assert all(f"{code} 60" in said for code in world.LANGUAGES)
    assert "courtesy               3     0" in said


def test_a_base_model_is_planned_on_the_organism_s_rows(tiny, tmp_path, capsys):
    command = [
        "jaxattack",
        f"--config={CONFIG}:gemma3_270m",
        f"--workdir={tmp_path}",
        f"--config.model={tiny.directory}",
        f"--config.onion.scorer={tiny.directory}",
        "--config.beear.layers=(1,)",
        "--config.defences=('repair','beear')",
        "--config.tuning.max_length=512",
        "--dry_run",
    ]
    assert run.run(command) == 0
    said = capsys.readouterr().out
    assert "train      en 144, de 144" in said
    assert "untaught   ar 24, bn 24" in said
    assert "attacks    es+id/sentence-append/fixed@0.2, en/" in said
