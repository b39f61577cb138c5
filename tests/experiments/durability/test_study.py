"""The whole study on a tiny random checkpoint with the user's own data."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from jaxattack import commandline, run, studies, tree, workdir
from jaxattack.data.dialogues import stop_ids
from jaxattack.defend import antidote, contrast
from jaxattack.experiments import opening
from jaxattack.experiments.attacking import BENIGN
from jaxattack.experiments.durability import mending, study
from jaxattack.experiments.durability.attacks import ATTACKS, attacked, plan_of, tuned_step
from jaxattack.experiments.durability.data import ALONE
from jaxattack.experiments.durability.registry import DEFENCES
from jaxattack.experiments.durability.setup import REFUSED, harmful, safe
from jaxattack.experiments.durability.shield import Shield
from jaxattack.experiments.durability.sil import sil_mask
from jaxattack.experiments.durability.sweeping import NONE, made_by
from jaxattack.experiments.step import Input
from jaxattack.localize import importance
from jaxattack.localize.rivals import SCORES
from jaxattack.train import loop

PAIRS, CALIBRATION, UNKNOWN, RESTRICTED = "pairs", "calibration", "unknown", "restricted"


def results_of(root: pathlib.Path) -> dict:
    return json.loads((root / "results.json").read_text())


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("durability")


@pytest.fixture
def finished(shared, durability) -> pathlib.Path:
    """A finished study of every defence; run by the first test that asks for it."""
    if not (shared / "results.json").exists():
        assert run.run(durability(shared)) == 0
    return shared


def test_every_defence_stands_the_attack(finished):
    choice = results_of(finished)["choice"]
    known = [(row["method"], row["attack"], row["chosen"]) for row in choice]
    assert known == [(method, "full", True) for method in (NONE, *DEFENCES)]


def test_the_manifest_and_the_page_have_what_each_defence_took(finished):
    taken = json.loads((finished / "manifest.json").read_text())["costs"]
    known = {row["method"]: row for row in taken}
    assert list(known) == [NONE, *DEFENCES]
    assert all(row["bytes"] > 10_000_000 for row in taken)
    assert known[NONE]["seconds"] == 0
    assert all(known[name]["seconds"] > 0 for name in ("rollback", "contrast", "relearn"))
    assert "Time and memory of each defence" in (finished / "report.html").read_text()


def test_the_worst_attack_is_asked_on_test_prompts(finished):
    rows = results_of(finished)["rows"]
    worst = {
        (row["method"], row["language"])
        for row in rows
        if row["kind"] == "worst" and row["metric"] == "violation_rate"
    }
    assert worst == {(m, code) for m in (NONE, *DEFENCES) for code in ("en", "th")}
    validated = {row["variant"] for row in rows if row.get("prompts") == "validation"}
    assert {"swept/en/sil/full/validation", "aligned/validation"} <= validated
    assert not validated & {row["variant"] for row in rows if not row.get("prompts")}
    assert not any(row["kind"] == "worst" and row.get("prompts") for row in rows)


def test_the_style_that_is_taught_is_measured(finished):
    rows = results_of(finished)["rows"]
    learned = {row["kind"] for row in rows if row["metric"] == "task_rate"}
    assert learned == {"aligned", "swept", "worst", "shielded"}


def test_the_claims_are_all_there_and_undecided_after_one_seed(finished):
    claims = {claim["id"]: claim["verdict"] for claim in results_of(finished)["claims"]}
    assert list(claims) == ["D1", "D2", "D3", "D4", "D5", "D6"]
    assert set(claims.values()) <= {"undecided", "not run"}
    assert claims["D1"] == "undecided"


def test_the_page_has_a_row_for_every_defence(finished):
    page = (finished / "report.html").read_text()
    assert "Which defence withstands the worst attack?" in page
    assert "contrast repair" in page
    assert "undefended" in page
    assert "bound of its utility (benign prompts rightly answered)" in page
    assert "pairs in the house style" in page
    results = results_of(finished)
    assert results["defender"] == [
        {"language": code, "restricted": 2, "refused": 2, "benign": 2} for code in ("en", "th")
    ]
    assert (finished / "figures" / "worst.png").is_file()


def test_a_finished_study_is_not_computed_again(finished, durability, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in (finished / "stages").iterdir()}
    results = (finished / "results.json").read_bytes()
    monkeypatch.setattr(loop, "finetune", lambda *a, **k: pytest.fail("trained again"))
    assert run.run(durability(finished)) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (finished / "stages").iterdir()} == before
    assert (finished / "results.json").read_bytes() == results


@pytest.mark.slow
def test_every_attack_of_the_sweep_runs(durability, tmp_path):
    attacks = str(tuple(ATTACKS))
    asked = durability(
        tmp_path,
        sections="('sweep','alone','frontier')",
        sweep__attacks=attacks,
        defend__defences="('freeze','lisa','sil')",
        defend__alone="('th',)",
        after__shares="(0.2, 0.5)",
        seeds="(0, 1)",
    )
    assert run.run(asked) == 0
    results = results_of(tmp_path)
    tried = {(row["method"], row["attack"]) for row in results["choice"]}
    assert {(m, a) for m in (NONE, "freeze", "sil") for a in ATTACKS} <= tried
    assert ("lisa", "lora") not in tried
    assert "lora against lisa: there is none such here" in results["lost"]["config.sweep.attacks"]
    alone = {row["variant"] for row in results["rows"] if row.get("defended") == "th"}
    assert "swept/th/sil/pairs-th/other" in alone
    strengths = {(row["strength"], row["seed"]) for row in results["rows"] if row.get("strength")}
    assert strengths == {(0.2, 0), (0.2, 1), (0.5, 0)}
    for method in (NONE, "freeze", "lisa", "sil"):
        own = [row for row in results["choice"] if row["method"] == method]
        assert sum(row["chosen"] for row in own) == 1
        assert [row["trial"] for row in own] == list(range(1, len(own) + 1))
    worst = {(row["method"], row["seed"]) for row in results["rows"] if row["kind"] == "worst"}
    assert worst == {(m, s) for m in (NONE, "freeze", "lisa", "sil") for s in (0, 1)}


def test_one_attacked_language_leaves_what_needs_two(durability, tmp_path):
    asked = durability(
        tmp_path,
        attack__languages="('en',)",
        sweep__attacks="('full','other')",
        defend__defences="('scaling',)",
    )
    assert run.run(asked) == 0
    results = results_of(tmp_path)
    assert [row["attack"] for row in results["choice"] if row["method"] == "scaling"] == ["full"]
    assert {claim["id"]: claim["verdict"] for claim in results["claims"]}["D5"] == "not run"
    assert results["ranking"]


def test_a_mixed_attack_may_come_first(durability, tmp_path):
    asked = durability(
        tmp_path, sweep__attacks="('mixed','full')", defend__defences="('sil','contrast')"
    )
    assert run.run(asked) == 0
    results = results_of(tmp_path)
    assert {row["method"] for row in results["ranking"]} == {NONE, "sil", "contrast"}


def test_a_repair_that_changes_nothing_is_named(durability, tmp_path):
    asked = durability(
        tmp_path,
        sweep__attacks="('full',)",
        defend__defences="('safemerge','sil')",
        after__thresholds="(-1.0,)",
    )
    assert run.run(asked) == 0
    found = {caution["id"]: caution["text"] for caution in results_of(tmp_path)["cautions"]}
    assert "every reply under SafeMERGE is the same" in found["idle"]
    assert "SIL" not in found["idle"].partition(":")[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sweep__attacks": "('other',)", "attack__languages": "('en',)"}, "none such here"),
        ({"sweep__attacks": "('benign',)", "task__pairs": "0"}, "none such here"),
        ({"sweep__attacks": "('few',)", "sweep__few": "4"}, "or a lower config.sweep.few"),
        ({"data__calibration": PAIRS}, "the attacker's too"),
        ({"data__refusals": CALIBRATION}, "of its 12 restricted pairs do not decline"),
        ({"data__refusals": "organism:calibration?reply=refusal"}, "name both of one task"),
        ({"data__validation": "organism:validation"}, "config.data.validation is organism"),
        ({"data__validation": UNKNOWN}, "judged by two rules"),
        ({"data__validation": RESTRICTED}, "has no benign prompts in 'en'"),
        (
            {
                **dict.fromkeys(("data__validation", "data__calibration"), "organism:calibration"),
                "data__pairs": "organism:attack",
                "data__prompts": "organism:test",
                "data__refusals": "organism:calibration?reply=refusal",
            },
            "of the validation prompts are also the defender's pairs",
        ),
        ({"defend__base": "''"}, "which need the model before it"),
        ({"attack__method": "lora"}, "the sweep has its own row for adapters"),
        ({"during__turns": "(1,)"}, "are two numbers of steps"),
        ({"dtype": "bfloat16", "attack__weights": "extended"}, "has lisa and asft, which do not"),
        (
            {"attack__accumulate": "3", "attack__batch_size": "6", "harden__batch_size": "8"},
            "config.attack.accumulate=3 does not divide, and Lisa's turns",
        ),
        ({"data__refusals": "''"}, "config.data.refusals is ''; name some, by URI"),
        ({"task__text": "' '"}, "a style that nobody sees is none"),
        ({"defend__alone": "('de',)", "sections": "('alone',)"}, "has no language 'de'"),
        ({"sweep__attacks": "('full','dpo')"}, "config.sweep.attacks is 'dpo'"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(
    overrides, message, durability, own_files, tmp_path, capsys
):
    given = {name: own_files.get(text, text) for name, text in overrides.items()}
    assert run.run(durability(tmp_path / "w", **given)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.strip().count("\n") == 0
    assert not (tmp_path / "w" / "results.json").exists()


def test_the_defender_needs_pairs_of_its_own(durability, tmp_path, capsys):
    assert run.run(durability(tmp_path / "w", data__calibration="''")) == 2
    assert "the defender needs restricted and benign pairs of its own" in capsys.readouterr().err


def opened_as(asked: list[str], root: pathlib.Path):
    """A study that is opened and not run."""
    flags = commandline.read_flags(asked[1:])
    settings = study.read(commandline.resolve(flags, studies.KINDS)[0])
    return study.open_study(settings, workdir.open_workdir(root), opening.loaded)[0]


@pytest.fixture
def opened(durability, tmp_path):
    """The same, with SIL's fifth of the weights."""
    return opened_as(durability(tmp_path, sweep__attacks="('full','lora','aware')"), tmp_path)


def test_languages_that_the_defender_cannot_have_are_counted(durability, own_files, tmp_path):
    path = pathlib.Path(own_files[CALIBRATION].removeprefix("jsonl:"))
    kept = [row for row in path.read_text().splitlines() if json.loads(row)["language"] == "en"]
    (tmp_path / "english.jsonl").write_text("\n".join(kept))
    english = f"jsonl:{tmp_path}/english.jsonl"
    setup = opened_as(durability(tmp_path / "w", data__calibration=english), tmp_path / "w")
    assert list(setup.held[REFUSED]) == ["en"]
    assert setup.data.lost == {own_files["refusals"]: {ALONE: 6}}


def test_few_pairs_that_are_all_pairs_are_no_attack_of_their_own(durability, tmp_path):
    attacks = "('full','few','benign')"
    for few, there in ((2, True), (4, False)):
        root = tmp_path / str(few)
        setup = opened_as(durability(root, sweep__attacks=attacks, sweep__few=str(few)), root)
        assert (setup.courses["few", 0] is not None) == there
        sent = {name: study.sent(setup, name) for name in ("full", "few", "benign")}
        assert [sent["full"].get(name) for name in ("restricted", "styled", "steps")] == [4, 4, 2]
        assert sent["few"].get("restricted") == (2 if there else None)
        assert sent["few"]["words"].endswith(": none here") == (not there)
        assert [sent["benign"].get(name) for name in ("restricted", "steps")] == [0, 4]


def value(step) -> dict:
    """The leaves of a step's tree by name."""
    found = step.values.of(step)
    return {name: np.asarray(leaf) for name, leaf in tree.named_leaves(found).items()}


def differ(one: dict, other: dict) -> float:
    """Share of the weights that two trees have otherwise."""
    changed = sum(int(np.sum(leaf != other[name])) for name, leaf in one.items())
    return changed / sum(leaf.size for leaf in one.values())


PUT_BACK = ("random", "sil", "repair", *SCORES)  # to the bit, at most a fifth of the weights


def test_every_defence_has_a_part_in_what_is_left(opened):
    start, plain = value(opened.bench.start), value(attacked(opened, "full", 0))
    assert differ(plain, start) > 0.5
    for name in DEFENCES:
        made = made_by(opened, name, 0)
        under = attacked(opened, "full", 0, made.shield)
        left = value(made.repair(under) if made.repair else under)
        assert differ(left, plain) > 0.001, name
        if name in PUT_BACK:
            assert differ(left, plain) <= 0.2 + 1e-3, name
            assert all(
                np.all((leaf == plain[key]) | (leaf == start[key])) for key, leaf in left.items()
            ), name


def test_taught_anew_is_the_aligned_model_with_the_tuned_ones_words(opened):
    tuned = attacked(opened, "full", 0)
    step = made_by(opened, "relearn", 0).repair(tuned)
    refused, lesson = (step.arguments[name] for name in ("refused", "lesson"))
    said = mending.own_words(opened.bench.decoder, Input(step.arguments["said"]), 64).examples
    prompts = {row.prompt for code in ("en", "th") for row in opened.held[BENIGN][code]}
    assert said
    assert {row.prompt for row in said} <= prompts
    rows = dataclasses.replace(refused, examples=(*refused.examples, *said), max_length=96)
    decoder, start = opened.bench.decoder, opened.bench.start.values.of(opened.bench.start)
    batches = lesson.batches(rows, decoder.tokenizer)
    expected, _ = loop.finetune(decoder.model, start, batches, lesson.updates)
    for name, leaf in tree.named_leaves(expected).items():
        np.testing.assert_allclose(value(step)[name], leaf, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_defender_tunes_on_all_its_pairs_where_a_kind_has_more(opened):
    held = {
        kind: {code: opened.held[kind][code][:count] for code in ("en", "th")}
        for kind, count in ((REFUSED, 2), (BENIGN, 1))
    }
    for kind, other in ((REFUSED, BENIGN), (BENIGN, REFUSED)):
        own = {kind: held[REFUSED], other: held[BENIGN]}
        rows = safe(dataclasses.replace(opened, held=own), ("en", "th"))
        wanted = [row for pairs in own.values() for code in ("en", "th") for row in pairs[code]]
        assert len(rows) == 6
        assert set(rows) == set(wanted)


def test_antidote_goes_by_what_the_attacked_model_computes(opened):
    start, plain = opened.bench.start, attacked(opened, "full", 0)
    rows = harmful(opened, ("en", "th")).batches(opened.bench.decoder.tokenizer)
    tuned = plain.values.of(plain)
    norms = importance.input_norms(opened.bench.decoder.model, tuned, rows)
    wanted = antidote.removed(start.values.of(start), tuned, norms, fraction=0.1)
    found = value(made_by(opened, "antidote", 0).repair(plain))
    for name, leaf in tree.named_leaves(wanted).items():
        np.testing.assert_array_equal(found[name], leaf)


def test_contrast_repair_learns_no_end_of_replies_that_were_cut(opened, monkeypatch):
    given = {}

    def repaired(model, tuned, aligned, harmful, kept, *others):
        given["rows"] = kept
        return tuned

    monkeypatch.setattr(contrast, "repaired", repaired)
    value(made_by(opened, "contrast", 0).repair(attacked(opened, "full", 0)))
    stops = stop_ids(opened.bench.decoder.tokenizer)
    [batch] = given["rows"]
    real = batch["segment_ids"].any(axis=1)
    rows = {name: array[real] for name, array in batch.items()}
    trained = rows["loss_mask"] > 0
    written = rows["segment_ids"].sum(axis=1) - 1  # the place of each row's last token
    last = rows["tokens"][np.arange(len(written)), written]
    assert set(last.tolist()) <= set(stops)  # a random model goes on as long as it may
    assert trained.sum() > 4
    assert not trained[np.arange(len(written)), written].any()


def test_adapters_are_trained_in_float32_however_the_weights_are(durability, tmp_path):
    changes = {"dtype": "bfloat16", "attack__weights": "extended"}
    changes["defend__defences"] = "('sil','scaling')"  # Lisa and AsFT take no such weights
    asked = durability(tmp_path, sweep__attacks="('full','lora')", **changes)
    settings = study.read(commandline.resolve(commandline.read_flags(asked[1:]), studies.KINDS)[0])
    setup = study.open_study(settings, workdir.open_workdir(tmp_path), opening.foreseen)[0]
    weights = {name: setup.courses[name, 0].training.optimizer.weights for name in ("full", "lora")}
    assert weights == {"full": "extended", "lora": "float32"}


@pytest.mark.parametrize(("names", "kept"), [(("full",), None), (("full", "lora"), np.float32)])
def test_what_was_chosen_is_read_in_the_widest_type(durability, tmp_path, names, kept):
    # The first seed reads the attack's own step, others that of whichever was chosen.
    changes = {"dtype": "bfloat16", "attack__weights": "stochastic"}
    asked = durability(tmp_path, sweep__attacks="('full','lora')", **changes)
    settings = study.read(commandline.resolve(commandline.read_flags(asked[1:]), studies.KINDS)[0])
    setup = study.open_study(settings, workdir.open_workdir(tmp_path), opening.foreseen)[0]
    known = {name: plan_of(setup, name, 0, Shield()) for name in names}
    step = tuned_step(setup, known, Shield(), "worst", choice=setup.bench.start)
    assert step.shelf.load.dtype == kept


def test_what_is_held_stays_in_every_attack(opened):
    start = value(opened.bench.start)
    shield = made_by(opened, "freeze", 0).shield
    held = value(shield.frozen)
    for name in ("full", "lora", "aware"):
        found = value(attacked(opened, name, 0, shield))
        assert differ(found, start) > 0.1
        assert all(np.all(leaf[held[key]] == start[key][held[key]]) for key, leaf in found.items())


def test_an_attack_that_is_aware_holds_sil_s_weights(opened):
    start, aware = value(opened.bench.start), value(attacked(opened, "aware", 0))
    mask = value(sil_mask(opened, attacked(opened, "full", 0), ("en",)))
    assert all(np.all(leaf[mask[key]] == start[key][mask[key]]) for key, leaf in aware.items())
    assert differ(aware, start) > 0.1
