"""What limits how the figures of a durability study may be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.experiments.cautions import Caution, one_seed
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.claim import Evidence
from jaxattack.experiments.durability.premises import (
    ALIGNED,
    BENIGN,
    TASK,
    Seen,
    Study,
    swept,
    task,
    there,
)
from jaxattack.experiments.durability.sweeping import NONE
from jaxattack.experiments.outcomes import VIOLATION
from jaxattack.experiments.term import Figure, added, best
from jaxattack.experiments.thresholds import DAMAGE, LEARNED, TOOK
from jaxattack.report.labels import word


def cautions(study: Study, seen: Seen, results: Mapping[str, Any]) -> list[Caution | None]:
    """What limits how the figures may be read."""
    found: list[Caution | None] = [one_seed(study.seeds)]
    answered, none = seen[VIOLATION], study.single(NONE)
    if answered.has(swept(NONE)):
        found.append(
            Caution(
                "took",
                "Attack",
                "The worst attack hardly breaks the undefended model: there is little to defend "
                "against.",
                [Evidence("violations it adds", added(swept(NONE), ALIGNED), above=TOOK)],
            )
        )
    if seen[TASK].has(none):
        found.append(
            Caution(
                "task",
                "Utility",
                "The tuning hardly learns what it is for, so little of that can be lost.",
                [Evidence("rate of the task, undefended", task(none), above=LEARNED)],
            )
        )
    ruined = sorted(
        {
            row["method"]
            for row in results.get("choice") or ()
            if row["chosen"] and not row["useful"]
        }
    )
    if ruined:
        found.append(_ruined(ruined))
    cells = there(seen, [Cell("shielded", method=name) for name in study.defences])
    known = [cell for cell in cells if seen[BENIGN].has(cell, ALIGNED)]
    if known:
        found.append(
            Caution(
                "cost",
                "Utility",
                "A defence costs benign accuracy before anyone has attacked.",
                [
                    Evidence(
                        "accuracy lost to one of them, the most",
                        best([added(ALIGNED, cell, metric=BENIGN) for cell in known]),
                        below=DAMAGE,
                    )
                ],
            )
        )
    return found


def _ruined(methods: Sequence[str]) -> Caution:
    names = ", ".join(word("method", name) for name in methods)
    return Caution(
        "ruined",
        "Utility",
        f"No attack kept the model useful under {names}: the worst of all attacks is shown, and "
        "the model is of little use.",
        [Evidence("such defences", Figure(len(methods), unit="count", over="defences"), below=1)],
    )
