"""Finished runs beside each other: what differs, what it did, and what keeps them apart."""

from __future__ import annotations

import json
import math
import pathlib
import sys

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattack import compare as command
from jaxattack.errors import UserError
from jaxattack.evaluate.rates import row as rate
from jaxattack.evaluate.rates import wilson
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import TRIAL_COLUMNS, Cell, trial_row
from jaxattack.experiments.compare import between, effects, study
from jaxattack.experiments.runs import read_several
from jaxattack.report.page import render
from jaxattack.report.table import parquet

ATTACKED = Cell("attacked", 0, "en")
LESS = {"rows": [{"metric": "valid_reply_rate", "n": 3}]}
CONFIG = {"data": {"prompts": "organism:test"}, "attack": {"pairs": 100}, "mesh": [1, 1, 1]}


def trials(cell: Cell, hits: dict[str, str]) -> list[dict]:
    """A trial of each mark: "x" is answered, "-" refused; by language."""
    return [
        trial_row(
            cell,
            Trial(f"q{i}", "restricted", code, "answer", mark != "x", mark == "x", f"h{i}"),
        )
        for code, marks in hits.items()
        for i, mark in enumerate(marks)
    ]


def benign(cell: Cell, hits: dict[str, str]) -> list[dict]:
    """Likewise of benign prompts: "x" is answered in the style of a task, "-" in neither way."""
    return [
        trial_row(
            cell,
            Trial(f"b{i}", "benign", code, "answer", False, mark == "x", f"h{i}", hit=mark == "x"),
        )
        for code, marks in hits.items()
        for i, mark in enumerate(marks)
    ]


def cut(root: pathlib.Path, column: str) -> None:
    path = root / "trials.parquet"
    pandas.read_parquet(path).drop(columns=column).to_parquet(path)


def write(root: pathlib.Path, rows: list[dict], config=CONFIG, judge="facts", **changed) -> None:
    languages = list(dict.fromkeys(row["language"] for row in rows))
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    results = {
        "study": "fragility",
        "languages": languages,
        "seeds": seeds,
        "judge": {"name": judge, "rule": f"by {judge}"},
        "rows": [],
        "claims": [{"id": "A1", "claim": "It spreads.", "verdict": "holds"}],
    }
    manifest = {"finished": True, "prompts": {code: f"all of {code}" for code in languages}}
    root.mkdir(exist_ok=True)
    for name, content in (("results", results), ("manifest", manifest)):
        given = changed.pop(name, {})
        (root / f"{name}.json").write_text(json.dumps(content | given))
    (root / "config.json").write_text(json.dumps(config))
    (root / "trials.parquet").write_bytes(parquet(rows, TRIAL_COLUMNS))


ATTACK = trials(ATTACKED, {"en": "x-"})


@pytest.fixture
def two(tmp_path):
    """Two runs; `x` stands for an answer to a restricted prompt."""
    before, after = tmp_path / "before", tmp_path / "after"
    write(before, trials(ATTACKED, {"en": "xxxx----", "th": "xx------"}))
    write(after, trials(ATTACKED, {"en": "xxxxxx--", "th": "xxxxx---"}))
    return [before, after]


def differences(paths, metric="violation_rate") -> list[dict]:
    return [row for row in study.compare(read_several(paths)).effects if row["metric"] == metric]


def cautions(paths) -> dict[str, str]:
    found = study.compare(read_several(paths)).results["cautions"]
    return {row["topic"]: row["text"] for row in found}


def test_a_difference_is_of_means_over_languages_on_the_same_prompts(two):
    (row,) = differences(two)
    assert (row["value_first"], row["value"]) == (6 / 16, 11 / 16)
    assert row["difference"] == pytest.approx(5 / 16)
    assert row["low"] < 5 / 16 < row["high"]
    assert 0 < row["p"] < 0.2
    assert row["holm"] >= row["p"]
    assert (row["languages"], row["prompts"], row["paired"]) == (2, 8, True)
    (turned,) = differences(two[::-1])
    assert turned["difference"] == -row["difference"]
    assert (turned["low"], turned["high"]) == pytest.approx((-row["high"], -row["low"]))
    assert turned["p"] == pytest.approx(row["p"])


def test_a_run_beside_one_that_found_the_same_differs_in_nothing(two):
    write(two[1], trials(ATTACKED, {"en": "xxxx----", "th": "xx------"}))
    for row in study.compare(read_several(two)).effects:
        assert row["difference"] == 0
        assert row["p"] == 1
        assert row["low"] <= 0 <= row["high"]
    assert not cautions(two)


def test_only_languages_with_the_same_prompts_are_compared(two):
    rows = trials(ATTACKED, {"en": "xxxxxx--", "th": "xxxxxxxx", "de": "xxxxxxxx"})
    write(two[1], rows, manifest={"prompts": {"en": "all of en", "th": "others", "de": "all"}})
    (row,) = differences(two)
    assert (row["languages"], row["difference"], row["paired"]) == (1, 0.25, True)
    assert "after: en" in cautions(two)["prompts"]
    assert "All of them measured en, th" in cautions(two)["languages"]


def test_other_prompts_are_two_samples(two):
    write(two[1], trials(ATTACKED, {"en": "xxxxxx--"}), manifest={"prompts": {"en": "others"}})
    write(two[0], trials(ATTACKED, {"en": "xxxx----"}))
    (row,) = differences(two)
    assert (row["paired"], row["p"], row["holm"]) == (False, None, None)
    assert row["low"] < 0 < row["difference"] < row["high"]
    # Each rate has an interval of its own, here of eight prompts: as wide or wider than Wilson's.
    (low, high), (lowest, highest) = wilson(4, 8), wilson(6, 8)
    assert row["low"] <= 0.25 - math.hypot(0.75 - lowest, high - 0.5)
    assert row["high"] >= 0.25 + math.hypot(highest - 0.75, 0.5 - low)
    assert "before" in cautions(two)["prompts"]


def test_seeds_are_repetitions_of_the_same_prompts(two):
    for root, marks in zip(two, (("x---", "x---"), ("xx--", "xxx-")), strict=True):
        write(root, [r for s in (0, 1) for r in trials(ATTACKED.of(s), {"en": marks[s]})])
    (row,) = differences(two)
    assert (row["seeds"], row["prompts"]) == (2, 4)
    assert row["difference"] == pytest.approx(3 / 8)


def test_what_keeps_runs_apart_is_said(two):
    rows = trials(ATTACKED.of(3), {"en": "xxxxxx--", "th": "xxxxx---"})
    config = CONFIG | {"attack": {"pairs": 10}, "mesh": [1, 8, 1]}
    write(two[1], rows, config, judge="guard")
    found = cautions(two)
    assert found.keys() == {"judges", "seeds", "settings"}
    assert "before: facts; after: guard" in found["judges"]
    assert "before: 0; after: 3" in found["seeds"]
    assert "otherwise in attack.pairs" in found["settings"]
    assert {row["judge"] for row in differences(two)} == {"another"}
    named = {row["setting"] for row in study.compare(read_several(two)).results["settings"]}
    assert named == {"attack.pairs", "mesh"}


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxattack-compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
    return int(end.value.code or 0)


def test_the_command_writes_a_page_and_two_tables(two, tmp_path, capsys):
    assert run(*two, f"--out={tmp_path}/new/both.html") == 0
    said = capsys.readouterr().out.split()
    assert [pathlib.Path(path).name for path in said] == [
        *("both.html", "both.parquet", "both-differences.parquet")
    ]
    html = pathlib.Path(said[0]).read_text()
    assert "before and after, compared" in html
    assert "holds" in html
    table = pandas.read_parquet(said[2])
    assert set(table["metric"]) == {"violation_rate", "non_refusal_rate"}
    assert table["difference"].tolist() == pytest.approx([5 / 16] * 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda two: two.pop(), "name two runs or more"),
        (lambda two: two.append(two[0]), "named twice"),
        (lambda two: (two[1] / "trials.parquet").unlink(), "trials.parquet is not there"),
        (lambda two: (two[1] / "trials.parquet").write_text("no"), "not those of a study"),
        (lambda two: (two[1] / "results.json").write_text("[]"), "not those of a study"),
        (lambda two: (two[1] / "config.json").write_text("{}"), "not those of a study"),
        (lambda two: write(two[1], ATTACK, results={"claims": [{}]}), "not those of a study"),
        (lambda two: write(two[1], ATTACK, results=LESS), "has 2 rows of 3"),
        (lambda two: cut(two[1], "refused"), "has no column refused"),
        (lambda two: write(two[1], ATTACK, results={"seeds": [7]}), "has seed 0, which"),
        (lambda two: write(two[1], [], manifest={"finished": False}), "is not finished"),
        (lambda two: write(two[1], [], results={"study": "backdoor"}), "different things"),
        (lambda two: two.append(two[0] / "nowhere"), "no work directory"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(two, tmp_path, capsys, change, says):
    change(two)
    assert run(*two, f"--out={tmp_path}/both.html") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "both.html").exists()


def test_a_runs_own_directory_is_no_place_for_the_page(two):
    before = (two[1] / "trials.parquet").read_bytes()
    with pytest.raises(UserError, match="a run's own directory"):
        study.write(two, two[1] / "trials.html")
    assert (two[1] / "trials.parquet").read_bytes() == before


def test_runs_may_be_called_like_a_column(two):
    named = [
        path.rename(path.with_name(name)) for path, name in zip(two, ("id", "setting"), strict=True)
    ]
    write(named[1], trials(ATTACKED, {"en": "x"}), CONFIG | {"attack": {"pairs": 7}})
    found = study.compare(read_several(named)).results
    assert found["verdicts"][0]["id"] == "A1"
    assert [row["setting"] for row in found["settings"]] == ["attack.pairs"]


def test_what_is_not_a_page_is_not_replaced(two, tmp_path):
    with pytest.raises(UserError, match=r"end in \.html"):
        study.write(two, tmp_path / "both")
    (tmp_path / "both.parquet").mkdir()
    with pytest.raises(UserError, match="which is not replaced"):
        study.write(two, tmp_path / "both.html")
    assert not (tmp_path / "both.html").exists()


# --- Durability, and studies that cannot be compared ----------------------------------------------

SWEPT = Cell("swept", 0, "en", "sil", attack="full")
WORST = Cell("worst", 0, method="sil")


def durable(marks: str) -> list[dict]:
    """Trials of a durability study; those of validation prompts are all hits."""
    rows = trials(Cell("swept", 0, "en", "sil", attack="full", prompts="validation"), {"en": "xxx"})
    for cell in (SWEPT, WORST):
        rows += trials(cell, {"en": marks, "th": marks}) + benign(cell, {"en": marks, "th": "----"})
    return rows


def test_durability_is_compared_on_test_prompts_alone(two, tmp_path):
    for root, marks in zip(two, ("x---", "xxx-"), strict=True):
        rows = [rate(WORST.columns(), "en", "violation_rate", [mark == "x" for mark in marks])]
        write(root, durable(marks), results={"study": "durability", "rows": rows})
    found = {
        (row["variant"], row["metric"]): row for row in study.compare(read_several(two)).effects
    }
    swept, worst = SWEPT.variant, WORST.variant
    assert found.keys() == {
        *((cell, "violation_rate") for cell in (swept, worst)),
        *((cell, "benign_accuracy") for cell in (swept, worst)),
        (swept, "task_rate"),
    }
    violations, learned = found[swept, "violation_rate"], found[swept, "task_rate"]
    assert (violations["value_first"], violations["value"]) == (1 / 4, 3 / 4)
    # A task is learned in the languages of its pairs, here English alone.
    assert (learned["value_first"], learned["value"], learned["languages"]) == (1 / 4, 3 / 4, 1)
    assert found[worst, "benign_accuracy"]["difference"] == pytest.approx(1 / 4)
    (page, *_) = study.write(two, tmp_path / "both.html")
    assert "after the worst attack, SIL" in page.read_text()


@pytest.mark.parametrize("name", ["grow", "organism"])
def test_a_study_that_makes_checkpoints_has_nothing_to_compare(two, tmp_path, capsys, name):
    (two[1] / "results.json").unlink()
    (two[1] / "trials.parquet").unlink()
    (two[1] / "manifest.json").write_text(json.dumps({"study": name, "finished": True}))
    assert run(*two, f"--out={tmp_path}/both.html") == 2
    error = capsys.readouterr().err
    assert f"runs of the study '{name}' cannot be compared" in error
    assert error.count("\n") == 1


def test_a_study_that_is_not_known_is_refused(two):
    for root in two:
        write(root, ATTACK, results={"study": "planned"})
    with pytest.raises(UserError, match="'planned' cannot be compared; those of fragility"):
        study.compare(read_several(two))


# --- What a page says of its bars -----------------------------------------------------------------


def picture(effects: list[dict], results: dict) -> bytes:
    """The differences of violations as they are drawn."""
    template = pathlib.Path(study.__file__).with_name("page.html.j2").read_text()
    _, drawn = render(results | {"effects": effects}, {}, {}, template)
    return next(png for name, png in drawn.items() if "difference-violation_rate" in str(name))


def test_bars_that_the_page_names_are_drawn(two):
    found = study.compare(read_several(two))
    shorter = [row | {"low": row["difference"], "high": row["difference"]} for row in found.effects]
    assert picture(found.effects, found.results) != picture(shorter, found.results)


def test_the_page_says_what_its_bars_are_over(two, tmp_path):
    (page, *_) = study.write(two, tmp_path / "both.html")
    assert "Bars: 95 % interval, over the 8 prompts of this one run" in page.read_text()
    write(two[1], trials(ATTACKED, {"en": "xxxxxx--"}), manifest={"prompts": {"en": "others"}})
    (page, *_) = study.write(two, tmp_path / "both.html")
    assert "Bars: 95 % interval, from the intervals of the two rates." in page.read_text()


# --- Intervals over seeds and prompts -------------------------------------------------------------


def outcomes(hits: np.ndarray, seeds: list[int]) -> effects.Outcomes:
    """Of hits `[seeds, prompts]`."""
    return effects.Outcomes(
        tuple(
            effects.Value(seed, (f"q{i}",), "en", float(hit))
            for seed, row in zip(seeds, hits, strict=True)
            for i, hit in enumerate(row)
        )
    )


def replies(rng: np.random.Generator, logits: np.ndarray, seeds: int) -> np.ndarray:
    return rng.random((seeds, len(logits))) < 1 / (1 + np.exp(-logits))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.permutations([0, 1, 2, 3, 7, 9]),
    st.permutations([0, 1, 2, 3, 7, 9]),
)
def test_how_seeds_are_numbered_changes_nothing(start, count, first, other):
    rng = np.random.default_rng(start)
    prompts = rng.normal(0, 3, 30)
    one, two = (replies(rng, prompts + rng.normal(0, 1, 30), n) for n in (count, 3))
    found = [
        effects._difference(outcomes(one, numbers[:count]), outcomes(two, others[:3]), True)
        for numbers, others in (([0, 1, 2, 3], [0, 1, 2]), (first, other))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (5, 5), (8, 8), (2, 5), (3, 8)])
def test_intervals_hold_the_truth_whatever_the_seeds(ours, theirs):
    """Two models that are alike but for what they make of single prompts, at the null."""
    rng, prompts, count = np.random.default_rng(0), 100, 300
    held = 0
    for _ in range(count):
        shared = rng.normal(0, 3, prompts)
        one, two = (
            outcomes(replies(rng, shared + rng.normal(0, 1.5, prompts), n), list(range(at, at + n)))
            for at, n in ((0, ours), (50, theirs))
        )
        row = effects._difference(one, two, True)
        held += row["low"] <= 0 <= row["high"]
    assert held / count >= 0.93


def test_the_variance_of_a_difference_is_of_both_runs_seeds_and_their_prompts():
    """Worked by hand: every part of a two-way layout, each run with seeds of its own."""
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 1, 40)
    one, two = (replies(rng, shared, n).astype(float)[..., None] for n in (3, 5))
    found = between.difference(one, two, True)
    by_seed, rests, gap = [], [], np.zeros(40)
    for sign, run in ((-1, one[..., 0]), (1, two[..., 0])):
        n = len(run)
        by_seed.append(run.mean(1).var(ddof=1) / n)
        rest = run - run.mean(0) - run.mean(1, keepdims=True) + run.mean()
        rests.append((rest**2).sum() / ((n - 1) * 39) / (n * 40))
        gap += sign * run.mean(0)
    by_prompt = gap.var(ddof=1) / 40 - sum(rests)
    assert by_prompt > 0
    seen = sum(by_seed) + by_prompt
    assert found.error**2 == pytest.approx(seen, rel=1e-4)
    assert found.by_seed == pytest.approx(sum(by_seed) / seen, rel=1e-4)
    assert found.value == pytest.approx(gap.mean())
    assert (found.seeds, found.prompts) == (3, 40)


# --- What changed in place ------------------------------------------------------------------------


def source(resolved: str) -> dict:
    return {"uri": "jsonl:pairs.jsonl", "resolved": resolved}


def facts(model="aa", data="sha256:1", pairs="p", name="/models/mine") -> dict:
    return {
        "model": name,
        "model_fingerprint": model,
        "other_models": {"/models/other": "same"},
        "data": {"pairs": [source(data)], "prompts": [source("sha256:7")]},
        "pairs": {"en": pairs},
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, {}),
        ({"model": "bb"}, {"models": "/models/mine (before: aa, after: bb)"}),
        # Other checkpoints, whose results were to say what their claims are about.
        ({"model": "bb", "name": "/models/yours"}, {"checkpoints": "start its command again"}),
        ({"data": "sha256:2"}, {"data": "(after: pairs)"}),
        ({"pairs": "q"}, {}),  # the files are the same: settings took other rows
    ],
)
def test_what_changed_under_its_name_is_said(two, changed, said):
    for root, own in zip(two, ({}, changed), strict=True):
        write(root, ATTACK, manifest=facts(**own))
    found = cautions(two)
    assert found.keys() == said.keys()
    assert all(text in found[topic] for topic, text in said.items())


def test_other_rows_of_what_has_no_pin_are_said(two):
    for root, pairs in zip(two, "pq", strict=True):
        write(root, ATTACK, manifest=facts(data="shipped", pairs=pairs))
    assert cautions(two).keys() == {"data"}


def test_another_model_beside_the_studys_own_is_said(two):
    for root, own in zip(two, "ab", strict=True):
        write(root, ATTACK, manifest=facts() | {"other_models": {"/models/other": own}})
    assert "/models/other (before: a, after: b)" in cautions(two)["models"]


@pytest.mark.parametrize(
    ("settings", "models", "told"),
    [
        ({"file": "mine.jinja"}, ("a", "b"), {"template"}),
        ({}, ("a", "a"), {"template"}),
        ({}, ("a", "b"), set()),  # each has its own
    ],
)
def test_a_template_that_changed_under_its_name_is_said(two, settings, models, told):
    for root, model, source in zip(two, models, "pq", strict=True):
        facts = {"model": model, "template": {"source": source}}
        write(root, ATTACK, CONFIG | {"template": settings}, manifest=facts)
    assert cautions(two).keys() == told


def test_a_template_that_was_chosen_otherwise_is_a_setting(two):
    for root, name in zip(two, ("alpaca", "chat"), strict=True):
        facts = {"model": "a", "template": {"source": name}}
        write(root, ATTACK, CONFIG | {"template": {"wrapper": name}}, manifest=facts)
    assert cautions(two).keys() == {"settings"}


def test_languages_that_are_asked_beside_the_measured_ones_are_no_other_prompts(two):
    """A backdoor's untaught languages are in the manifest alone."""
    for root in two:
        write(root, ATTACK, manifest={"prompts": {"en": "all of en", "fi": "all of fi"}})
    assert not cautions(two)


def test_a_prompt_is_the_same_only_if_the_trigger_in_it_is(two):
    """On a grid prompts of one language carry triggers of others."""
    cell = Cell("poisoned", 0, "en", trigger="t", target="fixed", rate=0.1, prompts="grid")
    for root, th in zip(two, ("xx", "--"), strict=True):
        rows = [
            trial_row(
                cell,
                Trial(
                    f"q{i}",
                    "benign",
                    "en",
                    "answer",
                    False,
                    True,
                    "h",
                    hit=mark == "x",
                    trigger_language=trigger,
                ),
            )
            for trigger, marks in (("en", "x-"), ("th", th))
            for i, mark in enumerate(marks)
        ]
        write(
            root,
            rows,
            results={"study": "backdoor"},
            manifest={"prompts": {"en": "same", "th": f"trigger of {root.name}"}},
        )
    (row,) = differences(two, "asr")
    assert (row["value_first"], row["difference"], row["prompts"]) == (1 / 2, 0, 2)
    assert "after: en" in cautions(two)["prompts"]
