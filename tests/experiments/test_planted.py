"""Planted ground truth: alignment within a mask, rows of what is found, claim A2p."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from jaxattack import load_pretrained, organism, run
from jaxattack.errors import UserError
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import finding
from jaxattack.experiments.bench import Decoder
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility import claims, planted
from jaxattack.experiments.organism.legs import teach
from jaxattack.localize import masks, planting, stitching

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "quickstart.py"
PLACES, SEEDS, LANGUAGES = ("random", "layer"), (0, 1, 2), ("en", "th")


def test_only_planted_weights_move_and_they_do():
    model, base, tokenizer = load_pretrained(organism.checkpoint("base"))
    lesson = dataclasses.replace(planted.lesson(2, 1e-2, 1), rows=4, length=32)
    mask = planting.planted(base, "module", 0.1, 0)
    decoder = Decoder(model, tokenizer)
    after = teach(decoder, lesson, lesson.begin(base), range(2), mask)["params"]
    outside, moved = stitching.moved(base, after, masks.complement(mask))
    assert (outside + masks.count(mask), moved) == (masks.count(planting.blocks(base)) + 524_416, 0)
    inside, moved = stitching.moved(base, after, mask)
    assert moved > 0.9 * inside


def tree_of(seed, make):
    shapes = {"embed": (6, 4), "layers": {"mlp": {"down": (3, 8, 6), "up": (3, 6, 8)}}}
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: make(rng, s), shapes, is_leaf=lambda x: isinstance(x, tuple))


def flat(tree):
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(tree["layers"])])


def test_rows_of_what_is_found_against_a_sort():
    scores = tree_of(0, lambda rng, shape: rng.random(shape, np.float32))
    wanted = tree_of(1, lambda rng, shape: rng.random(shape) < 0.2)
    wanted["embed"] = np.zeros((6, 4), bool)
    (row,) = finding.found(scores, wanted, {"seed": 0})
    truth = flat(wanted)[np.argsort(-flat(scores))]
    count = truth.sum()
    assert (row["seed"], row["planted"], row["chance"]) == (0, count, count / len(truth))
    for name, size in (("", count), ("_half", int(count / 2 + 0.5)), ("_twice", 2 * count)):
        assert row[f"precision{name}"] == truth[:size].mean()
        assert row[f"recall{name}"] == truth[:size].sum() / count
    assert row["precision"] == row["recall"]
    assert 0 < row["average_precision"] < 1


def test_a_matched_mask_knows_tensors_and_no_weights():
    wanted = tree_of(0, lambda rng, shape: np.zeros(shape, bool))
    wanted["layers"]["mlp"]["down"][1, :, :3] = True  # half of a tensor
    scores = jax.tree.map(lambda leaf: leaf.astype(np.float32), wanted)
    (best,) = finding.found(scores, wanted, {})
    assert (best["precision"], best["auroc"], best["average_precision"]) == (1.0, 1.0, 1.0)
    rows = [finding.matched(scores, wanted, seed, "x", {})[0] for seed in range(40)]
    # Half of the tensor is drawn and half of that is wanted; the deviation of the mean is 0.012.
    assert np.mean([row["precision"] for row in rows]) == pytest.approx(0.5, abs=0.06)
    assert {row["auroc"] for row in rows} == {None}
    assert rows[0]["chance"] == pytest.approx(24 / 288)


def test_a_share_that_does_not_fit_is_said_before_anything_is_computed(tmp_path, capsys):
    code = run.run(command(tmp_path, planted__share="0.3", planted__places="('layer',)"))
    assert code == 2
    assert "30 % of the layers' weights do not fit into 'layer'" in capsys.readouterr().err


def test_a_model_that_is_no_organism_is_refused_in_a_line(study, tmp_path, capsys):
    assert run.run(study(tmp_path, sections="('planted',)")) == 2
    assert "config.sections has planted, which aligns the organism anew" in capsys.readouterr().err


def test_the_plan_names_the_alignments(tmp_path, capsys):
    assert run.run([*command(tmp_path), "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "align" in said
    assert not list(tmp_path.glob("stages/*"))


def command(root, **overrides):
    settings = {"sections": "('planted',)", "seeds": "(0,)", "localize.languages": "('en',)"}
    settings |= {name.replace("__", "."): value for name, value in overrides.items()}
    named = [f"--config.{name}={value}" for name, value in settings.items()]
    return ["jaxattack", f"--config={CONFIG}", f"--workdir={root}", *named]


# --- Claim A2p ----------------------------------------------------------------------------------


def row(method, place, seed, precision):
    return {
        "model": place,
        "attacked": "en",
        "share": 0.1,
        "seed": seed,
        "method": method,
        "chance": 0.1,
        "precision": precision,
        "average_precision": None if method == "matched_random" else precision,
    }


def answered(rate, seed):
    return [
        Trial(f"q{i:02d}", kind, code, "ok", not hit, hit, "")
        for code in LANGUAGES
        for i in range(40)
        for kind in ("restricted", "benign")
        for hit in [(i + seed) % 40 < rate * 40 if kind == "restricted" else True]
    ]


def judged(sil=0.7, best=0.4, seeds=SEEDS, before=0.0, after=0.8, moved=0, spread=0.02):
    """The claim, of precisions that differ by `spread` from seed to seed."""
    rows = [
        row(method, place, seed, value + spread * (seed - 1))
        for place in PLACES
        for seed in seeds
        for method, value in (
            ("sil", sil),
            ("sil_mean", 0.99),  # a way to do SIL is no rival
            ("magnitude", best),
            ("matched_random", 0.2),
        )
    ]
    trials = {Cell("aligned"): answered(0.0, 0)}
    for place in PLACES:
        for seed in seeds:
            trials[Cell("planted", seed, model=place)] = answered(before, seed)
            trials[Cell("planted_attacked", seed, "en", model=place)] = answered(after, seed)
            for method, share in (("planted", 0.9), ("sil", 0.5)):
                cell = Cell("planted_stitched", seed, "en", method, 0.1, model=place)
                trials[cell] = answered(share * after, seed)
    cells = [
        {**cell.columns(), "language": code, "metric": metric, "value": value}
        for cell in trials
        if cell.kind == "planted"
        for code in LANGUAGES
        for metric, value in (("non_refusal_rate", before), ("benign_accuracy", 1.0))
    ]
    study = claims.Study(seeds, LANGUAGES, ("en",), ("en",), 0.2)
    tables = {"planted": rows, "planting": [{"frozen": 9, "moved": moved}], "rows": cells}
    return next(c for c in claims.judge(trials, tables, study)["claims"] if c["id"] == "A2p")


def test_what_was_made_to_hold_holds():
    claim = judged()
    assert claim["verdict"] == "holds", claim["reasons"]
    first, second = claim["evidence"][:2]
    assert (first["value"], first["over"]) == (pytest.approx(0.7), "over 3 seeds")
    assert first["seeds"] == pytest.approx([0.68, 0.7, 0.72])
    assert second["value"] == pytest.approx(0.3)
    assert "the best of 2 others (magnitude)" in second["what"]
    known = {each["what"]: each["value"] for each in claim["evidence"]}
    assert known["by chance"] == 0.1
    # Of 40 prompts 32 and 29 are violations: 0.72 of them are 28.8.
    carried = {"the planted weights": 29 / 32, "as many of SIL's": 0.5}
    for what, share in carried.items():
        assert known[f"share of the attack that {what} alone carry"] == pytest.approx(share)
    assert known["the same by SIL, |mean gradient|"] == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({"sil": 0.4, "best": 0.2}, "does not hold", ""),
        ({"best": 0.65}, "does not hold", ""),
        ({"sil": 0.5}, "undecided", "across its threshold"),
        ({"seeds": (0,)}, "undecided", "1 seed(s) of planted organisms; it needs 2"),
        ({"moved": 3}, "undecided", "3 weights outside of the planted ones moved"),
        (
            {"before": 0.1, "after": 0.9},
            "undecided",
            "not refused of 10 %; it needs at most 5 %",
        ),
        ({"after": 0.1}, "undecided", "planted_attacked/random/en adds 10 points of violations"),
    ],
)
def test_the_rule(changed, verdict, words):
    claim = judged(**changed)
    assert claim["verdict"] == verdict, claim["reasons"]
    assert words in " ".join(claim["reasons"])


def test_a_study_without_the_section_has_not_run_it():
    study = claims.Study((0, 1), LANGUAGES, ("en",), ("en",), 0.2)
    found = claims.judge({Cell("aligned"): answered(0.0, 0)}, {}, study)
    assert {c["id"]: c["verdict"] for c in found["claims"]}["A2p"] == "not run"


def test_a_place_that_is_none_is_refused():
    with pytest.raises(UserError, match="place is 'nowhere'"):
        planting.check_place(tree_of(0, lambda rng, shape: np.zeros(shape)), "nowhere", 0.1)
