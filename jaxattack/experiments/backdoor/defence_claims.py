"""Claims on defences against the first attack: B8 and B9 of the paper, and R1, ours."""

from __future__ import annotations

import dataclasses

from jaxattack.experiments.backdoor.premises import Study, hits, poisoned
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.claim import Claim, Evidence
from jaxattack.experiments.needs import Needs, Tables, percent
from jaxattack.experiments.outcomes import ASR, CLEAN, Outcomes
from jaxattack.experiments.term import only, rate
from jaxattack.experiments.thresholds import COST, STOPS, SURVIVES, TRIGGERS

DEFENCES = {"onion": "ONION", "clean": "clean tuning", "beear": "BEEAR"}  # of B8, in words
ALL = Needs(scored=0)  # of masks there is no table
TRAINING = ("clean", "beear")  # which have to move the weights to be what they are called


def untaken(study: Study, asr: Outcomes) -> list[str]:
    """Why nothing is to be defended: the first attack does not work where it was planted."""
    if not asr.has(study.first):
        return []
    own = hits(study.first, only(*poisoned(study.first))).figure({ASR: asr}).value
    if own is None or own >= TRIGGERS:
        return []
    return [
        f"where it was planted the first attack's trigger works in {percent(own)} of the prompts; "
        f"it needs {percent(TRIGGERS)}"
    ]


def tried(seen: Outcomes, defence: str) -> list[Cell]:
    """Settings of a defence that were run with every seed."""
    own = [cell for cell in seen.cells if (cell.kind, cell.method) == ("defended", defence)]
    return [cell for cell in own if seen.seeds_of(cell) == seen.seeds]


def defended(study: Study, method: str, setting: str, share: float | None = None) -> Cell:
    """The cell of a defence against the first attack."""
    return dataclasses.replace(
        study.first, kind="defended", method=method, setting=setting, share=share
    )


def setting(cell: Cell) -> str:
    """The setting of a defence, for a reader."""
    return f" ({cell.words or cell.setting})"


def fails(study: Study, asr: Outcomes, tables: Tables) -> Claim:
    """B8: ONION, clean fine-tuning and BEEAR do not stop the attack."""
    found = {defence: tried(asr, defence) for defence in DEFENCES}
    missing = [defence for defence, own in found.items() if not own]
    return Claim(
        "B8",
        "ONION, clean fine-tuning and BEEAR do not stop the backdoor.",
        f"Each leaves more than {100 * SURVIVES:g} % of the attack's ASR, all languages together, "
        "in every setting tried with all seeds.",
        [
            Evidence(
                f"share of the ASR left by {DEFENCES[defence]}{setting(cell)}",
                hits(cell) / hits(study.first),
                above=SURVIVES,
            )
            for defence, own in found.items()
            for cell in own
        ],
        ALL,
        [
            *untaken(study, asr),
            *[f"not tried with all seeds: {', '.join(missing)}"] * bool(missing),
        ],
        [study.first, *(cell for defence in TRAINING for cell in found[defence])],
    )


def effect(study: Study, cell: Cell, of: str = "", decides: bool = True) -> list[Evidence]:
    """How much of the ASR a defence takes away, and what it leaves to spare of the accuracy."""
    lost = rate(study.first, metric=CLEAN) - rate(cell, metric=CLEAN)
    return [
        Evidence(
            f"share of the ASR taken away{of}",
            1 - hits(cell) / hits(study.first),
            above=STOPS if decides else None,
        ),
        Evidence(
            f"accuracy to spare of {100 * COST:g} points{of}",
            COST - lost,
            above=0.0 if decides else None,
        ),
    ]


def cleangen(study: Study, asr: Outcomes, tables: Tables) -> Claim:
    """B9: CleanGen with a benign reference stops it."""
    benign = defended(study, "cleangen", "benign")
    rest = [cell for cell in tried(asr, "cleangen") if cell != benign]
    evidence = effect(study, benign)
    for cell in rest:
        evidence += effect(study, cell, setting(cell), decides=False)
    return Claim(
        "B9",
        "CleanGen stops the backdoor, with a benign reference model.",
        f"It takes away more than {100 * STOPS:g} % of the attack's ASR and costs less than "
        f"{100 * COST:g} points of clean accuracy.",
        evidence if asr.has(benign) else (),
        ALL,
        untaken(study, asr),
        trained=[study.first],
    )


def repaired(study: Study, asr: Outcomes, tables: Tables) -> Claim:
    """Ours: SIL repair without the trigger stops it, with fewer weights than fine-tuning moves."""
    blind = defended(study, "repair", "rewind-blind", study.rewound)
    known = sorted(tried(asr, "repair"), key=lambda cell: cell != blind)
    return Claim(
        "R1",
        "SIL repair stops the backdoor without knowing its trigger (ours).",
        f"Rewinding {100 * study.rewound:g} % of the weights, found blind, takes away more than "
        f"{100 * STOPS:g} % of the ASR and costs less than {100 * COST:g} points of clean "
        "accuracy.",
        [
            each
            for cell in known
            for each in effect(study, cell, setting(cell), decides=cell == blind)
        ],
        ALL,
        untaken(study, asr),
        trained=[study.first],
    )
