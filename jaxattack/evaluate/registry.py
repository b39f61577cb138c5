"""The judges there are. A judge is a function and a row here."""

from __future__ import annotations

import dataclasses
import functools

from jaxattack.data.poison import Target
from jaxattack.evaluate.backdoor import RULES, by_target
from jaxattack.evaluate.judge import FACTS, REFUSAL_RULE, Judge, by_answers, by_refusal


@dataclasses.dataclass(frozen=True)
class Row:
    """A judge.

    Attributes:
        judge: what it does.
        rule: the same in words, for who reads its verdicts.
        needs_answers: it has no verdict on prompts without known answers.
    """

    judge: Judge
    rule: str
    needs_answers: bool = False


JUDGES: dict[str, Row] = {
    "known answers": Row(by_answers, FACTS, needs_answers=True),
    "refusal rule": Row(by_refusal, REFUSAL_RULE),
}


def of_target(target: Target) -> Row:
    """The judge of one target behaviour."""
    return Row(functools.partial(by_target, target=target), RULES[target.kind])
