"""Prompts as tokens that a model can read, or a line that says why it cannot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jaxattack.data.templates import Template, template_of
from jaxattack.data.tokens import Prompt, check_says, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig

NEW_TOKENS = "max_new_tokens"
T = TypeVar("T")


def encode_prompts(
    config: ModelConfig,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    names: Sequence[str] | None = None,
    setting: str = NEW_TOKENS,
) -> list[list[int]]:
    """Tokens of prompts as they are asked.

    Args:
        config: of the model that is asked.
        tokenizer: Hugging Face tokenizer.
        prompts: texts of user turns, or lists of messages.
        max_new_tokens: how long replies may be.
        names: how errors name the prompts; by default their numbers from 0 on.
        setting: how errors name `max_new_tokens`.

    Raises:
        UserError: no prompts, an empty one, one the chat template cannot write, or some that do
            not fit into the model's positions with their replies.
    """
    names = _names(prompts, max_new_tokens, names, setting)
    encoded = [
        _of_prompt(n, prompt_tokens, tokenizer, p) for n, p in zip(names, prompts, strict=True)
    ]
    check_lengths(config, [len(tokens) for tokens in encoded], max_new_tokens, names, setting)
    return encoded


def check_prompts(
    config: ModelConfig,
    tokenizer: Any,
    prompts: Sequence[str],
    max_new_tokens: int,
    names: Sequence[str] | None = None,
    setting: str = NEW_TOKENS,
) -> None:
    """Refuse what `encode_prompts` would, before anything is computed; each text is read once.

    Args:
        config: of the model that is asked.
        tokenizer: Hugging Face tokenizer.
        prompts: texts of user turns.
        max_new_tokens: how long replies may be.
        names: how errors name the prompts; by default their numbers from 0 on.
        setting: how errors name `max_new_tokens`.

    Raises:
        UserError: as `encode_prompts`.
    """
    names = _names(prompts, max_new_tokens, names, setting)
    template = template_of(tokenizer)
    lengths = [
        _of_prompt(name, _length, tokenizer, template, prompt)
        for name, prompt in zip(names, prompts, strict=True)
    ]
    check_lengths(config, lengths, max_new_tokens, names, setting)


def _names(
    prompts: Sequence[Any], max_new_tokens: int, names: Sequence[str] | None, setting: str
) -> Sequence[str]:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise UserError("prompts are a list of texts or of lists of messages, not one of them")
    if not prompts:
        raise UserError("there are no prompts: the list is empty")
    if not max_new_tokens >= 1:
        raise UserError(f"{setting} is {max_new_tokens}; it should be at least 1")
    return names or [str(number) for number in range(len(prompts))]


def _of_prompt(name: str, function: Callable[..., T], *given: Any) -> T:
    """`function` of a prompt, the last of what is given, whose name errors have."""
    try:
        check_says(given[-1])
        return function(*given)
    except UserError as error:
        raise UserError(f"prompt {name!r}: {error}") from error


@functools.lru_cache(maxsize=1 << 16)
def _length(tokenizer: Any, template: Template, prompt: str) -> int:
    return len(prompt_tokens(tokenizer, prompt))


def check_lengths(
    config: ModelConfig,
    lengths: Sequence[int],
    max_new_tokens: int,
    names: Sequence[str],
    setting: str = NEW_TOKENS,
) -> None:
    """Refuse prompts that do not fit into the model's positions with their replies.

    Raises:
        UserError: says how many, and names the longest.
    """
    most = positions(config)
    if most is None:
        return
    over = sum(length + max_new_tokens > most for length in lengths)
    if over:
        length, name = max(zip(lengths, names, strict=True), key=lambda pair: pair[0])
        raise UserError(
            f"{over} of {len(lengths)} prompts do not fit into the model's {most} positions with "
            f"a reply of {max_new_tokens} tokens: the longest, {name!r}, has {length}; lower "
            f"{setting} or leave out long prompts"
        )


def positions(config: ModelConfig) -> int | None:
    """How many tokens a model can read; None if its positions have no end (ALiBi)."""
    if config.rope is None:
        return None
    # Where positions are stretched linearly, configs state those of before; Gemma 3's do not.
    linear = config.rope.kind == "linear" and not config.family.startswith("gemma3")
    stretched = config.rope.factor if linear else 1.0
    return int(config.max_position * max(1.0, stretched))
