"""The defender's tuning on its own pairs, as a step: Booster, Vaccine, or plain."""

from __future__ import annotations

from typing import Any

from jaxattack.defend import booster, vaccine
from jaxattack.experiments import tuning
from jaxattack.experiments.attacking import RESTRICTED
from jaxattack.experiments.bench import Decoder, Stored
from jaxattack.experiments.durability.setup import Lesson, Setup, harmful, lesson_of, safe, seen
from jaxattack.experiments.durability.shield import Tried
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input, Step
from jaxattack.train.loop import finetune
from jaxattack.train.moved import shares_moved


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
    bad = harmful(setup, tried.languages)
    good, lesson = seen(setup, safe(setup, tried.languages)), lesson_of(setup, tried.seed)
    arguments = {
        "start": bench.start,
        "decoder": bench.decoder,
        "safe": good,
        "harmful": bad if isinstance(way, booster.Booster) else None,
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
    every = tuple(setup.held[RESTRICTED])
    return "all" if tried.languages == every else "+".join(tried.languages)


def safe_expert(setup: Setup, tried: Tried) -> Step:
    """The aligned model tuned on the defender's pairs: more of the same alignment."""
    return lesson_step(setup, tried, None, "again")
