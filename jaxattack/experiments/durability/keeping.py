"""What a tuned model answers benign prompts with, and the gradient of that: what is to be kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxattack.data.dialogues import Example
from jaxattack.experiments import asking, judging, locating
from jaxattack.experiments.attacking import BENIGN, LONGEST
from jaxattack.experiments.bench import Decoder, ids, rounded
from jaxattack.experiments.durability.before import named
from jaxattack.experiments.durability.setup import Setup, held
from jaxattack.experiments.durability.shield import Tried
from jaxattack.experiments.locating import Mean, Seen
from jaxattack.experiments.step import Input, Step
from jaxattack.localize import scores


def own_answers(
    at: Input,
    decoder: Decoder,
    replies: Input,
    prompts: Sequence[Example],
    decoding: asking.Decoding,
    seen: Seen,
    dtype: str,
    label: str,
) -> Mean:
    """Mean gradient of the answers that a model gave; empty ones are left out.

    Args:
        at: weights at which it is taken.
        decoder: the model without them, and its tokenizer.
        replies: what was said.
        prompts: to which.
        decoding: how.
        seen: how long a pair may be; its pairs are those that the model was asked.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.

    Raises:
        UserError: the model said nothing.
    """
    said = judging.said(replies, decoder, prompts, decoding)
    pairs = [
        dataclasses.replace(prompt, response=text)
        for prompt, text in zip(prompts, said, strict=True)
        if text
    ]
    rows = dataclasses.replace(seen, examples=tuple(pairs)).batches(decoder.tokenizer)
    found = scores.mean_gradient(decoder.model, rounded(at, dtype), rows, label=label, moment="sum")
    return Mean(found, ids(pairs))


def kept_gradient(setup: Setup, tried: Tried, tuned: Step, at: Step) -> Step:
    """The same of the tuned model's answers to the defender's benign prompts, to be."""
    bench, options = setup.bench, setup.settings.measure
    prompts = held(setup, BENIGN, tried.languages)
    decoding = asking.Decoding(options.max_new_tokens, options.batch_size)
    label = f"benign-{named(setup, tried)}-s{tried.seed}"
    keep = setup.settings.replies == "keep"
    replies = asking.replies(bench, tuned, bench.decoder, prompts, decoding, label, keep)
    # A reply may be longer than any pair of the defender's.
    longest = setup.settings.attack.max_length + options.max_new_tokens
    arguments = {
        "at": at,
        "decoder": bench.decoder,
        "replies": replies,
        "prompts": prompts,
        "decoding": decoding,
        "seen": Seen(prompts, longest, LONGEST),
        "dtype": bench.dtype,
    }
    return locating.mean_step(bench, own_answers, arguments, "gradients", f"kept-{label}")
