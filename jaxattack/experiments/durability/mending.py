"""Repairs that compute with the model, as steps: Safe Delta's moments, rollback, contrast."""

from __future__ import annotations

from typing import Any

from jaxattack.data.dialogues import Cut, Example
from jaxattack.defend import contrast, rollback, safedelta
from jaxattack.evaluate.thoughts import without_thoughts
from jaxattack.experiments import asking, judging, tuning
from jaxattack.experiments.attacking import BENIGN, LONGEST
from jaxattack.experiments.bench import Bench, Decoder, Stored
from jaxattack.experiments.durability.lessons import named
from jaxattack.experiments.durability.setup import REFUSED, Setup, harmful, held, seen
from jaxattack.experiments.durability.shield import Tried
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input, Step
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
    return _mended(setup, tried, rolled, arguments, "rolled")


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
    asked, decoding = (said.step.arguments[name] for name in ("prompts", "decoding"))
    own = []
    for prompt, reply in zip(asked, judging.texts(decoder, asked, said(), decoding), strict=True):
        kind, text = Cut if reply.cut else Example, without_thoughts(reply.text)[0].strip()
        if text:
            own.append(kind(prompt.id, prompt.language, prompt.prompt, text))
    # A reply may be longer than any pair of the defender's.
    longest = harmful.max_length + decoding.max_new_tokens
    kept = Seen(tuple(own), longest, LONGEST).batches(decoder.tokenizer) if own else []
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
    bench, options = setup.bench, setup.settings
    asked = held(setup, BENIGN, tried.languages)
    decoding = asking.Decoding(options.measure.max_new_tokens, options.measure.batch_size)
    label = f"benign-{named(setup, tried)}-s{tried.seed}"
    arguments = {
        "tuned": tuned,
        "start": bench.start,
        "decoder": bench.decoder,
        "harmful": harmful(setup, tried.languages),
        "said": asking.replies(
            bench, tuned, bench.decoder, asked, decoding, label, options.replies == "keep"
        ),
        "plan": contrast.Plan(tried.strength or 0.0, options.after.rounds, options.after.weight),
        "dtype": bench.dtype,
    }
    return _mended(setup, tried, contrasted, arguments, "contrast")


def _mended(setup: Setup, tried: Tried, function: Any, arguments: Any, kind: str) -> Step:
    bench, label = setup.bench, f"{named(setup, tried)}@{tried.strength:g}-s{tried.seed}"
    shelf = bench.shelf(kind, label, tuning.save, Stored("params", bench.like, "float32"))
    return Step(function, arguments, bench.values, shelf, label=f"{kind} {label}")
