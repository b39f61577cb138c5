"""The defences there are. A defence is a function and a row here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxattack.experiments.durability import after, before, during
from jaxattack.experiments.durability.shield import Defence
from jaxattack.localize.rivals import SCORES

if TYPE_CHECKING:  # settings name the defences
    from jaxattack.experiments.durability.settings import After


@dataclasses.dataclass(frozen=True)
class Row:
    """A defence.

    Attributes:
        make: makes it ready.
        stage: "before", "during" or "after" the tuning.
        by: whose it is: "published", "paper A", "ours" or "control".
        strengths: of the settings, those it is tried with; the first is swept.
        needs_base: whether it needs the model before it was aligned.
        alone: whether it is also tried with pairs of one language.
    """

    make: Defence
    stage: str
    by: str = "published"
    strengths: Callable[[After], tuple[float, ...]] | None = None
    needs_base: bool = False
    alone: bool = False

    def tried(self, options: After) -> tuple[float | None, ...]:
        """The strengths; None for that of a defence that has none."""
        return self.strengths(options) if self.strengths else (None,)


def _put_back(make: Defence, by: str, alone: bool = False) -> Row:
    """One that puts shares of the weights back."""
    return Row(make, "after", by, lambda options: options.shares, alone=alone)


DEFENCES: dict[str, Row] = {
    "lox": Row(before.by_lox, "before", needs_base=True),
    "again": Row(before.again, "before", "control", alone=True),
    "booster": Row(before.by_booster, "before", alone=True),
    "vaccine": Row(before.by_vaccine, "before", alone=True),
    "freeze": Row(before.by_freezing, "before", "paper A", alone=True),
    "freeze_more": Row(before.by_freezing_more, "before", "ours"),
    "lisa": Row(during.by_lisa, "during", alone=True),
    "asft": Row(during.by_asft, "during", needs_base=True),
    "safelora": Row(
        after.by_safelora, "after", strengths=lambda options: options.least, needs_base=True
    ),
    "safemerge": Row(
        after.by_safemerge,
        "after",
        strengths=lambda options: options.thresholds,
        needs_base=True,
    ),
    "safedelta": Row(after.by_safedelta, "after", strengths=lambda options: options.budgets),
    "rollback": Row(after.by_rollback, "after", strengths=lambda options: options.rolled),
    "antidote": Row(after.by_antidote, "after", strengths=lambda options: options.removed),
    "swapping": Row(after.by_swapping, "after"),
    "scaling": Row(after.by_scaling, "after", "control", strengths=lambda options: options.scaled),
    "random": _put_back(after.by_chance, "control"),
    **{
        name: _put_back(functools.partial(after.by_score, score=name), "control") for name in SCORES
    },
    "sil": _put_back(after.by_sil, "paper A", alone=True),
    "repair": _put_back(after.by_signs, "ours"),
    "relearn": Row(after.by_relearning, "after", "control"),
    "contrast": Row(
        after.by_contrast, "after", "ours", lambda options: options.contrasted, alone=True
    ),
}
