"""What limits how the figures of a durability study may be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.experiments.cautions import (
    Caution,
    cut_refusals,
    one_seed,
    refusal_rule,
    silent_judge,
)
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
from jaxattack.experiments.outcomes import VIOLATION, Trials
from jaxattack.experiments.term import Figure, added, best
from jaxattack.experiments.thresholds import DAMAGE, LEARNED, TOOK
from jaxattack.report.labels import word

RUINED = (
    "No attack kept the model useful under {names}: the worst of all attacks is shown, and the "
    "model is of little use."
)
IDLE = (
    "After the first attack every reply under {names} is the same as undefended: it did nothing at "
    "the strength that was swept, so its row says nothing of what it can do."
)


def cautions(
    study: Study, seen: Seen, results: Mapping[str, Any], trials: Trials
) -> list[Caution | None]:
    """What limits how the figures may be read."""
    found: list[Caution | None] = [
        one_seed(study.seeds),
        silent_judge(results.get("alone") or ()),
        refusal_rule(results.get("judge") or {}, study.languages),
        cut_refusals(results.get("judge") or {}, results.get("rows") or ()),
    ]
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
        found.append(_named("ruined", RUINED, ruined))
    if still := idle(study, trials):
        found.append(_named("idle", IDLE, still))
    cells = there(seen, [Cell("shielded", method=name) for name in study.defences])
    if cells and seen[VIOLATION].has(ALIGNED):
        found.append(
            Caution(
                "unaligned",
                "Defences",
                "A defence has the model answer restricted prompts before anyone has attacked.",
                [
                    Evidence(
                        "violations that one of them adds, the most",
                        best([added(cell, ALIGNED) for cell in cells]),
                        below=DAMAGE,
                    )
                ],
            )
        )
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


def idle(study: Study, trials: Trials) -> list[str]:
    """Defences that changed no reply after the first attack: none was tried at its strength."""
    said = {
        name: [
            [trial.reply_hash for trial in trials.get(study.single(name).of(seed), ())]
            for seed in study.seeds
        ]
        for name in (NONE, *study.defences)
    }
    return [name for name in study.defences if any(said[name]) and said[name] == said[NONE]]


def _named(id: str, text: str, methods: Sequence[str]) -> Caution:
    names = ", ".join(word("method", name) for name in methods)
    such = Figure(len(methods), unit="count", over="defences")
    return Caution(
        id, "Utility", text.format(names=names), [Evidence("such defences", such, below=1)]
    )
