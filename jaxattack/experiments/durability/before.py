"""Defences before a tuning: weights that are hard to lead astray, weights that may not move."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from jaxattack.data import batches
from jaxattack.data.dialogues import Arrays
from jaxattack.defend import booster, lox, vaccine
from jaxattack.experiments import attacking, tuning
from jaxattack.experiments.attacking import LONGEST, RESTRICTED
from jaxattack.experiments.bench import Decoder, Stored
from jaxattack.experiments.durability.attacks import sil_mask
from jaxattack.experiments.durability.setup import Setup, held, safe, seen
from jaxattack.experiments.durability.shield import Made, Shield, Tried
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input, Step
from jaxattack.localize import masks
from jaxattack.train.loop import finetune
from jaxattack.train.moved import shares_moved
from jaxattack.train.optimizer import Settings as Updates


@dataclasses.dataclass(frozen=True)
class Lesson:
    """How the defender tunes on its pairs.

    Attributes:
        updates: the optimiser.
        epochs, batch_size: over the safe pairs.
        seed: of their order.
    """

    updates: Updates
    epochs: int
    batch_size: int
    seed: int

    def batches(self, seen: Seen, tokenizer: Any, epochs: int | None = None) -> list[Arrays]:
        """Pairs in the order in which they are learned."""
        rows = seen.rows(tokenizer)
        return batches.epochs(rows, self.batch_size, epochs or self.epochs, self.seed)


def lesson_of(setup: Setup, tried: Tried) -> Lesson:
    """The defender's tuning as the settings say."""
    options = setup.settings.harden
    return Lesson(options.updates(), options.epochs, options.batch_size, tried.seed)


# --- Steps ----------------------------------------------------------------------------------------


def hardened(
    start: Input,
    decoder: Decoder,
    safe: Seen,
    harmful: Seen | None,
    lesson: Lesson,
    way: Any,
    dtype: str,
    label: str,
) -> tuning.Tuned:
    """Weights after the defender's tuning.

    Args:
        start: where it begins.
        decoder: what is tuned.
        safe: pairs with the answers it wants.
        harmful: pairs with those it does not; None: the way needs none.
        lesson: how it tunes.
        way: a `booster.Booster`, a `vaccine.Vaccine`, or None for plain tuning.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
    """
    options: dict[str, Any] = {"dtype": dtype, "label": label}
    params, good = start.alone(), lesson.batches(safe, decoder.tokenizer)
    if isinstance(way, booster.Booster):
        assert harmful is not None
        bad = lesson.batches(harmful, decoder.tokenizer)
        found = booster.aligned(decoder.model, params, good, bad, lesson.updates, way, **options)
    elif isinstance(way, vaccine.Vaccine):
        found = vaccine.aligned(decoder.model, params, good, lesson.updates, way, **options)
    else:
        found = finetune(decoder.model, params, good, lesson.updates, **options)
    tuned, history = found
    languages = tuple(dict.fromkeys(row.language for row in safe.examples))
    moved = shares_moved(params, tuned, dtype, None) | {"languages": list(languages)}
    return tuning.Tuned(tuned, [float(loss) for loss in history], {tuning.MOVED: moved})


def lesson_step(setup: Setup, tried: Tried, way: Any, name: str) -> Step:
    """The weights after the defender's tuning, to be."""
    bench = setup.bench
    harmful = seen(setup, held(setup, RESTRICTED, tried.languages))
    good, lesson = seen(setup, safe(setup, tried.languages)), lesson_of(setup, tried)
    arguments = {
        "start": bench.start,
        "decoder": bench.decoder,
        "safe": good,
        "harmful": harmful if isinstance(way, booster.Booster) else None,
        "lesson": lesson,
        "way": way,
        "dtype": bench.dtype,
    }
    steps = -(-len(good.examples) // lesson.batch_size) * lesson.epochs
    label = f"{name}-{named(setup, tried)}-s{tried.seed}"
    shelf = bench.shelf(
        "align",
        label,
        tuning.save,
        Stored("params", bench.like, "float32"),
        steps=steps,
        rows=steps * lesson.batch_size,
    )
    return Step(hardened, arguments, bench.values, shelf, label=f"align {label}")


def named(setup: Setup, tried: Tried) -> str:
    """The languages of the defender's pairs, in a word."""
    every = tuple(setup.held[attacking.RESTRICTED])
    return "all" if tried.languages == every else "+".join(tried.languages)


# --- Defences -------------------------------------------------------------------------------------


def by_lox(setup: Setup, tried: Tried) -> Made:
    """LoX: the alignment's change of the weights, once more."""
    assert setup.base is not None
    further = setup.bench.values.derived(lox.extrapolated, setup.base, setup.bench.start)
    return Made(Shield(further, label="lox"))


def by_booster(setup: Setup, tried: Tried) -> Made:
    """Booster: alignment under which a harmful step gains little."""
    options = setup.settings.harden
    way = booster.Booster(options.strength, options.step)
    return _shielded(setup, tried, way, "booster")


def by_vaccine(setup: Setup, tried: Tried) -> Made:
    """Vaccine: alignment under the worst small shift of states."""
    way = vaccine.Vaccine(setup.settings.harden.radius)
    return _shielded(setup, tried, way, "vaccine")


def again(setup: Setup, tried: Tried) -> Made:
    """Plain tuning on the same pairs: what Booster's and Vaccine's terms add is seen beside it."""
    return _shielded(setup, tried, None, "again")


def _shielded(setup: Setup, tried: Tried, way: Any, name: str) -> Made:
    label = f"{name}-{named(setup, tried)}"
    return Made(Shield(lesson_step(setup, tried, way, name), label=label))


def by_freezing(setup: Setup, tried: Tried) -> Made:
    """Paper A: SIL's weights are held; found in an attack of the defender's own."""
    return Made(Shield(frozen=frozen_after(setup, tried, 1), label="freeze"))


def by_freezing_more(setup: Setup, tried: Tried) -> Made:
    """The masks of several such attacks, each with the masks before it held."""
    rounds = setup.settings.during.rounds
    return Made(Shield(frozen=frozen_after(setup, tried, rounds), label="freeze_more"))


def frozen_after(setup: Setup, tried: Tried, rounds: int) -> Step:
    """Union of SIL's masks of so many attacks that the defender tries."""
    derived, found = setup.bench.values.derived, None
    for number in range(rounds):
        tuned = own_attack(setup, tried, found, number)
        mask = sil_mask(setup, tuned, tried.languages)
        found = mask if found is None else derived(masks.union, found, mask)
    assert found is not None
    return found


def own_attack(setup: Setup, tried: Tried, frozen: Step | None, number: int) -> Step:
    """An attack by the defender, with its own restricted pairs."""
    rows = held(setup, RESTRICTED, tried.languages)
    training = tuning.training_of(setup.settings.attack, LONGEST)
    course = tuning.Course(rows, training, tried.seed, tried.languages)
    label = f"defender-{number + 1}-{named(setup, tried)}-s{tried.seed}"
    return tuning.tuned(setup.bench, course, "attack", label, frozen=frozen)


safe_expert = functools.partial(lesson_step, way=None, name="again")  # of (setup, tried)
