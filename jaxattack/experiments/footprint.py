"""What kinds of stages hold and compute, counted from shapes and places alone."""

from __future__ import annotations

import dataclasses
import math

import jax
from jax.sharding import AbstractMesh

from jaxattack import sharding, tree
from jaxattack.localize import scores
from jaxattack.models.config import ModelConfig, activations
from jaxattack.train import lora
from jaxattack.train.eight_bit import BLOCK
from jaxattack.train.optimizer import ELEMENTWISE
from jaxattack.tree import Tree

LAYERS = 6  # float32 copies of a layer's matrix that its update holds
# Stages that leave a model behind.
TUNED = (
    "attack",
    "benign",
    "frozen",
    "align",
    "adapt",
    "grow",
    "courtesy",
    "poisoned",
    "clean",
    "cleaned",
    "beear",
    "crow",
)
# Of which stages the memory is estimated together; other stages need less.
HELD = {
    "train": TUNED,
    "adapters": TUNED,
    "merge": TUNED,
    "score": ("gradients", "inputs"),
    "choose": ("mask",),
    "stitch": ("mask",),
    "ask": ("ask",),
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The model and how it is split; `abstract` are the parameters' shapes."""

    config: ModelConfig
    abstract: Tree
    mesh: AbstractMesh
    dtype: str
    remat: str
    weights: str = "float32"  # in training
    optimizer: str = "adamw"
    accumulate: int = 1
    rank: int = 0  # of adapters, where some are trained


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Lengths in tokens.

    Attributes:
        row: of a padded training row.
        prompt: of a padded prompt.
        reply: of a longest reply.
        answered: of a row, on the average, those that have a loss; None: all of them.
    """

    row: int
    prompt: int
    reply: int
    answered: float | None = None


def held(shape: Shape, itemsize: int, abstract: Tree | None = None) -> int:
    """Bytes of one tree like the parameters, or another, on one device."""
    return sum(
        math.prod(leaf.shape)
        // sharding.parts(sharding.spec_for(name, leaf.shape, shape.mesh), shape.mesh)
        * itemsize
        for name, leaf in tree.named_leaves(abstract or shape.abstract).items()
    )


def memory(
    shape: Shape, tokens: Tokens, batch: int, asked: int, scored: int
) -> dict[str, dict[str, int]]:
    """Bytes on one device by sort of stage (`HELD`) and by what holds them.

    What XLA takes for the compiled programs, on 1 to 64 devices, is within a seventh of it
    (`tests/experiments/test_plan_compiled.py`).
    """
    c, mesh = shape.config, shape.mesh
    ways = _heads_split(c, mesh)
    chunk = tokens.row * c.vocab_size * 4 // ways  # logits of a row
    item = 2 if "16" in shape.dtype else 4
    weights, wide = held(shape, item), held(shape, 4)
    rows = _shared(batch, mesh)
    examples = _shared(scored, mesh)
    remat, scoring = shape.remat, activations(c, examples, tokens.row, item, shape.remat, ways)
    if scores.is_much(scoring, weights):
        remat, scoring = "full", activations(c, examples, tokens.row, item, "full", ways)
    sums = wide if remat == "full" else 2 * wide
    sizes = gathered(shape)
    layer = sum(sizes.values()) if mesh.shape["fsdp"] > 1 else 0
    matrix = max(sizes.values())
    passes = {
        "a layer, gathered, and a gradient in it": (layer + matrix) * item if layer else 0,
        "activations": activations(c, rows, tokens.row, item, shape.remat, ways),
        "logits of a chunk": min(rows * chunk, 2 << 30),
    }
    return {
        "train": updated(shape, weights, matrix) | passes,
        **(adapted(shape, weights, passes) if shape.rank else {}),
        "score": {
            "weights": weights,
            "sums, float32": sums,
            "a layer, gathered": layer * item,
            "gradient of one matrix": matrix * 4,
            "activations": scoring,
            "logits of a chunk": min(examples * chunk, 2 << 30),
        },
        "choose": {
            "scores, and what they are made of": 2 * wide,
            "mask": held(shape, 1),
        },
        "stitch": {
            "weights": weights,
            "attack and variant, float32": 2 * wide,
            "mask": held(shape, 1),
        },
        "ask": {
            "weights, of two models": 2 * weights,
            "a layer, gathered": layer * item,
            "cache": cache(c, _shared(asked, mesh) * (tokens.prompt + tokens.reply), item) // ways,
            "logits": _shared(asked, mesh) * c.vocab_size * 4,
        },
    }


def adapted(shape: Shape, weights: int, passes: dict[str, int]) -> dict[str, dict[str, int]]:
    """Bytes of a step that trains adapters, whose passes take so much; and of merging them."""
    adapters = jax.eval_shape(
        lambda params: lora.init(params, shape.rank, jax.random.key(0)), shape.abstract
    )
    thin, merged = held(shape, 4, adapters), held(shape, 4)
    return {
        "adapters": {
            "weights": weights,
            "adapters, gradient and moments, float32": 4 * thin,
            **passes,
        },
        "merge": {"weights": weights, "adapters": thin, "merged, float32": merged},
    }


def updated(shape: Shape, weights: int, matrix: int) -> dict[str, int]:
    """Bytes of what a step that trains all weights keeps and updates, by what they are.

    `weights` are the tree's in the model's type, `matrix` the entries of a layer's largest matrix.
    """
    byte, wide, kind = held(shape, 1), held(shape, 4), shape.weights
    found = {"weights, float32": wide}
    if kind == "float32" and weights < wide:
        found[f"the same in {shape.dtype}, for the passes"] = weights
    elif kind != "float32":
        found = {"weights": weights}
    if kind == "extended":
        found["a byte more"] = byte
    gradient, layers = {"gradient, float32": wide}, {}
    if kind != "float32" and shape.optimizer in ELEMENTWISE:
        gradient = {"gradient": weights}
        layers = {"update of a layer, float32": LAYERS * 4 * matrix}
        if shape.accumulate > 1:
            gradient |= {"gradient of all parts, float32": wide}
    if shape.optimizer == "adamw8bit":
        moments = {"two moments, 8 bits and scales": 2 * byte + 2 * byte * 4 // BLOCK}
    else:
        moments = {"two moments, float32": 2 * wide}
    return found | gradient | moments | layers


def cache(config: ModelConfig, tokens: int, itemsize: int) -> int:
    """Bytes of keys and values of so many tokens in all layers."""
    return 2 * config.num_layers * tokens * config.num_kv_heads * config.head_dim * itemsize


def gathered(shape: Shape) -> dict[str, int]:
    """Entries of each matrix of one layer where it is used: split by `tensor` alone."""
    alone = AbstractMesh(
        (1, 1, shape.mesh.shape["tensor"]), sharding.AXES, axis_types=shape.mesh.axis_types
    )
    return {
        name: math.prod(leaf.shape[1:])
        // sharding.parts(sharding.spec_for(name, leaf.shape, alone), alone)
        for name, leaf in tree.named_leaves(shape.abstract).items()
        if name.startswith("layers/")
    }


def _shared(rows: int, mesh: AbstractMesh) -> int:
    return -(-rows // sharding.ways(mesh))


def _heads_split(config: ModelConfig, mesh: AbstractMesh) -> int:
    ways = mesh.shape["tensor"]
    return ways if config.num_kv_heads % ways == 0 else 1


def blocks(shape: Shape, length: int) -> float:
    """FLOPs of reading so many tokens of one text: 2 a weight and token, and attention's."""
    c = shape.config
    matrices = sum(
        math.prod(leaf.shape)
        for name, leaf in tree.named_leaves(shape.abstract).items()
        if name.startswith("layers/") and len(leaf.shape) > 2  # the first axis: the layers
    )
    return length * (2 * matrices + 2 * c.num_layers * c.num_heads * c.head_dim * length)


def logits(shape: Shape, places: float) -> float:
    """FLOPs of the logits at so many places, which are computed where they are wanted alone."""
    return 2 * places * shape.config.vocab_size * shape.config.hidden_size


def asking(shape: Shape, tokens: Tokens) -> float:
    """FLOPs of one prompt's reply, as long as it may be."""
    return blocks(shape, tokens.prompt + tokens.reply) + logits(shape, tokens.reply)
