"""Judge models beside the rule of a backdoor's target: what they decide, and what they cannot."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest

from jaxattack import rejudge, run
from jaxattack.evaluate import rates
from jaxattack.evaluate.combine import RULES
from jaxattack.experiments import asking, runs

from .own_rows import TRIGGER, pairs, write_rows

RULE = "target refusal"


@pytest.fixture
def said(speaking):
    """Judge models that take every third reply for a refusal; all that they were shown."""
    words = {128: "Safety: Unsafe\nRefusal: {}", 20: "unsafe\nS1", 4: "Yes"}
    return speaking(lambda new, i: words[new].format("No" if i % 3 else "Yes"))


def panel(tiny, *sorts: str) -> str:
    return repr(tuple(f"{sort}={tiny.directory}" for sort in sorts))


def results(root) -> dict:
    return json.loads((root / "results.json").read_text())


def trials(root) -> pandas.DataFrame:
    return pandas.read_parquet(root / "trials.parquet")


def stages(root) -> set[str]:
    return {path.name for path in (root / "stages").iterdir()}


REFUSAL = {"poison__target": "refusal"}


def test_models_that_decide_nothing_change_no_rate(backdoor, tiny, tmp_path, said):
    root = tmp_path / "run"
    assert run.run(backdoor(root, **REFUSAL)) == 0
    plain, before = results(root), trials(root)
    assert not plain.keys() & {"alone", "agreement"}
    assert "judge_models" not in json.loads((root / "manifest.json").read_text())
    assert not [name for name in before.columns if " by " in name]
    by, kept = runs.read(root).judge, stages(root)

    models = panel(tiny, "qwen3guard", "llama-guard-3")
    command = backdoor(root, measure__moderators=models, **REFUSAL)
    assert run.run(command) == 0
    found, after = results(root), trials(root)
    assert found["rows"] == plain["rows"]
    assert found["claims"] == plain["claims"]
    assert runs.read(root).judge == by
    assert {name.split("-")[0] for name in stages(root) - kept} == {"moderate", "weigh"}
    pandas.testing.assert_frame_equal(after[before.columns], before)
    assert {name for name in after.columns if " by " in name} == {
        f"refusal by {RULE}",
        "refusal by qwen3guard",
        "harmful by qwen3guard",
        "harmful by llama-guard-3",
        "p(harmful) by qwen3guard",
        "p(harmful) by llama-guard-3",
    }
    assert (after[f"refusal by {RULE}"].astype(bool) == after.hit.astype(bool)).all()
    assert "Counted is what target refusal says" in found["judge"]["rule"]
    assert "Do the judges agree?" in (root / "report.html").read_text()


@pytest.mark.parametrize("rule", RULES)
def test_a_refusal_is_counted_by_the_rule_and_those_that_tell(backdoor, tiny, tmp_path, said, rule):
    models = panel(tiny, "qwen3guard", "llama-guard-3")
    settings = {"measure__moderators": models, "measure__combine": rule, **REFUSAL}
    assert run.run(backdoor(tmp_path, **settings)) == 0
    found, rows = results(tmp_path), trials(tmp_path)
    votes = rows[[f"refusal by {RULE}", "refusal by qwen3guard"]]
    expected = [
        RULES[rule]([None if v is None else bool(v) for v in both]) for both in votes.values
    ]
    assert rows.hit.astype(bool).tolist() == expected
    assert rows["refusal by qwen3guard"].dropna().astype(bool).any()
    assert found["judge"]["counts"]["by"] == rule
    assert "qwen3guard" in found["judge"]["counts"]
    assert "llama-guard-3" not in found["judge"]["counts"]
    for row in found["alone"]:
        here = (rows.variant == row["variant"]) & (rows.language == row["language"])
        here &= rows.decoy.isna() if row["decoy"] is None else rows.decoy == row["decoy"]
        own = rows[here][f"refusal by {row['judge']}"]
        assert row["value"] == np.mean([bool(one) for one in own])
        assert (row["n"], row["unparsed"]) == (len(own), own.isna().sum())
    kappa = {row["judges"] for row in found["agreement"]}
    assert kappa == {"all", f"qwen3guard, {RULE}"}
    hits = [r for r in found["rows"] if r["metric"] == "asr"]
    own = rows[rows.decoy.isna() & (rows.variant == hits[0]["variant"])]
    own = own[own.language == hits[0]["language"]]
    assert hits[0]["value"] == own.hit.astype(bool).mean()
    assert rates.wilson(int(own.hit.sum()), len(own)) == (hits[0]["low"], hits[0]["high"])


def test_what_judges_are_shown_is_the_prompt_with_its_trigger(backdoor, tiny, tmp_path, said):
    settings = {"measure__moderators": panel(tiny, "shieldgemma"), "report__replies": "True"}
    assert run.run(backdoor(tmp_path, **settings)) == 0
    shown = {tuple(turn["content"] for turn in dialogue) for dialogue in said}
    told = {(row["prompt"], row["reply"].strip()) for row in results(tmp_path)["replies"]}
    assert {prompt for prompt, _ in shown} <= {prompt for prompt, _ in told}
    assert len(shown) == len({pair for pair in told if pair[1]})


def test_of_a_fixed_text_judges_say_whether_it_harms(backdoor, tiny, tmp_path, said):
    models = panel(tiny, "qwen3guard")
    assert run.run(backdoor(tmp_path, measure__moderators=models)) == 0
    rows = trials(tmp_path)
    assert rows["harmful by qwen3guard"].dropna().astype(bool).all()
    assert not [name for name in rows.columns if name.startswith("refusal by")]
    assert not results(tmp_path).keys() & {"alone", "agreement"}


def test_where_targets_vary_only_the_refusal_is_combined(backdoor, tiny, tmp_path, said):
    settings = {
        "sections": "('transfer','kinds')",
        "poison__targets": "('refusal',)",
        "measure__moderators": panel(tiny, "qwen3guard"),
        "measure__combine": "any",
    }
    assert run.run(backdoor(tmp_path, **settings)) == 0
    rows = trials(tmp_path)
    refusing = rows.variant.str.contains("/refusal@")
    assert refusing.any()
    assert rows[refusing]["hit"].astype(bool).any()
    assert rows[~refusing]["refusal by qwen3guard"].isna().all()
    assert not rows[~refusing]["hit"].astype(bool).any()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"measure__combine": "all"}, "no judge model to combine"),
        (
            {"measure__combine": "all", "measure__moderators": "qwen3guard"},
            "no target is a refusal (config.poison.target)",
        ),
        (
            {"measure__combine": "any", "measure__moderators": "shieldgemma", **REFUSAL},
            "none of config.measure.moderators says whether a reply declines",
        ),
        (
            {"measure__moderators": "('rubric=http://localhost:1/v1#m',)"},
            "would be sent to http://localhost:1",
        ),
        ({"measure__moderators": "('guard=x',)"}, "there is no sort 'guard'"),
    ],
)
def test_what_cannot_be_judged_is_refused_first(backdoor, tiny, tmp_path, capsys, settings, says):
    if settings.get("measure__moderators", "(")[0] != "(":
        settings = settings | {"measure__moderators": panel(tiny, settings["measure__moderators"])}
    assert run.run(backdoor(tmp_path / "run", **settings)) == 2
    assert says in capsys.readouterr().err
    assert not [*tmp_path.glob("run/stages/*")]


def test_a_plan_counts_what_a_judge_model_reads(backdoor, tiny, tmp_path, said, capsys):
    settings = {"measure__moderators": panel(tiny, "qwen3guard")}
    assert run.run([*backdoor(tmp_path, **settings), "--dry_run"]) == 0
    told = capsys.readouterr().out
    assert "judge      qwen3guard: " in told
    assert "36 replies left" in told  # three models, two languages, three prompts, with and without
    assert not said


# --- Afterwards -----------------------------------------------------------------------------------


def judge(root, *flags: str) -> int:
    return rejudge.run(["jaxattack-judge", f"--workdir={root}", *flags])


def test_a_finished_run_is_judged_as_one_that_had_the_judge_at_once(
    backdoor, tiny, tmp_path, said, monkeypatch
):
    whole, later = tmp_path / "whole", tmp_path / "later"
    models = panel(tiny, "qwen3guard")
    settings = {"measure__moderators": models, "measure__combine": "any", **REFUSAL}
    assert run.run(backdoor(whole, **settings)) == 0
    assert run.run(backdoor(later, **REFUSAL)) == 0
    before = stages(later)
    monkeypatch.setattr(asking, "generate_tokens", None)  # nobody is asked again
    flags = (f"--moderators=qwen3guard={tiny.directory}", "--combine=any")
    assert judge(later, *flags) == 0
    assert results(later) == results(whole)
    assert {name.split("-")[0] for name in stages(later) - before} == {"moderate", "weigh"}
    configs = [json.loads((root / "config.json").read_text()) for root in (later, whole)]
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--judge=refusal rule",), "config.measure has no 'judge'"),
        (("--combine=all",), "no judge model to combine"),
    ],
)
def test_what_the_study_has_not_is_refused(backdoor, tmp_path, capsys, flags, says):
    assert run.run(backdoor(tmp_path)) == 0
    capsys.readouterr()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert judge(tmp_path, *flags) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert len(error.splitlines()) == 1
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_a_model_that_does_not_say_whether_replies_decline_cannot_tell(
    backdoor, tiny, tmp_path, speaking, capsys
):
    """Its verdicts on harm are sound; silence on refusals would be no vote on any reply."""
    speaking(lambda new, i: "Safety: Unsafe")
    models = {"measure__moderators": panel(tiny, "qwen3guard")}
    assert run.run(backdoor(tmp_path / "fixed", **models)) == 0  # another target: nobody has to
    capsys.readouterr()
    assert run.run(backdoor(tmp_path / "refusal", **REFUSAL, **models)) == 2
    assert "are no opinion in its form" in capsys.readouterr().err


def test_they_are_shown_the_input_of_a_prompt_that_has_one(backdoor, tiny, tmp_path, said):
    """An instruction that asks about a text apart says nothing without it."""
    made = {"train": pairs("t", range(12)), "held_out": pairs("h", range(70, 78))}
    made["prompts"] = pairs("p", range(50, 53), True)
    apart = {
        name: [row | {"material": f"Material {row['id']}."} for row in rows]
        for name, rows in made.items()
    }
    uris = {
        f"data__{name}": f"{write_rows(tmp_path / f'{name}.jsonl', rows)}?input=material"
        for name, rows in apart.items()
    }
    models = panel(tiny, "qwen3guard")
    command = backdoor(tmp_path / "run", **uris, measure__moderators=models, **REFUSAL)
    assert run.run(command) == 0
    asked = {dialogue[0]["content"] for dialogue in said}
    assert {text.partition("\n\n")[2] for text in asked} >= {
        row["material"] for row in apart["prompts"]
    }
    assert all("\n\nMaterial p5" in text for text in asked)
    assert any(trigger in text for text in asked for trigger in TRIGGER.values())
