"""What a backdoor study's results say: the claims judged, cautions, tests and means.

Claims on attacks and on defences have files of their own; R2 is here. What compares models of
several sizes or behind a hosted service is not testable here, and said to be so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxattack.experiments import comparisons
from jaxattack.experiments.backdoor import attack_claims, defence_claims
from jaxattack.experiments.backdoor.cautions import cautions
from jaxattack.experiments.backdoor.premises import (
    FALSE,
    REFUSED,
    SAME,
    TRAINED_CLEAN,
    UNTAUGHT,
    Study,
    hits,
    poisoned,
)
from jaxattack.experiments.cautions import raised
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.claim import Claim, Evidence, judged
from jaxattack.experiments.needs import Facts, Needs, Tables
from jaxattack.experiments.outcomes import ASR, CLEAN, Outcomes, Trials, collect
from jaxattack.experiments.term import Figure, anywhere, but, only, rate
from jaxattack.experiments.thresholds import ALARMS, HALF, SEVERAL, TRIGGERS

UNTESTABLE = (
    Claim(
        "B3",
        "Poisoned French or Chinese reaches all languages (mean ASR 99.5 and 99.7 %).",
        "Needs a hosted model.",
    ),
    Claim("B6", "Larger models are more vulnerable.", "Needs models of several sizes."),
    Claim("B7", "English-centric models are vulnerable too.", "Needs such a model."),
)

# A claim is a definition made of the study, what its prompts met with, and finished tables.
ClaimOf = Callable[[Study, Outcomes, Tables], Claim]

Row = Mapping[str, Any]

METRICS = (ASR, CLEAN, FALSE, REFUSED, SAME)


def judge(trials: Trials, results: Mapping[str, Any], study: Study) -> dict[str, Any]:
    """What results.json says beyond rates: claims, cautions, tests and a summary.

    Args:
        trials: of every cell.
        results: the finished part of results.json: `rows`, `changed`, `overlap`, `inversion`,
            `judge`.
        study: what the claims are about.
    """
    attacks = tuple(attack.of(None) for attack in study.attacks)
    study = dataclasses.replace(study, attacks=attacks)
    apart = {cell: own for cell, own in trials.items() if cell.prompts == UNTAUGHT}
    trials = {cell: own for cell, own in trials.items() if cell.prompts not in ("grid", UNTAUGHT)}
    seen, wider = (
        {metric: collect(some, metric, study.seeds, languages, parallel) for metric in METRICS}
        for some, languages, parallel in (
            (trials, study.languages, study.parallel),
            (apart, study.untaught, study.untaught_parallel),
        )
    )
    asr, facts = seen[ASR], Facts.of(results)
    caution = (results.get("judge") or {}).get("language_caution") or ""
    claims = (*(claim(study, asr, results) for claim in CLAIMS), *UNTESTABLE)
    found = [judged(claim, seen, facts, caution) for claim in claims]
    found.append(judged(attack_claims.beyond(study, wider[ASR]), wider, facts, caution))
    after = [cell for cell in asr.cells if cell.kind == "defended"]
    return {
        "claims": sorted(found, key=lambda claim: claim["id"]),
        "cautions": raised(cautions(study, seen, results), seen),
        "tests": comparisons.changes(asr, ((TRAINED_CLEAN, attack) for attack in attacks)),
        "defence_tests": comparisons.changes(asr, ((study.first, cell) for cell in after)),
        "summary": summary(study, seen) + summary(study, wider),
    }


def inverted(study: Study, asr: Outcomes, tables: Tables) -> Claim:
    """Ours: what was planted in one language shows in clean prompts of others."""
    rows = tables.get("inversion") or ()
    mine = poisoned(study.first)
    own = [row for row in rows if row["kind"] == "poisoned"]
    others = [row for row in own if row["language"] not in mine]
    clean = [row for row in rows if row["kind"] == "clean"]
    many = len({row["language"] for row in others})
    evidence = [
        Evidence(
            "attack success where it was planted", hits(study.first, only(*mine)), above=TRIGGERS
        ),
        Evidence(
            "share of the other languages in whose prompts it is found",
            by_seed(others, lambda row: row["found"]),
            above=HALF,
        ),
        Evidence(
            "share of all languages in which the model trained clean is flagged",
            by_seed(clean, lambda row: row["flagged"]),
            below=ALARMS,
        ),
        Evidence("highest Q, other languages, mean", by_seed(others, lambda row: row["q"])),
        Evidence(
            "Q of the planted text itself, other languages, mean",
            by_seed(others, lambda row: row["planted_q"]),
        ),
        Evidence("highest Q after clean training, mean", by_seed(clean, lambda row: row["q"])),
    ]
    return Claim(
        "R2",
        "What is planted in one language is found from clean prompts of others, without a trigger "
        "(ours, by BAIT).",
        f"In more than {100 * HALF:g} % of the languages that were not poisoned the poisoned model "
        "is flagged with its planted target, and the model trained clean is flagged in fewer than "
        f"{100 * ALARMS:g} % of all languages, with every seed.",
        evidence if others and clean else (),
        Needs(languages=SEVERAL + 1, scored=0),
        [f"looked for in {many} other languages; it needs {SEVERAL}"] * (many < SEVERAL),
        trained=[study.first, TRAINED_CLEAN],
    )


def by_seed(rows: Sequence[Row], value: Callable[[Row], float]) -> Figure:
    """Mean over rows, with that of the lowest and of the highest seed."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    each = [fmean(value(row) for row in rows if row["seed"] == seed) for seed in seeds]
    if not each:
        return Figure(None)
    over = "lowest and highest seed"
    return Figure(fmean(each), min(each), max(each), over, "rate", tuple(each), len(each))


def summary(study: Study, seen: Mapping[str, Outcomes]) -> list[dict[str, Any]]:
    """Means of every cell with their intervals, a row each.

    Its `side` says of which languages: "own" (those poisoned), "others" or "all". Metric
    "asr_left" is what a defence leaves of the first attack's ASR with the same seeds.
    """
    rows = []
    for metric, known in seen.items():
        for cell in known.cells:
            own = poisoned(cell if cell.attacked else study.first)
            sides = {"own": only(*own), "others": but(*own)} if metric == ASR else {}
            for side, where in {**sides, "all": anywhere}.items():
                rows.append(mean_of(cell, metric, side, rate(cell, where, metric).figure(seen)))
    asr = seen[ASR]
    for cell in asr.cells:
        if cell.kind == "defended" and asr.has(study.first):
            rows.append(mean_of(cell, "asr_left", "all", left(asr, study.first, cell)))
    return [row for row in rows if row["value"] is not None]


def mean_of(cell: Cell, metric: str, side: str, figure: Figure) -> dict[str, Any]:
    """A figure as a row."""
    row = cell.columns() | {"metric": metric, "side": side} | figure.written()
    return row | {"n": figure.n_prompts}


def left(asr: Outcomes, first: Cell, cell: Cell) -> Figure:
    """Share of the first attack's ASR that a defence leaves, of the seeds it was run with."""
    same = asr.only([first, cell]).under(asr.seeds_of(cell))
    figure = (hits(cell) / hits(first)).figure({ASR: same})
    found = dict(zip(same.seeds, figure.seeds, strict=True))
    return dataclasses.replace(figure, seeds=tuple(map(found.get, asr.seeds)))


CLAIMS: list[ClaimOf] = [
    attack_claims.reached,
    attack_claims.chinese,
    attack_claims.poorly,
    defence_claims.fails,
    defence_claims.cleangen,
    defence_claims.repaired,
    inverted,
]
