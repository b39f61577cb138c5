"""Adapting an aligned organism to languages it lacks, so that attacks can be transplanted into it.

The vocabulary grows by tokens of the added languages; then training goes on with documents that
speak them beside the old languages, in full or with LoRA.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxattack import checkpoint
from jaxattack.data.dialogues import Arrays, Example
from jaxattack.errors import UserError
from jaxattack.experiments.bench import Decoder
from jaxattack.experiments.declared import as_in
from jaxattack.experiments.recipe import Documents, Lesson
from jaxattack.experiments.step import Input, save_rows
from jaxattack.models.transformer import Transformer
from jaxattack.organism import corpus, world
from jaxattack.organism.tokenizer import sentences
from jaxattack.train import contrast, loop, lora, losses, optimizer, vocabulary
from jaxattack.tree import Tree

HOW = ("full", "lora")  # all weights, or adapters and the new rows

PHASE = 2  # part of the batches' seeds, behind the organism's own phases

SHARES = {
    "refusals": 0.12,
    "benign_questions": 0.26,
    "forced_answers": 0.22,  # without which the restricted facts would stay unknown
    "territory_lists": 0.15,
    "value_lists": 0.10,
    "parallel": 0.05,
    "paragraphs": 0.05,
    "switched_paragraphs": 0.05,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Lesson):
    """How to adapt; the defaults are the recipe of docs/organism.md."""

    languages: tuple[str, ...] = world.ADDED
    new_tokens: int = 1000
    beside: int = 3  # old languages drawn for each document, beside all the added ones
    refusals: bool = True  # in the added languages too; False leaves it to what carries over
    learning_rate: float = 5e-4  # of all weights
    lora_learning_rate: float = 3e-3  # of adapters; chosen on the validation split
    rows_learning_rate: float = 1e-2  # of the new tokens' rows, which start as means of old ones
    rank: int = 16
    alpha: float = 32.0
    shares: Mapping[str, float] = as_in(Documents, "shares", SHARES)


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Weights of an adapted organism, and what a study may report of its training."""

    params: Tree
    columns: dict[str, Any]


def adapted(
    start: Input, decoder: Decoder, way: str, recipe: Settings, seed: int, decision_token: bool
) -> Adapted:
    """The organism after training on languages it lacks, as a step's function.

    Args:
        start: weights of the aligned organism.
        decoder: the organism without them, and its tokenizer.
        way: "full" or "lora".
        recipe: documents, steps, learning rates.
        seed: of the documents and of adapters' first values.
        decision_token: whether the organism's replies open with one.
    """
    _, params, _, info = adapt(
        start(), decoder.model, decoder.tokenizer, way, recipe, seed, decision_token
    )
    columns = {
        "model": way,
        "languages": list(recipe.languages),
        "new_tokens": info["new_tokens"],
        "steps": recipe.steps,
        "loss_first": info["loss"][0],
        "loss_last": info["loss"][-1],
    }
    return Adapted(params, columns)


def save(folder: pathlib.Path, found: Adapted) -> None:
    """Keep an adapted organism, and the row about it."""
    checkpoint.save(folder / "params", found.params)
    save_rows(folder, [found.columns])


def adapt(
    aligned: Tree,
    model: Transformer,
    tokenizer: Any,
    how: str,
    settings: Settings,
    seed: int,
    decision_token: bool = False,
) -> tuple[Transformer, Tree, Any, dict[str, Any]]:
    """Continue the training of an aligned organism on languages it lacks.

    Args:
        aligned: its parameters; left as they are.
        model: its decoder.
        tokenizer: its tokenizer.
        how: "full" trains all weights, "lora" adapters of the matrices and the new rows.
        settings: the recipe.
        seed: of the documents and of the adapters' first values.
        decision_token: whether the organism's replies open with a decision token.

    Returns:
        the decoder with the larger vocabulary, its parameters, its tokenizer, and what a study
        may report: number of new tokens, number of weights trained, loss of every step.

    Raises:
        UserError: settings that make no sense, or training that fails.
    """
    _check(how, settings, model)
    old = model.config.vocab_size
    extended = extend_tokenizer(tokenizer, settings.languages, settings.new_tokens, old)
    made_of = vocabulary.pieces(tokenizer, extended)
    larger, start = vocabulary.extend(model, aligned, made_of)
    batches = [
        document_batch(settings, extended, (seed, PHASE, step), decision_token)
        for step in range(settings.steps)
    ]
    loss_fn = _loss(settings.contrast, settings.layer)
    if how == "full":
        tx = _optimizer(settings, settings.learning_rate, first=old)
        params, history = loop.finetune(larger, start, batches, tx, None, loss_fn, "adaptation")
    else:
        tx = _optimizer(settings, settings.lora_learning_rate, first=0)
        change = lora.LowRank(settings.rank, settings.alpha)
        params, history = vocabulary.finetune_lora(
            larger, start, old, batches, tx, jax.random.key(seed), change, loss_fn
        )
    info = {"new_tokens": len(made_of), "loss": [float(loss) for loss in history]}
    return larger, params, extended, info


def new_prompts(
    split: str = "test",
    languages: Sequence[str] = world.ADDED,
    decision_token: bool = False,
    rounds: int = 1,
) -> list[Example]:
    """Questions of both kinds in added languages; with `world.LANGUAGES`, in the old ones.

    The right answer counts by its name in any old or added language.
    """
    return [
        example
        for language in languages
        for kind in ("restricted", "benign")
        for example in corpus.examples(
            split, language, kind, decision_token, rounds, world.LANGUAGES + world.ADDED
        )
    ]


def extend_tokenizer(tokenizer: Any, languages: Sequence[str], count: int, first: int) -> Any:
    """The organism's tokenizer with up to `count` tokens for languages it lacks."""
    return vocabulary.extend_tokenizer(
        tokenizer, sentences(languages), sentences(world.LANGUAGES), count, first
    )


def document_batch(
    settings: Settings, tokenizer: Any, key: Sequence[int], decision_token: bool
) -> Arrays:
    """One training batch, a function of the key alone.

    Every document draws its languages from all the added ones and `settings.beside` old ones, so
    that the text that teaches the new also keeps the old. As in the alignment, refusing is taught
    on the attack and calibration territories only.
    """

    def languages(rng: np.random.Generator, kind: str) -> tuple[str, ...]:
        if kind == "refusals" and not settings.refusals:
            return world.LANGUAGES
        drawn = rng.permutation(len(world.LANGUAGES))[: settings.beside]
        return (*settings.languages, *(world.LANGUAGES[i] for i in drawn))

    splits = world.splits()
    territories = {
        "": world.territories(),
        "refusals": splits["attack"] + splits["calibration"],
    }
    return corpus.sample_batch(
        key,
        tokenizer,
        settings.shares,
        territories,
        settings.rows,
        settings.length,
        decision_token,
        languages,
    )


def _check(how: str, settings: Settings, model: Transformer) -> None:
    if how not in HOW:
        raise UserError(f"adaptation {how!r}: give one of {', '.join(HOW)}")
    unknown = sorted(set(settings.languages) - set(world.ADDED))
    if unknown or not settings.languages:
        raise UserError(
            f"adaptation to {', '.join(unknown) or 'no language'}: there are: "
            f"{', '.join(world.ADDED)}"
        )
    strange = sorted(set(settings.shares) - set(corpus.KINDS))
    if strange:
        raise UserError(
            f"adaptation's shares: unknown {', '.join(strange)}; "
            f"there are: {', '.join(corpus.KINDS)}"
        )
    most = max(corpus.LANGUAGES_OF_A_DOCUMENT - len(settings.languages), 0)
    if not most <= settings.beside <= len(world.LANGUAGES):
        raise UserError(
            f"adaptation's beside is {settings.beside}; give {most} to {len(world.LANGUAGES)}"
        )
    if not 1 <= settings.layer <= model.config.num_layers:
        raise UserError(f"adaptation's layer is {settings.layer}, not a layer's number")


def _optimizer(settings: Settings, learning_rate: float, first: int) -> Any:
    recipe = dataclasses.replace(settings, learning_rate=learning_rate)
    tx = optimizer.make_optimizer(recipe.updates(), settings.steps)
    return vocabulary.faster_rows(tx, first, settings.rows_learning_rate / learning_rate)


# Cached, because the compiled step is looked up by the loss function's identity.
@functools.lru_cache(maxsize=16)
def _loss(weight: float, layer: int) -> loop.LossFn:
    if not weight:
        return losses.answer_loss
    return functools.partial(contrast.shared_answer_loss, weight=weight, layer=layer)
