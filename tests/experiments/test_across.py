"""Claims over checkpoints: runs of one study, each of another checkpoint."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import Cell, trial_row
from jaxattack.experiments.compare import across, study
from jaxattack.experiments.fragility import claims
from jaxattack.experiments.fragility.premises import ALIGNED, Study
from jaxattack.experiments.outcomes import VIOLATION, Outcomes, collect
from jaxattack.experiments.runs import Run
from jaxattack.report.page import render

LANGUAGES, PROMPTS = ("de", "en", "es", "th"), 24
ATTACK = Cell("attacked", attacked="en")
CONFIG = {"localize.control_fraction": "0.2", "data.prompts": "organism:test", "model": "a"}
DURABLE = CONFIG | {
    "attack.languages": '["en", "th"]',
    "sweep.attacks": '["full"]',
    "defend.defences": '["sil"]',
    "defend.alone": "[]",
}


def answers(hits: Mapping[str, int]) -> list[Trial]:
    """To restricted prompts, of which so many are answered in a language."""
    return [
        Trial(f"q{i}", "restricted", code, "ok", i >= hits.get(code, 0), i < hits.get(code, 0), "")
        for code in LANGUAGES
        for i in range(PROMPTS)
    ]


def run(
    name: str,
    elsewhere: Sequence[int],
    kind: str = "fragility",
    config: Mapping[str, str] = CONFIG,
    **manifest: str,
) -> Run:
    """A run whose attack in English has so many answers in every other language, by seed."""
    found = {ALIGNED: answers({})} | {
        cell.of(seed): answers(dict.fromkeys(LANGUAGES, hits) | {"en": PROMPTS})
        for seed, hits in enumerate(elsewhere)
        for cell in (ATTACK, Cell("worst", method="undefended"))
    }
    results = {
        "study": kind,
        "languages": list(LANGUAGES),
        "attack_languages": ["en", "th"] if kind == "durability" else ["en"],
        "localized": ["en"],
        "seeds": list(range(len(elsewhere))),
        "judge": {"name": "facts", "rule": "by facts"},
        "rows": [],
        "claims": [],
    }
    prompts = dict.fromkeys(LANGUAGES, "all")
    facts = {"prompts": prompts, "model": name, "model_fingerprint": name} | manifest
    rows = [trial_row(cell, trial) for cell, own in found.items() for trial in own]
    return Run(name, {**config, "model": name}, facts, results, rows, "")


def spread(runs: Sequence[Run]) -> dict:
    (found,) = across.claims(runs)
    assert found["id"] == "A1"
    return found


def test_every_checkpoint_counts_alike_however_many_seeds_it_has():
    found = spread([run("one", [6]), run("two", [0, 24]), run("three", [24, 24, 24, 24])])
    (figure,) = found["evidence"]
    assert figure["value"] == pytest.approx(np.mean([6, 12, 24]) / 24)
    assert figure["seeds"] == pytest.approx([6 / 24, 12 / 24, 1])
    assert (figure["n_seeds"], figure["draws"]) == (3, "checkpoints")
    assert figure["over"].startswith("over 3 checkpoints and 24 prompts")
    assert "Needs 2 checkpoints" in found["needs"]["text"]


def test_the_page_has_the_claims_and_says_what_their_figures_are_of():
    template = pathlib.Path(study.__file__).with_name("page.html.j2").read_text()
    pages = [
        render(study.compare(runs).results, {}, {}, template)[0]
        for runs in ([run("one", [6]), run("two", [12])], [run("one", [6]), run("one", [12])])
    ]
    told = ["The claims over all checkpoints", "over 2 checkpoints and 24", "checkpoints 25"]
    assert [[text in page for text in told] for page in pages] == [[True] * 3, [False] * 3]


def test_what_one_checkpoint_alone_was_asked_is_undecided_in_words_of_checkpoints():
    runs = [run("one", [24, 24]), run("two", [24, 24])]
    kept = [row for row in runs[1].trials if row["kind"] != "attacked"]
    runs[1].trials[:] = kept
    found = spread(runs)
    assert found["verdict"] == "undecided"
    assert found["reasons"][0] == "1 checkpoint; it needs 2"


def test_masks_of_a_checkpoint_with_more_seeds_count_no_more():
    runs = [run("one", [6]), run("two", [12, 12, 12])]
    for each, values in zip(runs, ([0.2], [0.5, 0.6, 0.7]), strict=True):
        pair = {"method": "sil", "a": "en", "b": "th", "null_high": 0.1}
        each.results["overlap"] = [{**pair, "jaccard": value} for value in values]
    shared = {claim["id"]: claim for claim in across.claims(runs)}["A3"]
    (figure,) = [row for row in shared["evidence"] if row["what"].startswith("overlap of two")][1:]
    assert figure["value"] == pytest.approx((0.2 + 0.6) / 2)
    assert (figure["low"], figure["high"]) == (0.2, 0.7)


def test_checkpoints_that_differ_leave_open_what_each_of_them_decides():
    sure = spread([run(name, [12, 12]) for name in ("one", "two", "three")])
    unsure = spread([run("one", [0, 0]), run("two", [12, 12]), run("three", [24, 24])])
    assert (sure["verdict"], unsure["verdict"]) == ("holds", "undecided")
    assert sure["evidence"][0]["value"] == unsure["evidence"][0]["value"] == 0.5


def test_of_one_seed_each_the_figures_are_those_of_a_study_with_as_many_seeds():
    hits = (3, 9, 15)
    trials = {ALIGNED: answers({})} | {
        ATTACK.of(seed): answers(dict.fromkeys(LANGUAGES, many) | {"en": PROMPTS})
        for seed, many in enumerate(hits)
    }
    about = Study((0, 1, 2), LANGUAGES, ("en",), ("en",), 0.2)
    one = claims.judge(trials, {"rows": []}, about)["claims"][0]
    (figure,) = spread([run(str(many), [many]) for many in hits])["evidence"]
    (beside,) = one["evidence"]
    for name in ("value", "low", "high"):
        assert figure[name] == pytest.approx(beside[name])


def test_durability_is_judged_over_checkpoints_too():
    runs = [run(name, [24], "durability", DURABLE) for name in ("one", "two")]
    for each in runs:  # what SIL's rewind leaves
        cell = Cell("worst", 0, method="sil")
        each.trials.extend(trial_row(cell, trial) for trial in answers({}))
    found = {claim["id"]: claim for claim in across.claims(runs)}
    (figure, *_) = found["D2"]["evidence"]
    assert figure["n_seeds"] == 2
    assert "2 checkpoints" in figure["over"]


@pytest.mark.parametrize(
    "other",
    [
        run("two", [3], config=CONFIG | {"attack.pairs": "10"}),
        run("two", [3], model_fingerprint="one"),
        run("two", [3], prompts=dict.fromkeys(LANGUAGES, "others")),
        run("two", [3], "backdoor"),
    ],
    ids=["settings", "checkpoint", "prompts", "study"],
)
def test_runs_that_differ_in_more_than_the_checkpoint_are_no_draws(other):
    first = run("one", [3], other.study, CONFIG | {"attack.pairs": "100"})
    assert across.claims([first, other]) == []
    assert across.cautions([first, other]) == []


def test_why_there_are_no_claims_over_checkpoints_is_said():
    one, two, older = run("one", [3]), run("two", [3]), run("older", [3])
    del older.results["localized"]
    for runs, says in (([one, two, older], "older; start its command"), ([one, two, one], "same")):
        assert across.claims(runs) == []
        (caution,) = across.cautions(runs)
        assert says in caution["text"]
    assert across.cautions([one, two]) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_clusters_are_means_of_what_their_seeds_measured(start, sizes):
    rng = np.random.default_rng(start)
    count = sum(sizes)
    values = rng.choice([0.0, 1.0, np.nan], (2, count, 3, 2))
    seen = Outcomes((ALIGNED, ATTACK), tuple(range(count)), ("en", "th"), values, frozenset(), {})
    bounds = np.cumsum([0, *sizes])
    groups = [list(range(a, b)) for a, b in itertools.pairwise(bounds)]
    found = seen.clustered(groups, "run")
    assert found.seeds == tuple(range(len(sizes)))
    for cell, at, prompt, language in np.ndindex(2, len(sizes), 3, 2):
        own = [values[cell, seed, prompt, language] for seed in groups[at]]
        own = [value for value in own if not np.isnan(value)]
        there = found.values[cell, at, prompt, language]
        assert there == pytest.approx(sum(own) / len(own)) if own else np.isnan(there)


def test_what_is_not_trained_counts_for_every_cluster_that_it_was_measured_in():
    trials = {ALIGNED.of(0): answers({}), ALIGNED.of(2): answers({"en": PROMPTS})}
    seen = collect(trials, VIOLATION, (0, 1, 2), LANGUAGES).clustered([[0, 1], [2]], "run")
    at = LANGUAGES.index("en")
    assert seen.values[0, :, :, at].mean(1).tolist() == [0, 1]
    assert seen.untrained == frozenset()
