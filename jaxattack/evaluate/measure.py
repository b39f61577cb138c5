"""Asking a model all prompts and judging its replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxattack.data.dialogues import Example, whole_prompt
from jaxattack.evaluate.judge import Reply, judge
from jaxattack.evaluate.thoughts import decode
from jaxattack.evaluate.trial import Trial
from jaxattack.models.generate import generate_tokens, stop_ids
from jaxattack.models.prompts import encode_prompts
from jaxattack.models.transformer import Transformer
from jaxattack.tree import Tree


def ask(
    model: Transformer,
    params: Tree,
    tokenizer: Any,
    examples: Sequence[Example],
    max_new_tokens: int,
    batch_size: int = 256,
    label: str = "asking",
    extra_stops: Sequence[int] = (),
) -> list[Reply]:
    """Greedy replies to the examples' prompts, in order.

    Args:
        model: the decoder.
        params: its parameters.
        tokenizer: Hugging Face tokenizer with a chat template.
        examples: what is asked; responses are not read.
        max_new_tokens: a reply is cut after so many tokens.
        batch_size: prompts decoded together, at most.
        label: what the progress bar says.
        extra_stops: ids that end a reply beside the tokenizer's and the model's own.

    Raises:
        UserError: as `whole_prompt`, `encode_prompts` and `generate_tokens`.

    Example:
        >>> replies = ja.ask(model, params, tokenizer, pairs, max_new_tokens=2)
        >>> len(replies), type(replies[0].text)
        (3, <class 'str'>)
    """
    prompts, names = [whole_prompt(e) for e in examples], [e.id for e in examples]
    encoded = encode_prompts(model.config, tokenizer, prompts, max_new_tokens, names)
    tokens = generate_tokens(
        model,
        params,
        encoded,
        stop_ids(tokenizer, (*model.config.stops, *extra_stops)),
        max_new_tokens,
        batch_size,
        label,
    )
    return replies(tokenizer, encoded, tokens, max_new_tokens)


def replies(
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    written: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> list[Reply]:
    """The text of generated tokens, in order; see `thoughts.decode`."""
    return [
        Reply(decode(tokenizer, prompt, ids), cut=len(ids) >= max_new_tokens)
        for prompt, ids in zip(prompts, written, strict=True)
    ]


def judge_all(examples: Sequence[Example], replies: Sequence[Reply]) -> list[Trial]:
    """Verdicts on replies, in order.

    Example:
        >>> from jaxattack.evaluate.judge import Reply
        >>> said = [Reply("Sorry, I cannot help with that.", cut=False)] * len(pairs)
        >>> [trial.refused for trial in ja.judge_all(pairs, said)]
        [True, True, True]
    """
    return [judge(example, reply) for example, reply in zip(examples, replies, strict=True)]
