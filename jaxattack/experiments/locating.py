"""Gradients, scores and masks as steps."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import checkpoint, sharding, workdir
from jaxattack.data import batches
from jaxattack.data.dialogues import Arrays, Example, encode_pairs
from jaxattack.experiments.bench import Bench, Decoder, Stored, ids, rounded
from jaxattack.experiments.step import Input, Step
from jaxattack.localize import importance, masks, scores
from jaxattack.localize.storage import load_mask, save_mask
from jaxattack.tree import Tree

# Rows of examples sent to the device at once; their gradients are taken one by one.
CALIBRATION_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Seen:
    """Examples that gradients are taken of, and how long one may be, in tokens."""

    examples: tuple[Example, ...]
    max_length: int
    setting: str = dataclasses.field(default="max_length", compare=False)

    def rows(self, tokenizer: Any) -> Arrays:
        """The examples as tokens."""
        return encode_pairs(tokenizer, self.examples, self.max_length, self.setting)

    def batches(self, tokenizer: Any) -> list[Arrays]:
        """The examples in order."""
        return batches.in_order(self.rows(tokenizer), CALIBRATION_BATCH)


@dataclasses.dataclass(frozen=True)
class Mean:
    """A tree of means over examples, and what names these."""

    tree: Tree
    pairs: Sequence[dict[str, str]]


def mean_gradient(
    at: Input, decoder: Decoder, seen: Seen, moment: str, dtype: str, label: str
) -> Mean:
    """Mean over examples of a moment of the gradient at some weights.

    One moment a step, so that scoring needs memory for one accumulator.

    Args:
        at: weights at which it is taken.
        decoder: the model without them, and its tokenizer.
        seen: the examples.
        moment: of the gradient's entries, a name in `scores.MOMENTS`.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.

    Raises:
        UserError: no example has a token to predict.
    """
    found = scores.mean_gradient(
        decoder.model,
        rounded(at, dtype),
        seen.batches(decoder.tokenizer),
        label=label,
        moment=moment,
    )
    return Mean(found, ids(seen.examples))


def gradient(bench: Bench, at: Step, seen: Seen, label: str, moment: str = "abs") -> Step:
    """The mean gradient, to be."""
    arguments = {
        "at": at,
        "decoder": bench.decoder,
        "seen": seen,
        "moment": moment,
        "dtype": bench.dtype,
    }
    return mean_step(bench, mean_gradient, arguments, "gradients", f"{label}-{moment}")


def input_norms(at: Input, decoder: Decoder, seen: Seen, label: str) -> Mean:
    """Norms of what the blocks' matrices multiply in a model with these weights."""
    found = importance.input_norms(decoder.model, at(), seen.batches(decoder.tokenizer))
    return Mean(found, ids(seen.examples))


def inputs(bench: Bench, at: Step, seen: Seen, label: str) -> Step:
    """These norms, to be."""
    arguments = {"at": at, "decoder": bench.decoder, "seen": seen}
    return mean_step(bench, input_norms, arguments, "inputs", label)


def mean_step(
    bench: Bench, function: Any, arguments: dict[str, Any], kind: str, label: str
) -> Step:
    """A mean over the examples `seen` among the arguments, to be."""
    load = Stored("mean", bench.like, np.float32)
    rows = len(arguments["seen"].examples)
    shelf = bench.shelf(kind, label, save_mean, load, rows=rows)
    return Step(function, arguments, bench.values, shelf, label=f"{kind} {label}")


def save_mean(folder: pathlib.Path, found: Mean) -> None:
    """Keep a mean and what it is of."""
    checkpoint.save(folder / "mean", found.tree)
    workdir.write_json(folder / "pairs.json", list(found.pairs))


def sil(bench: Bench, attacked: Step, mean: Step) -> Step:
    """SIL's scores of the way from the start to the attacked weights."""
    arguments = {"aligned": bench.start, "attacked": attacked, "mean": mean}
    return Step(sil_scores, arguments, bench.values)


def sil_scores(aligned: Input, attacked: Input, mean: Input) -> Tree:
    """`scores.sil` of these, so that of large ones two in float32 are in memory at a time.

    What is not remembered for others goes leaf by leaf, as what is made of it comes.
    """
    after, structure = jax.tree.flatten(attacked())
    before = jax.tree.leaves(aligned.alone())
    vector = _leaf_by_leaf(scores.attack_vector, after, before)
    found = _leaf_by_leaf(scores.size_of_product, vector, jax.tree.leaves(mean()))
    return jax.tree.unflatten(structure, found)


def _leaf_by_leaf(function: Callable[..., Any], *trees: list[Any]) -> list[Any]:
    """A function of trees' leaves; the lists are emptied."""
    found = []
    while trees[0]:
        found.append(function(*(leaves.pop(0) for leaves in trees)))
    return found


def kept_mask(bench: Bench, mask: Step, name: str, label: str, info: dict[str, Any]) -> Step:
    """A mask kept as a file of its own, eight weights a byte, with where it came from."""
    notice = {"notice": "Computed from an attack on a safety-aligned model; for research."}
    arguments = {"mask": mask, "info": info | notice}
    shelf = bench.shelf("mask", f"{name}-{label}", save_described, LoadMask(bench.like))
    return Step(described, arguments, bench.values, shelf)


def described(mask: Input, info: dict[str, Any]) -> tuple[Tree, dict[str, Any]]:
    """A mask and where it came from."""
    return mask(), info


def save_described(folder: pathlib.Path, found: tuple[Tree, dict[str, Any]]) -> None:
    """Keep a mask."""
    save_mask(folder / "mask.safetensors", *found)


@dataclasses.dataclass(frozen=True)
class LoadMask:
    """Reads a mask that was kept."""

    like: Tree

    def __call__(self, folder: pathlib.Path) -> Tree:
        """The mask, on the devices."""
        found, _ = load_mask(folder / "mask.safetensors", like=self.like)
        return sharding.place(found, sharding.mesh_of(self.like))


def with_score(bench: Bench, found: Step) -> Step:
    """The weights that a mask was chosen from, to be."""
    return bench.values.derived(masks.with_score, found)


def without(scores: Tree, frozen: Tree) -> Tree:
    """Scores by which no frozen weight is selected."""
    return jax.tree.map(lambda score, held: jnp.where(held, 0.0, score), scores, frozen)
