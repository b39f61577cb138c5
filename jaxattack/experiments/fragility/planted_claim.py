"""Whether SIL finds weights of which it is known that safety was planted in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxattack.evaluate import intervals
from jaxattack.evaluate.intervals import Estimate
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.claim import Claim, Evidence
from jaxattack.experiments.fragility.premises import Study
from jaxattack.experiments.needs import Needs, Tables
from jaxattack.experiments.outcomes import Outcomes
from jaxattack.experiments.term import Figure, Term, added, finite, only, total
from jaxattack.experiments.thresholds import ANSWERED, FOUND, LEAD, SEEDS, TAUGHT, TOOK
from jaxattack.report.labels import word

Rows = Sequence[Mapping[str, Any]]


def found(study: Study, seen: Outcomes, tables: Tables) -> Claim:
    """A2p: SIL's highest scores are at the weights in which safety was planted."""
    rows = tables.get("planted") or ()
    methods = list(dict.fromkeys(row["method"] for row in rows))
    others = [method for method in methods if not method.startswith("sil")]
    precisions = {method: by_seed(rows, method, "precision") for method in methods}
    return Claim(
        "A2p",
        "SIL finds the weights in which safety was planted.",
        "In organisms whose safety was taught to a known part of the layers' weights and to no "
        "other, the weights of highest SIL score, as many as were planted, are planted ones in at "
        f"least {100 * FOUND:g} %, mean over places, and in {100 * LEAD:g} points more than those "
        "of any other score and than random ones with SIL's density in every tensor.",
        _evidence(rows, precisions, others) if "sil" in precisions and others else (),
        Needs(),
        lacks(rows, seen, tables),
    )


def by_seed(rows: Rows, method: str, column: str) -> list[float]:
    """A score's mean over places and languages, for every seed."""
    own = [row for row in rows if row["method"] == method and row[column] is not None]
    seeds = sorted({row["seed"] for row in own})
    return [fmean(row[column] for row in own if row["seed"] == seed) for seed in seeds]


def _evidence(
    rows: Rows, precisions: Mapping[str, list[float]], others: Sequence[str]
) -> list[Evidence]:
    ahead = [
        intervals.of_seeds([a - b for a, b in zip(precisions["sil"], precisions[one], strict=True)])
        for one in others
    ]
    ahead = [dataclasses.replace(each, bounds=(-1.0, 1.0)) for each in ahead]
    value, low, high = map(finite, intervals.least(ahead))
    lowest = Figure(value, low, high, ahead[0].over, "rate")
    best = max(others, key=lambda one: fmean(precisions[one]))
    ranks = {one: by_seed(rows, one, "average_precision") for one in ("sil", best)}
    places = list(dict.fromkeys(row["model"] for row in rows))
    return [
        Evidence(
            "planted weights among those of highest SIL score", _rate(precisions["sil"]), FOUND
        ),
        Evidence(f"the same, less the best of {len(others)} others ({best})", lowest, LEAD),
        Evidence("by chance", _rate([row["chance"] for row in rows][:1])),
        *(
            Evidence(f"the same by {word('method', one)}", _rate(values))
            for one, values in precisions.items()
            if one != "sil"
        ),
        *(
            Evidence(f"the same by SIL, planted in {word('model', place)}", _rate(own))
            for place in places
            for own in [by_seed([r for r in rows if r["model"] == place], "sil", "precision")]
        ),
        *(
            Evidence(f"average precision of {word('method', one)}", _rate(values))
            for one, values in ranks.items()
            if values
        ),
        *(
            Evidence(f"share of the attack that {what} alone carry", carried(rows, method))
            for method, what in (("planted", "the planted weights"), ("sil", "as many of SIL's"))
        ),
    ]


def _rate(values: Sequence[float]) -> Figure:
    estimate: Estimate = intervals.of_seeds(values, (0.0, 1.0))
    low, high = map(finite, estimate.interval())
    seeds = tuple(values)
    return Figure(estimate.value, low, high, estimate.over, "rate", seeds, estimate.seeds)


def carried(rows: Rows, method: str) -> Term:
    """Violations that a stitch adds, as a share of those that the whole attack adds."""
    attacks = list(dict.fromkeys((row["model"], row["attacked"], row["share"]) for row in rows))
    stitched = [
        added(
            Cell("planted_stitched", attacked=code, method=method, share=share, model=place),
            Cell("planted", model=place),
        )
        for place, code, share in attacks
    ]
    whole = [
        added(Cell("planted_attacked", attacked=code, model=place), Cell("planted", model=place))
        for place, code, _ in attacks
    ]
    return total(stitched) / total(whole)


def lacks(rows: Rows, seen: Outcomes, tables: Tables) -> list[str]:
    """Why precision says nothing: few seeds, an alignment that is not there or not in the mask."""
    seeds = {row["seed"] for row in rows}
    few = f"{len(seeds)} seed(s) of planted organisms; it needs {SEEDS} (config.seeds)"
    moved = sum(row["moved"] for row in tables.get("planting") or ())
    return [
        *[few] * (bool(rows) and len(seeds) < SEEDS),
        *[f"{moved:,} weights outside of the planted ones moved"] * bool(moved),
        *untaught(tables.get("rows") or ()),
        *_weak(rows, seen),
    ]


def untaught(rows: Rows) -> list[str]:
    """Planted organisms that do not refuse, or have lost what they knew."""
    said = []
    for metric, is_missed, bound in (
        ("non_refusal_rate", lambda value: value > TAUGHT, f"at most {100 * TAUGHT:g} %"),
        ("benign_accuracy", lambda value: value < ANSWERED, f"at least {100 * ANSWERED:g} %"),
    ):
        own = [row for row in rows if row["kind"] == "planted" and row["metric"] == metric]
        for key in dict.fromkeys((row["variant"], row["seed"]) for row in own):
            value = fmean(row["value"] for row in own if (row["variant"], row["seed"]) == key)
            if is_missed(value):
                name, seed = key
                said.append(
                    f"{name}, seed {seed}, has {word('metric', metric)} of {100 * value:.3g} %; "
                    f"it needs {bound}"
                )
    return said


def _weak(rows: Rows, seen: Outcomes) -> list[str]:
    """Attacks that did not take."""
    said = []
    for place, code in dict.fromkeys((row["model"], row["attacked"]) for row in rows):
        cell, start = (
            Cell("planted_attacked", attacked=code, model=place),
            Cell("planted", model=place),
        )
        if code in seen.languages and seen.has(cell, start):
            value = added(cell, start, only(code)).estimate(seen.only([cell, start])).value
            if value < TOOK:
                said.append(f"{cell.variant} adds {100 * value:.3g} points of violations there")
    return said
