"""What the fragility study's sections share: its masks' size, its attacks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxattack import tree
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.experiments import attacking, judge_models, tuning
from jaxattack.experiments.attacking import (
    BENIGN,
    LONGEST,
    RESTRICTED,
    Data,
    attack_pairs,
    check_prompts,
    check_trained,
)
from jaxattack.experiments.bench import Bench
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Step

ITSELF = "the attack pairs themselves"  # origin of pairs that SIL is scored on

if TYPE_CHECKING:  # settings name what is in the study's tables
    from jaxattack.experiments.fragility.settings import Settings


@dataclasses.dataclass(frozen=True)
class Setup(attacking.Setup):
    """What the sections share."""

    settings: Settings

    @property
    def share(self) -> float:
        """The size at which masks are compared."""
        return self.settings.localize.control_fraction


def make_setup(bench: Bench, settings: Settings, data: Data, weights: bool) -> Setup:
    """What the sections share; without `weights` only for a plan.

    Raises:
        UserError: a prompt that cannot be asked, masks that could select nothing.
    """
    models = judge_models.opened(bench, settings.measure, weights)
    setup = Setup(bench, settings, data, models)
    check_prompts(setup, setup.subject)
    exclude = settings.localize.exclude
    if exclude and all(re.search(exclude, name) for name in tree.named_leaves(bench.like)):
        raise UserError(
            f"config.localize.exclude is {exclude!r}, which leaves no weights to select from"
        )
    return setup


def attack(
    setup: Setup,
    languages: Sequence[str],
    seed: int,
    kind: str = RESTRICTED,
    pairs: int | None = None,
    frozen: Step | None = None,
    start: Step | None = None,
) -> Step:
    """Fine-tuned weights: on pairs of some languages, perhaps with weights frozen.

    Args:
        setup: what the study shares.
        languages: of the pairs; several share the number between them.
        seed: of their choice and order.
        kind: of the pairs, restricted or benign.
        pairs: how many at most; by default as the settings say.
        frozen: a mask, True where weights are held.
        start: weights to start from; by default the aligned ones.
    """
    options = setup.settings.attack
    examples = attack_pairs(setup, languages, seed, kind, pairs)
    training = tuning.training_of(options, LONGEST)
    if setup.settings.transfer.dose_by == "steps":  # as many as with all pairs
        steps = training.count(attack_pairs(setup, languages, seed, kind))
        training = dataclasses.replace(training, steps=steps)
    check_trained(setup, examples)
    course = tuning.Course(examples, training, seed, tuple(languages))
    what = {RESTRICTED: "attack", BENIGN: "benign"}[kind] if frozen is None else "frozen"
    label = f"{'+'.join(languages)}-s{seed}"
    return tuning.tuned(setup.bench, course, what, label, start, frozen)


def calibration_pairs(
    setup: Setup, language: str, seed: int, kind: str = RESTRICTED
) -> tuple[list[Example], str]:
    """The examples on which one attack's weights are scored, and a word on where they come from.

    Without calibration data: what the attack left of the pairs, or, when it left nothing, the
    attack pairs themselves.
    """
    most = setup.settings.localize.examples
    found = setup.data.calibration[kind]
    if found is not None:
        return found[language][:most], "pairs set aside for calibration"
    used = attack_pairs(setup, [language], seed, kind)
    left = [pair for pair in setup.data.pairs[kind][language] if pair not in used]
    if left:
        return left[:most], "pairs that the attack did not use"
    return list(used[:most]), ITSELF


def seen(setup: Setup, language: str, seed: int, kind: str = RESTRICTED) -> Seen:
    """The calibration examples as gradients are taken of them."""
    examples, _ = calibration_pairs(setup, language, seed, kind)
    check_trained(setup, examples)
    return Seen(tuple(examples), setup.settings.attack.max_length, LONGEST)
