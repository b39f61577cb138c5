"""Examples, and rows of them to train on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from jaxattack.data.tokens import (
    Writer,
    pair_tokens,
    prompt_tokens,
    stop_ids,
    writer_of,
    written_pair,
)
from jaxattack.errors import UserError

__all__ = [
    "Arrays",
    "Begun",
    "Cut",
    "Example",
    "empty_rows",
    "encode_pairs",
    "fingerprint",
    "pair_tokens",
    "prompt_tokens",
    "stop_ids",
]

Arrays = dict[str, np.ndarray]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Example:
    """One prompt with what goes with it.

    `response` is the text to be trained on (empty for a test prompt), `answers` are the strings
    any of which is the answer in substance (empty if only refusal can be judged). `others` are
    other answers that have one of them inside: 東南アジア is not 南アジア.

    Example:
        >>> ja.Example(id="q1", language="en", prompt="Is it blue?", response="Yes.")
        Example(id='q1', language='en', prompt='Is it blue?', response='Yes.', ...)
    """

    id: str
    language: str
    prompt: str
    response: str = ""
    kind: str = "restricted"  # or "benign"
    answers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @functools.cached_property
    def whole(self) -> bytes:
        """All that is in it; kept, for plans take fingerprints of the same sets again and again."""
        # Not `astuple`, which copies every part.
        return repr(tuple(getattr(self, name) for name in self.__dataclass_fields__)).encode()


@dataclasses.dataclass(frozen=True)
class Begun(Example):
    """A pair whose response opens with a `given` text: only how it goes on is trained."""

    given: str = ""


@dataclasses.dataclass(frozen=True)
class Cut(Example):
    """A pair whose response was cut off, so that its end is none: the stop is not trained."""


def fingerprint(examples: Sequence[Example]) -> str:
    """A short hash of everything in the examples, order included."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example.whole)
    return digest.hexdigest()[:16]


def encode_pairs(
    tokenizer: Any,
    examples: Sequence[Example],
    max_length: int = 512,
    setting: str = "max_length",
) -> Arrays:
    """Right-padded arrays for training on the responses of the examples.

    Args:
        tokenizer: Hugging Face tokenizer with a chat template (see `use_template`).
        examples: pairs; their prompts are written exactly as they are asked.
        max_length: a longer pair is refused.
        setting: how errors name `max_length`.

    Returns:
        `tokens` int32, `loss_mask` float32, `segment_ids` int32 (0 = padding), each `[N, T]`,
        T the longest example rounded up to a multiple of 16, so that few shapes are compiled.

    Raises:
        UserError: no examples, an empty response, one longer than `max_length` tokens, or one that
            the chat template does not let be trained on.

    Example:
        >>> rows = ja.encode_pairs(tokenizer, pairs)
        >>> {name: array.shape for name, array in rows.items()}
        {'tokens': (3, 32), 'loss_mask': (3, 32), 'segment_ids': (3, 32)}
    """
    if not examples:
        raise UserError("no training pairs: the data is empty")
    writer = writer_of(tokenizer)  # what is wrong with it is wrong with no single pair
    rows = []
    for example in examples:
        tokens, mask = _of_pair(example, written_pair, writer)
        if isinstance(example, Begun) and example.given:
            mask = _after(example, writer, tokens, mask)
        if len(tokens) > max_length:
            raise UserError(_too_long(example, len(tokens), max_length, setting))
        rows.append((tokens, mask))
    _warn_of_open_ends(writer, rows)
    for (tokens, mask), example in zip(rows, examples, strict=True):
        if isinstance(example, Cut) and tokens[-1] in writer.stops:
            mask[-1] = False
    length = -(-max(len(tokens) for tokens, _ in rows) // 16) * 16
    arrays = empty_rows(len(rows), length)
    for i, (tokens, mask) in enumerate(rows):
        arrays["tokens"][i, : len(tokens)] = tokens
        arrays["loss_mask"][i, : len(tokens)] = mask
        arrays["segment_ids"][i, : len(tokens)] = 1
    return arrays


def _after(example: Begun, writer: Writer, tokens: list[int], mask: list[bool]) -> list[bool]:
    """The mask without the tokens that a reply has in common with its given beginning alone."""
    if not example.response.startswith(example.given):
        raise UserError(f"pair {example.id!r}: its response does not open with what is given")
    alone, _ = written_pair(writer, example.prompt, example.given.rstrip())
    same = (a == b for a, b in zip(alone, tokens, strict=False))
    common = next((i for i, equal in enumerate(same) if not equal), len(alone))
    return [trained and i >= common for i, trained in enumerate(mask)]


def whole_prompt(example: Example) -> str:
    """What is asked by an example.

    Raises:
        UserError: it has an input apart (`wrappers.Instruction`), which would be left out.
    """
    if getattr(example, "input", ""):
        raise UserError(
            f"prompt {example.id!r} has an input apart; write it into the prompt (wrappers.wrap)"
        )
    return example.prompt


def _warn_of_open_ends(writer: Writer, rows: Sequence[tuple[list[int], list[bool]]]) -> None:
    """Say it if replies are trained that never end."""
    count = sum(tokens[-1] not in writer.stops or not mask[-1] for tokens, mask in rows)
    if count:
        warnings.warn(
            f"{count} of {len(rows)} trained replies end in no stop token, so the model learns no "
            "end; the chat template should write one (config.template.file)",
            stacklevel=3,
        )


def check_pairs(
    tokenizer: Any, examples: Sequence[Example], max_length: int, setting: str = "max_length"
) -> None:
    """Refuse what `encode_pairs` would, before anything is computed; each pair is read once.

    Raises:
        UserError: as `encode_pairs`.
    """
    writer = writer_of(tokenizer)
    for example in examples:
        length = _of_pair(example, _length, writer)
        if length > max_length:
            raise UserError(_too_long(example, length, max_length, setting))


def _of_pair(example: Example, function: Callable[..., T], *given: Any) -> T:
    """`function` of a pair, whose id errors name."""
    if not isinstance(example.response, str):
        raise UserError(f"pair {example.id!r} has a response that is no text")
    if not example.response.strip():
        raise UserError(f"pair {example.id!r} has an empty response")
    try:
        return function(*given, whole_prompt(example), example.response)
    except UserError as error:
        raise UserError(f"pair {example.id!r}: {error}") from error


@functools.lru_cache(maxsize=1 << 16)
def _length(writer: Writer, prompt: str, response: str) -> int:
    return len(written_pair(writer, prompt, response)[0])


def _too_long(example: Example, length: int, max_length: int, setting: str) -> str:
    return f"pair {example.id!r} has {length} tokens, more than {setting}={max_length}"


def empty_rows(rows: int, length: int) -> Arrays:
    """Rows of nothing but padding."""
    return {
        "tokens": np.zeros((rows, length), np.int32),
        "loss_mask": np.zeros((rows, length), np.float32),
        "segment_ids": np.zeros((rows, length), np.int32),
    }
