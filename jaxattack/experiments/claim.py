"""A claim: what is said, and figures that lie on the right side of a bound where it holds.

Judging one is a function of trials and finished tables, so other words or bounds run no step again.
A rule is met if the figure's interval lies beyond its bound, not met if it lies on the other side,
undecided if it lies across, or if less was measured than the claim needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxattack.evaluate import paired
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.needs import Facts, Needs, lacking
from jaxattack.experiments.term import Figure, OfCells, Seen


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One figure; with a bound it decides.

    Attributes:
        what: the figure is.
        figure: to be computed of trials, or known from a table.
        above: the figure has to be above this.
        below: the figure has to be below this.
        lacking: what is said where a deciding figure was not measured.
    """

    what: str
    figure: OfCells | Figure
    above: float | None = None
    below: float | None = None
    lacking: str = ""

    @property
    def decides(self) -> bool:
        """Whether it has a bound."""
        return self.above is not None or self.below is not None

    def measured(self, seen: Seen) -> bool:
        """Whether all that it is made of was."""
        return isinstance(self.figure, Figure) or self.figure.measured(seen)

    def written(self, seen: Seen) -> dict[str, Any]:
        """As results.json has it."""
        figure = self.figure if isinstance(self.figure, Figure) else self.figure.figure(seen)
        bound = {} if self.below is None else {"bound": "below"}
        threshold = self.above if self.below is None else self.below
        return {"what": self.what, "threshold": threshold, **bound, **figure.written()}


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, and the figures that decide it.

    Attributes:
        id: by which the paper's reader knows it.
        text: what is claimed.
        rule: when it holds, in words.
        evidence: figures; those with a bound decide.
        needs: what has to be measured; None: no study of this kind can test it.
        lacks: what of that was not, in words; any of it leaves the claim undecided.
        trained: cells whose training has to have moved the weights.
    """

    id: str
    text: str
    rule: str
    evidence: Sequence[Evidence] = ()
    needs: Needs | None = None
    lacks: Sequence[str] = ()
    trained: Sequence[Cell] = ()


def judged(claim: Claim, seen: Seen, facts: Facts, caution: str = "") -> dict[str, Any]:
    """A claim with its figures and its verdict, as results.json has it.

    Args:
        claim: with figures of trials.
        seen: the trials, by what counts as a hit.
        facts: what is known of weights.
        caution: on comparing languages.
    """
    needs = claim.needs
    written: dict[str, Any] = {"id": claim.id, "claim": claim.text, "rule": claim.rule}
    if needs is None:
        nothing: dict[str, Any] = {"reasons": [], "cautions": [], "needs": None, "evidence": []}
        return written | {"verdict": "not testable here"} | nothing
    shown = [each for each in claim.evidence if each.measured(seen)]
    deciding = [each for each in shown if each.decides]
    evidence = [_sided(each, each.written(seen)) for each in shown]
    draw = next((outcomes.draw for outcomes in seen.values()), "seed")
    missing = [e.lacking for e in claim.evidence if e.lacking and e not in shown]
    reasons = [*claim.lacks, *missing, *_lacking(claim, needs, deciding, seen, facts)]
    verdict, why = _verdict([row for row in evidence if row["threshold"] is not None], reasons)
    return written | {
        "verdict": verdict,
        "reasons": why,
        "cautions": [caution] if caution and needs.compares_languages else [],
        "needs": dataclasses.asdict(needs) | {"text": needs.text(draw)},
        "evidence": evidence,
    }


def _lacking(
    claim: Claim, needs: Needs, deciding: Sequence[Evidence], seen: Seen, facts: Facts
) -> list[str]:
    """What the trials lack of which the deciding figures are made."""
    figures = [e.figure for e in deciding if not isinstance(e.figure, Figure)]
    found: list[str] = []
    for metric in dict.fromkeys(figure.metric for figure in figures):
        own = {cell for figure in figures if figure.metric == metric for cell in figure.cells}
        used = seen[metric].only([cell for cell in seen[metric].cells if cell in own])
        found += lacking(needs, used, facts, claim.trained)
    return list(dict.fromkeys(found))


def _verdict(deciding: Sequence[dict[str, Any]], reasons: list[str]) -> tuple[str, list[str]]:
    """Whether all figures are beyond their bounds, and why that cannot be told."""
    if not deciding:
        return "not run", []
    if reasons:
        return "undecided", reasons
    found = [row["side"] for row in deciding]
    verdict = next((word for word in ("does not hold", "undecided") if word in found), "holds")
    if verdict == "undecided":
        return verdict, ["a deciding interval lies across its threshold, or has no bounds"]
    return verdict, []


def _sided(evidence: Evidence, row: dict[str, Any]) -> dict[str, Any]:
    """A figure as it is written, with the verdict that it gives if it decides."""
    return row | {"side": _side(row)} if evidence.decides else row


def _side(row: dict[str, Any]) -> str:
    low, high, threshold = row["low"], row["high"], row["threshold"]
    if low is None or high is None:
        return "undecided"
    if row.get("bound") == "below":
        # Of what is counted, one is not fewer than one: half-way between them is the bound.
        threshold -= 0.5 * (row["unit"] == "count")
        low, high, threshold = -high, -low, -threshold
    return paired.verdict(low, high, threshold)
