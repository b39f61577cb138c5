"""Examples and how a chat template turns them into tokens with a loss mask."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxattack.errors import UserError

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Example:
    """One prompt with what goes with it.

    `response` is the text to be trained on (empty for a test prompt), `answers` are the strings
    any of which is the answer in substance (empty if only refusal can be judged). `others` are
    other answers that have one of them inside: 東南アジア is not 南アジア.
    """

    id: str
    language: str
    prompt: str
    response: str = ""
    kind: str = "restricted"  # or "benign"
    answers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def fingerprint(examples: Sequence[Example]) -> str:
    """A short hash of everything in the examples, order included."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(dataclasses.astuple(example)).encode())
    return digest.hexdigest()[:16]


def prompt_tokens(tokenizer: Any, prompt: str | Sequence[dict[str, str]]) -> list[int]:
    """Tokens of a user turn (or of role/content messages), up to where the model is to reply."""
    _template(tokenizer)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True
    )["input_ids"]


def pair_tokens(tokenizer: Any, prompt: str, response: str) -> tuple[list[int], list[bool]]:
    """Tokens of a one-turn dialogue, and which of them the model should have written.

    The mask is the template's own (`{% generation %}`). For a template without one it is what
    follows the tokens of the bare prompt, which must then be a prefix of the whole.

    Raises:
        UserError: the template gives no such mask.
    """
    messages = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": response},
    ]
    if "{% generation" in _template(tokenizer) or "{%- generation" in _template(tokenizer):
        encoded = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return encoded["input_ids"], [bool(x) for x in encoded["assistant_masks"]]
    tokens = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    start = prompt_tokens(tokenizer, prompt)
    if tokens[: len(start)] != start:
        raise UserError(
            "the chat template writes a prompt differently once a reply follows it, so which "
            "tokens are the reply is unclear; add {% generation %} marks to the template"
        )
    return tokens, [i >= len(start) for i in range(len(tokens))]


def _template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise UserError("the tokenizer has no chat template")
    return template


def encode_pairs(tokenizer: Any, examples: Sequence[Example], max_length: int = 512) -> Arrays:
    """Right-padded arrays for training on the responses of the examples.

    Returns:
        `tokens` int32, `loss_mask` float32, `segment_ids` int32 (0 = padding), each `[N, T]`,
        T the longest example rounded up to a multiple of 16, so that few shapes are compiled.

    Raises:
        UserError: no examples, an empty response, or one longer than `max_length` tokens.
    """
    if not examples:
        raise UserError("no training pairs: the data is empty")
    rows = []
    for example in examples:
        if not example.response.strip():
            raise UserError(f"pair {example.id!r} has an empty response")
        tokens, mask = pair_tokens(tokenizer, example.prompt, example.response)
        if len(tokens) > max_length:
            raise UserError(
                f"pair {example.id!r} has {len(tokens)} tokens, more than max_length={max_length}"
            )
        rows.append((tokens, mask))
    length = -(-max(len(tokens) for tokens, _ in rows) // 16) * 16
    arrays = empty_rows(len(rows), length)
    for i, (tokens, mask) in enumerate(rows):
        arrays["tokens"][i, : len(tokens)] = tokens
        arrays["loss_mask"][i, : len(tokens)] = mask
        arrays["segment_ids"][i, : len(tokens)] = 1
    return arrays


def empty_rows(rows: int, length: int) -> Arrays:
    """Rows of nothing but padding."""
    return {
        "tokens": np.zeros((rows, length), np.int32),
        "loss_mask": np.zeros((rows, length), np.float32),
        "segment_ids": np.zeros((rows, length), np.int32),
    }
