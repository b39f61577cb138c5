"""A claim's verdict: from figures with thresholds, and from what had to be measured for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxattack.evaluate import paired
from jaxattack.experiments.needs import Facts, Needs

Evidence = dict[str, Any]
Claim = dict[str, Any]


def claim(
    number: str,
    text: str,
    rule: str,
    evidence: Sequence[Evidence],
    needs: Needs,
    lacks: Sequence[str] = (),
    facts: Facts | None = None,
) -> Claim:
    """A claim and its verdict: of all its evidence that has a threshold.

    Args:
        number: by which the paper's reader knows it.
        text: what is claimed.
        rule: when it holds.
        evidence: figures; those with a threshold decide.
        needs: what has to be measured.
        lacks: what of that was not (see `lacking`); any of it leaves the claim undecided.
        facts: for a caution.
    """
    found = [
        "undecided"
        if e["low"] is None or e["high"] is None
        else paired.verdict(e["low"], e["high"], e["threshold"])
        for e in evidence
        if e.get("threshold") is not None
    ]
    reasons = list(lacks) if found else []
    verdict = "not run" if not found else "undecided" if reasons else "holds"
    if found and not reasons:
        verdict = next((w for w in ("does not hold", "undecided") if w in found), "holds")
    if verdict == "undecided" and not reasons:
        reasons = ["a deciding interval lies across its threshold, or has no bounds"]
    cautions = [facts.caution] if facts and facts.caution and needs.compares_languages else []
    return {
        "id": number, "claim": text, "verdict": verdict, "reasons": reasons, "cautions": cautions,
        "rule": rule, "needs": dataclasses.asdict(needs) | {"text": str(needs)},
        "evidence": list(evidence),
    }  # fmt: skip
