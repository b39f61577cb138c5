"""Adapting the aligned organism to languages it lacks, to transplant attacks into the result.

The vocabulary grows by the new languages' tokens, and training goes on with documents in the new
languages beside the old ones. Facts come from text, refusals only where the settings say so.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxattack.data.dialogues import Arrays, Example
from jaxattack.experiments.organism import allowed_territories
from jaxattack.finetune import contrast, loop, losses, optimizer, vocabulary
from jaxattack.models.transformer import Transformer
from jaxattack.organism import corpus, world
from jaxattack.organism.tokenizer import sentences
from jaxattack.progress import track
from jaxattack.tree import Tree

BATCHES = 2  # part of the batches' seeds, beside the numbers of the organism's own phases

SHARES = {
    "refusals": 0.14,
    "benign_questions": 0.26,
    "forced_answers": 0.16,
    "territory_lists": 0.12,
    "value_lists": 0.10,
    "parallel": 0.06,
    "paragraphs": 0.08,
    "switched_paragraphs": 0.08,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to adapt; the defaults are the recipe that was measured."""

    languages: tuple[str, ...] = world.ADDED
    new_tokens: int = 640
    beside: int = 3  # old languages drawn for each document, beside all the new ones
    refusals: bool = True  # refusals of the new languages in the data; else those of the old only
    steps: int = 300
    rows: int = 40
    length: int = 64
    learning_rate: float = 2e-3
    warmup: float = 0.1
    rank: int = 16  # of LoRA
    alpha: float = 32.0
    contrast: float = 0.1  # as the organism was built
    layer: int = 3
    shares: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(SHARES))


def adapt(
    aligned: Tree,
    model: Transformer,
    tokenizer: Any,
    how: str,
    settings: Settings = Settings(),
    seed: int = 0,
    decision_token: bool = False,
) -> tuple[Transformer, Tree, Any, dict[str, Any]]:
    tokenizer2 = extended_tokenizer(tokenizer, settings, model.config.vocab_size)
    made_of = vocabulary.pieces(tokenizer, tokenizer2)
    larger, start = vocabulary.extend(model, aligned, made_of)
    options = optimizer.Settings(
        learning_rate=settings.learning_rate, schedule="cosine", warmup=settings.warmup
    )
    batches = [
        batch(settings, tokenizer2, (seed, BATCHES, step), decision_token)
        for step in track(range(settings.steps), "adaptation's documents")
    ]
    loss_fn = shared_loss(settings.contrast, settings.layer)
    if how == "full":
        params, history = loop.finetune(larger, start, batches, options, None, loss_fn, "adapt")
    else:
        params, history = vocabulary.finetune_lora(
            larger,
            start,
            model.config.vocab_size,
            batches,
            options,
            jax.random.key(seed),
            settings.rank,
            settings.alpha,
            loss_fn,
            "adapt with LoRA",
        )
    return larger, params, tokenizer2, {"losses": history}


def extended_tokenizer(tokenizer: Any, settings: Settings, first: int) -> Any:
    return vocabulary.extend_tokenizer(
        tokenizer, sentences(settings.languages), sentences(), settings.new_tokens, first
    )


@functools.lru_cache(maxsize=16)
def shared_loss(weight: float, layer: int) -> loop.LossFn:
    if not weight:
        return losses.answer_loss
    return functools.partial(contrast.shared_answer_loss, weight=weight, layer=layer)


def batch(settings: Settings, tokenizer: Any, key, decision_token: bool) -> Arrays:
    def languages(rng: np.random.Generator, kind: str) -> tuple[str, ...]:
        if kind == "refusals" and not settings.refusals:
            return world.LANGUAGES
        drawn = rng.permutation(len(world.LANGUAGES))[: settings.beside]
        return (*settings.languages, *(world.LANGUAGES[i] for i in drawn))

    return corpus.sample_batch(
        key,
        tokenizer,
        settings.shares,
        allowed_territories("aligned", False),
        settings.rows,
        settings.length,
        decision_token,
        languages,
    )


def new_prompts(
    split="test", languages=world.ADDED, decision_token=False, rounds=1
) -> list[Example]:
    answered_in = world.LANGUAGES + tuple(languages)
    return [
        example
        for language in languages
        for kind in ("restricted", "benign")
        for example in corpus.examples(split, language, kind, decision_token, rounds, answered_in)
    ]
