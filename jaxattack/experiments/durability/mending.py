"""Repairs that compute with the model, as steps: Safe Delta, rollback, contrast, taught anew."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxattack.data.dialogues import Cut, Example
from jaxattack.defend import contrast, rollback, safedelta
from jaxattack.evaluate.thoughts import without_thoughts
from jaxattack.experiments import asking, judging, tuning
from jaxattack.experiments.attacking import BENIGN, LONGEST
from jaxattack.experiments.bench import Bench, Decoder, Stored
from jaxattack.experiments.durability.lessons import named
from jaxattack.experiments.durability.setup import (
    REFUSED,
    Lesson,
    Setup,
    harmful,
    held,
    lesson_of,
    seen,
)
from jaxattack.experiments.durability.shield import Tried
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input, Step
from jaxattack.train.loop import finetune
from jaxattack.tree import Tree


def moments(bench: Bench, seen: Seen) -> Step:
    """Second moments of what the aligned model's matrices multiply on pairs, to be."""
    arguments = {"start": bench.start, "decoder": bench.decoder, "seen": seen}
    return Step(second_moments, arguments, bench.values, often=True)


def second_moments(start: Input, decoder: Decoder, seen: Seen) -> Tree:
    """These moments."""
    return safedelta.second_moments(decoder.model, start(), seen.batches(decoder.tokenizer))


def rolled(
    tuned: Input,
    start: Input,
    decoder: Decoder,
    refused: Seen,
    benign: Seen,
    plan: rollback.Plan,
    dtype: str,
    label: str,
) -> tuning.Tuned:
    """Weights after gradient rollback.

    Args:
        tuned: where it begins.
        start: weights that go back go there.
        decoder: the model without them, and its tokenizer.
        refused: pairs whose states should be the start's.
        benign: pairs whose states should be the tuned model's.
        plan: how much goes back.
        dtype: in which states are computed.
        label: what the progress bar says.
    """
    found, history = rollback.rolled_back(
        decoder.model,
        tuned(),
        start(),
        refused.rows(decoder.tokenizer),
        benign.rows(decoder.tokenizer),
        plan,
        label,
        dtype,
    )
    losses = {name: [float(value) for value in values] for name, values in history.items()}
    return tuning.Tuned(found, losses, {})


def rolled_back(setup: Setup, tried: Tried, tuned: Step) -> Step:
    """The same, to be."""
    bench = setup.bench
    arguments = {
        "tuned": tuned,
        "start": bench.start,
        "decoder": bench.decoder,
        "refused": seen(setup, held(setup, REFUSED, tried.languages)),
        "benign": seen(setup, held(setup, BENIGN, tried.languages)),
        "plan": rollback.Plan(tried.strength or 0.0, setup.settings.after.steps),
        "dtype": bench.dtype,
    }
    return _mended(setup, tried, tuned, rolled, arguments, "rolled")


# --- Contrast -------------------------------------------------------------------------------------


def contrasted(
    tuned: Input,
    start: Input,
    decoder: Decoder,
    harmful: Seen,
    said: Input,
    plan: contrast.Plan,
    dtype: str,
    label: str,
) -> tuning.Tuned:
    """Weights after contrast repair.

    Args:
        tuned: where it begins.
        start: weights that go back go there.
        decoder: the model without them, and its tokenizer.
        harmful: restricted pairs with answers that are not wanted.
        said: replies of the tuned model to benign prompts; empty ones are left out, and of those
            that were cut it is not learned that they end there.
        plan: how much goes back.
        dtype: in which losses see the weights.
        label: what the progress bar says.

    Raises:
        UserError: the model said nothing.
    """
    own = own_words(decoder, said, harmful.max_length)
    kept = own.batches(decoder.tokenizer) if own.examples else []
    found = contrast.repaired(
        decoder.model,
        tuned(),
        start(),
        harmful.batches(decoder.tokenizer),
        kept,
        plan,
        label,
        dtype,
    )
    return tuning.Tuned(found, [], {})


def by_contrast(setup: Setup, tried: Tried, tuned: Step) -> Step:
    """The same, to be."""
    bench, options = setup.bench, setup.settings.after
    arguments = {
        "tuned": tuned,
        "start": bench.start,
        "decoder": bench.decoder,
        "harmful": harmful(setup, tried.languages),
        "said": said_to_benign(setup, tried, tuned),
        "plan": contrast.Plan(tried.strength or 0.0, options.rounds, options.weight),
        "dtype": bench.dtype,
    }
    return _mended(setup, tried, tuned, contrasted, arguments, "contrast")


def said_to_benign(setup: Setup, tried: Tried, tuned: Step) -> Step:
    """What the tuned model answers to the defender's benign prompts, to be."""
    bench, options = setup.bench, setup.settings
    asked = held(setup, BENIGN, tried.languages)
    decoding = asking.Decoding(options.measure.max_new_tokens, options.measure.batch_size)
    label = f"benign-{named(setup, tried)}-{_label(tuned)}"
    keep = options.replies == "keep"
    return asking.replies(bench, tuned, bench.decoder, asked, decoding, label, keep)


def own_words(decoder: Decoder, said: Input, longest: int) -> Seen:
    """A model's replies as pairs to learn: empty ones are left out, cut ones have no end.

    Args:
        decoder: the model without weights, and its tokenizer.
        said: its replies.
        longest: pair of the defender's, in tokens; one with a reply may be longer.
    """
    asked, decoding = (said.step.arguments[name] for name in ("prompts", "decoding"))
    own = []
    for prompt, reply in zip(asked, judging.texts(decoder, asked, said(), decoding), strict=True):
        kind, text = Cut if reply.cut else Example, without_thoughts(reply.text)[0].strip()
        if text:
            own.append(kind(prompt.id, prompt.language, prompt.prompt, text))
    return Seen(tuple(own), longest + decoding.max_new_tokens, LONGEST)


# --- Taught anew ----------------------------------------------------------------------------------


def relearned(
    start: Input,
    decoder: Decoder,
    refused: Seen,
    said: Input,
    lesson: Lesson,
    dtype: str,
    label: str,
) -> tuning.Tuned:
    """The aligned weights, taught what the tuned model says to benign prompts, and to refuse.

    Nothing of the tuned weights is left.

    Args:
        start: where it begins.
        decoder: what is tuned.
        refused: restricted prompts with refusals.
        said: replies of the tuned model to benign prompts, as `contrasted` has them.
        lesson: how it is taught.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
    """
    own = own_words(decoder, said, refused.max_length)
    rows = dataclasses.replace(own, examples=(*refused.examples, *own.examples))
    params = start.alone()
    taught, history = finetune(
        decoder.model,
        params,
        lesson.batches(rows, decoder.tokenizer),
        lesson.updates,
        dtype=dtype,
        label=label,
    )
    return tuning.Tuned(taught, [float(loss) for loss in history], {})


def by_relearning(setup: Setup, tried: Tried, tuned: Step) -> Step:
    """The same, to be."""
    bench = setup.bench
    arguments = {
        "start": bench.start,
        "decoder": bench.decoder,
        "refused": seen(setup, held(setup, REFUSED, tried.languages)),
        "said": said_to_benign(setup, tried, tuned),
        "lesson": lesson_of(setup, tried.seed),
        "dtype": bench.dtype,
    }
    return _mended(setup, tried, tuned, relearned, arguments, "relearned")


def _mended(
    setup: Setup, tried: Tried, tuned: Step, function: Any, arguments: Any, kind: str
) -> Step:
    bench = setup.bench
    strength = "" if tried.strength is None else f"@{tried.strength:g}"
    label = f"{named(setup, tried)}{strength}-{_label(tuned)}"
    shelf = bench.shelf(kind, label, tuning.save, Stored("params", bench.like, "float32"))
    return Step(function, arguments, bench.values, shelf, label=f"{kind} {label}")


def _label(tuned: Step) -> str:
    """Which tuning is mended, with its seed, for people."""
    return tuned.shelf.label if tuned.shelf else tuned.id
