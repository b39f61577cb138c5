"""Replies and judgements as steps: a model is asked once, whatever judges its replies.

Replies are kept as tokens in their step's folder, for the owner of the files alone.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack import sums, workdir
from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.defend import cleangen
from jaxattack.experiments.bench import Bench, Decoder, rounded
from jaxattack.experiments.step import Input, Step
from jaxattack.models.generate import generate_tokens, stop_ids
from jaxattack.models.prompts import check_lengths

NOTICE = (
    "Replies, as tokens, of a model that may have been attacked. They may be harmful or false. "
    "Kept so that another judge need not ask again; --config.replies=discard keeps none."
)
SETTING = "config.measure.max_new_tokens"  # in errors


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How replies are decoded: the longest, in tokens, and how many prompts at once."""

    max_new_tokens: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Replies:
    """What a model wrote, in the order of the prompts.

    Attributes:
        tokens: of every reply, without what ends it.
        replaced: the share of each that guarded decoding replaced.
        seconds: how long it took, what had to be compiled included.
    """

    tokens: Sequence[Sequence[int]]
    replaced: Sequence[float]
    seconds: float


def encoded(decoder: Decoder, prompts: Sequence[Example], max_new_tokens: int) -> list[list[int]]:
    """The prompts as tokens.

    An empty one is refused before this (`writing.check_asked`), but a filter may leave nothing.
    """
    found = [prompt_tokens(decoder.tokenizer, row.prompt) for row in prompts]
    lengths, names = [len(ids) for ids in found], [row.id for row in prompts]
    check_lengths(decoder.model.config, lengths, max_new_tokens, names, SETTING)
    return found


def ask(
    weights: Input,
    decoder: Decoder,
    prompts: Sequence[Example] | Input,
    decoding: Decoding,
    dtype: str,
    label: str,
    reference: Input | None = None,
    guard: cleangen.Guard | None = None,
) -> Replies:
    """Greedy replies; with a guard those of guarded decoding, which asks a reference model too.

    Args:
        weights: of the model that is asked.
        decoder: the model without them, and its tokenizer.
        prompts: what is asked, N of them.
        decoding: how many tokens at most, and prompts at once.
        dtype: in which the weights are asked.
        label: what the progress bar says.
        reference: weights of the guard's reference model.
        guard: when a token is replaced.
    """
    rows = prompts() if isinstance(prompts, Input) else prompts
    asked = encoded(decoder, rows, decoding.max_new_tokens)
    stops = stop_ids(decoder.tokenizer, decoder.model.config.stops)
    own = rounded(weights, dtype)
    start = time.perf_counter()
    if guard is None or reference is None:
        tokens = generate_tokens(
            decoder.model, own, asked, stops, decoding.max_new_tokens, decoding.batch_size, label
        )
        replaced = [0.0] * len(tokens)
    else:
        tokens, shares = cleangen.guarded_tokens(
            (decoder.model, own),
            (decoder.model, rounded(reference, dtype)),
            asked,
            stops,
            decoding.max_new_tokens,
            guard,
            decoding.batch_size,
            label,
        )
        replaced = [round(float(share), 6) for share in shares]
    seconds = round(time.perf_counter() - start, 3)
    return Replies([[int(token) for token in reply] for reply in tokens], replaced, seconds)


def replies(
    bench: Bench,
    weights: Step,
    decoder: Decoder,
    prompts: Sequence[Example] | Step,
    decoding: Decoding,
    label: str,
    keep: bool = True,
    guarded: Mapping[str, Any] | None = None,
) -> Step:
    """The replies, to be.

    Args:
        bench: what a study computes with.
        weights: of the model that is asked.
        decoder: the model without them, and its tokenizer.
        prompts: what is asked, or a filter's step that says so.
        decoding: how many tokens at most, and prompts at once.
        label: names the step for people.
        keep: on disk; else they are asked for anew by every judge.
        guarded: `reference` and `guard` of guarded decoding.
    """
    arguments = {
        "weights": weights,
        "decoder": decoder,
        "prompts": prompts,
        "decoding": decoding,
        "dtype": bench.dtype,
        **(guarded or {}),
    }
    # A filter's step is given the prompts that it takes the place of.
    count = len(prompts.arguments["prompts"] if isinstance(prompts, Step) else prompts)
    asked = count * (2 if guarded else 1)
    shelf = bench.shelf("ask", label, save, load, prompts=asked) if keep else None
    return Step(ask, arguments, bench.values, shelf, label=f"ask {label}")


def save(folder: pathlib.Path, found: Replies) -> None:
    """Keep replies, readable by the owner alone."""
    content = {"notice": NOTICE, "tokens": found.tokens, "replaced": found.replaced}
    workdir.write_text(folder / "replies.json", sums.render(content), private=True)
    workdir.write_json(folder / "cost.json", {"decoding": found.seconds})


def load(folder: pathlib.Path) -> Replies:
    """Replies that were kept."""
    found = json.loads((folder / "replies.json").read_text(encoding="utf-8"))
    cost = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
    return Replies(found["tokens"], found["replaced"], cost["decoding"])
