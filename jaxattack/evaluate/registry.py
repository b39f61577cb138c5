"""The judges there are. A judge is a function and a row here."""

from __future__ import annotations

import dataclasses
import functools

from jaxattack.data.poison import Target
from jaxattack.evaluate.backdoor import RULES, by_target
from jaxattack.evaluate.judge import FACTS, REFUSAL_RULE, Judge, by_answers, by_refusal


@dataclasses.dataclass(frozen=True)
class Row:
    """A judge, and its rule in words for who reads its verdicts."""

    judge: Judge
    rule: str


JUDGES: dict[str, Row] = {
    "known answers": Row(by_answers, FACTS),
    "refusal rule": Row(by_refusal, REFUSAL_RULE),
}


def of_target(target: Target) -> Row:
    """The judge of one target behaviour."""
    return Row(functools.partial(by_target, target=target), RULES[target.kind])
