"""What a study would load, compute and write, before it does: `--dry_run`.

Memory is counted from shapes, places and what each kind of stage holds at once; time from the
model's floating-point operations and bytes read, at a stated share of a device's published peak.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import typing
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh

from jaxattack import savepoint, sharding, tree
from jaxattack.experiments import inputs
from jaxattack.experiments.bench import kept_type
from jaxattack.experiments.devices import DEVICES
from jaxattack.experiments.locating import CALIBRATION_BATCH
from jaxattack.experiments.opening import Opened
from jaxattack.experiments.recipe import Recipe, Updates
from jaxattack.experiments.settings import Model
from jaxattack.localize import scores
from jaxattack.models.config import ModelConfig, activations
from jaxattack.stages import Stage
from jaxattack.train import lora
from jaxattack.train.eight_bit import BLOCK
from jaxattack.train.optimizer import ELEMENTWISE, make_optimizer
from jaxattack.tree import Tree

LAYERS = 6  # float32 copies of a layer's matrix that its update holds
UTILISATION = 0.4  # of the peak, assumed
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
    "merge": TUNED,
    "score": ("gradients", "inputs"),
    "choose": ("mask",),
    "stitch": ("mask",),
    "ask": ("ask",),
}
TRAINED = {"float32": 4, "extended": 3, "stochastic": 2, "bfloat16": 2}  # bytes of a weight
RECOMPUTED = {"none": 0, "dots": 0, "full": 1}  # forward passes again in the backward pass


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
    rank: int = 0  # of adapters; 0: all weights are trained


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Lengths in tokens: of a padded training row, of a padded prompt, of a longest reply."""

    row: int
    prompt: int
    reply: int


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
    found = {
        "train": trained(
            shape,
            {
                "a layer, gathered, and a gradient in it": (layer + matrix) * item if layer else 0,
                "activations": activations(c, rows, tokens.row, item, shape.remat, ways),
                "logits of a chunk": min(rows * chunk, 2 << 30),
            },
            matrix,
        ),
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
    if shape.rank:  # the adapters, after the last step
        found["merge"] = {"weights": weights, "merged, float32": wide}
    return found


def trained(shape: Shape, passes: dict[str, int], matrix: int) -> dict[str, int]:
    """Bytes of a training step, given what its passes take, by what holds them."""
    weights = held(shape, 2 if "16" in shape.dtype else 4)
    if not shape.rank:
        return updated(shape, weights, matrix) | passes
    adapters = jax.eval_shape(
        lambda params: lora.init(params, shape.rank, jax.random.key(0)), shape.abstract
    )
    thin = held(shape, 16, adapters)
    return {"weights": weights, "adapters, gradient and moments, float32": thin, **passes}


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


def forward(shape: Shape, length: int) -> float:
    """FLOPs of reading so many tokens of one text: 2 a weight and token, and attention's."""
    c = shape.config
    matrices = sum(
        math.prod(leaf.shape)
        for name, leaf in tree.named_leaves(shape.abstract).items()
        if name != "embed" and len(leaf.shape) > 1
    ) + (c.vocab_size * c.hidden_size if c.tied else 0)
    return length * (2 * matrices + 2 * c.num_layers * c.num_heads * c.head_dim * length)


def operations(shape: Shape, tokens: Tokens, stages: Sequence[Stage]) -> dict[str, float]:
    """FLOPs by kind of stage: 2 a weight and token forward, 4 backward, and attention's.

    Adapters leave out the half of the backward pass that is the weights' gradient.
    """
    passes = (2 if shape.rank else 3) + RECOMPUTED[shape.remat]
    found: dict[str, float] = {}
    for stage in stages:
        flops = stage.work.get("rows", 0) * passes * forward(shape, tokens.row)
        flops += stage.work.get("prompts", 0) * forward(shape, tokens.prompt + tokens.reply)
        found[stage.kind] = found.get(stage.kind, 0.0) + flops
    return found


def seconds(
    shape: Shape, tokens: Tokens, stages: Sequence[Stage], asked: int, device: str
) -> float:
    """Estimated time of the stages on the mesh, if it is made of such devices."""
    peak, bandwidth = DEVICES[device]
    count = math.prod(shape.mesh.shape.values())
    total = sum(operations(shape, tokens, stages).values()) / (peak * UTILISATION * count)
    # Decoding reads all weights once a token and batch, whatever it computes.
    prompts = sum(stage.work.get("prompts", 0) for stage in stages)
    item = 2 if "16" in shape.dtype else 4
    reads = math.ceil(prompts / asked) * tokens.reply * held(shape, item)
    return total + reads / (bandwidth * UTILISATION)


def written(shape: Shape, stages: Sequence[Stage]) -> int:
    """Bytes that the stages leave on disk."""
    weights = tree.size(shape.abstract)
    item = 2 if "16" in shape.dtype and kept_type(shape.weights) is None else 4
    each = {
        **dict.fromkeys(TUNED, weights * item),
        **dict.fromkeys(("gradients", "inputs"), weights * 4),
        "mask": weights // 8,
    }
    return sum(each.get(stage.kind, 0) for stage in stages)


def saved(shape: Shape, updates: Updates) -> int:
    """Bytes of a saving point: all weights, as they are trained, and the optimiser's state."""
    tx = make_optimizer(updates, steps=100)
    state = jax.eval_shape(lambda params: tx.init(tree.cast(params, "float32")), shape.abstract)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return tree.size(shape.abstract) * TRAINED[shape.weights] + held


def saving_lines(
    shape: Shape, training: Recipe, root: pathlib.Path, stages: Sequence[Stage]
) -> list[str]:
    """For plans: what saving points take, if weights are trained; those of adapters are small."""
    kinds = {stage.kind for stage in stages if not stage.folder.is_dir()}
    if kinds.isdisjoint(TUNED) or not training.way.rounds:
        return []
    point = size(saved(shape, training.updates()))
    return [
        f"saved      {root}/{savepoint.FOLDER}: two of about {point} at most, of a training that "
        f"takes more than {savepoint.MINUTES:g} minutes (--save_minutes)"
    ]


def lines(
    settings: Model,
    root: pathlib.Path,
    opened: Opened,
    training: Recipe,
    stages: Sequence[Stage],
    tokens: Tokens,
    about: Sequence[str],
) -> list[str]:
    """What `--dry_run` prints of a study.

    Args:
        settings: with `data` and `measure`.
        root: the work directory.
        opened: the model, foreseen.
        training: of the attacks.
        stages: all of them.
        tokens: how long rows, prompts and replies are.
        about: lines on the study's data.
    """
    mesh, named = opened.mesh, typing.cast(Any, settings)
    shape = Shape(
        opened.decoder.model.config,
        opened.like,
        mesh,
        settings.dtype,
        settings.remat,
        training.weights,
        training.optimizer,
        training.accumulate,
        training.rank if training.method == "lora" else 0,
    )
    batch = training.batch_size // training.accumulate
    return [
        f"model      {settings.model}",
        *inputs.source_lines(named, public_only=False),
        *about,
        *device_lines(mesh),
        f"written    {root}/stages: about {size(written(shape, stages))}",
        *saving_lines(shape, training, root, stages),
        "",
        *table(stages),
        "",
        *estimate(shape, tokens, stages, batch, named.measure.batch_size),
    ]


def device_lines(mesh: Any) -> list[str]:
    """For plans: a line if the study needs more devices than there are here."""
    here = jax.device_count()
    if mesh.size <= here:
        return []
    return [f"devices    config.mesh needs {mesh.size}; here are {here}"]


def table(stages: Sequence[Stage]) -> list[str]:
    """The stages by kind: how many, how many are there, and how much work they are."""
    lines = [f"{'stage':<18}{'all':>6}{'done':>6}   work"]
    for kind in dict.fromkeys(stage.kind for stage in stages):
        own = [stage for stage in stages if stage.kind == kind]
        finished = sum(stage.folder.is_dir() for stage in own)
        totals = {
            name: sum(stage.work[name] for stage in own)
            for name in dict.fromkeys(name for stage in own for name in stage.work)
        }
        work = ", ".join(f"{total:,} {name}" for name, total in totals.items())
        lines.append(f"{kind:<18}{len(own):>6}{finished:>6}   {work}")
    return lines


def estimate(
    shape: Shape, tokens: Tokens, stages: Sequence[Stage], batch: int, asked: int
) -> list[str]:
    """Memory and time, as lines.

    `batch` rows are trained on and `asked` prompts decoded at once.
    """
    count = math.prod(shape.mesh.shape.values())
    axes = " x ".join(f"{name} {size}" for name, size in shape.mesh.shape.items())
    lines = [
        f"{tree.size(shape.abstract):,} parameters in {shape.dtype} on {count} devices ({axes}); "
        "memory on one of them, estimated:"
    ]
    kinds = {stage.kind for stage in stages}
    for sort, parts in memory(shape, tokens, batch, asked, CALIBRATION_BATCH).items():
        if kinds.isdisjoint(HELD[sort]):
            continue
        listed = ", ".join(f"{what} {size(held)}" for what, held in parts.items())
        lines.append(f"{sort:<10}{size(sum(parts.values())):>8} = {listed}")
    left = [stage for stage in stages if not stage.folder.is_dir()]
    total = sum(operations(shape, tokens, left).values())
    known = (f"{d} {duration(seconds(shape, tokens, left, asked, d))}" for d in DEVICES)
    return [
        *lines,
        "",
        f"{total:.2g} FLOPs are left to do; time at {100 * UTILISATION:.0f} % of the devices' "
        "peak, every reply as long as it may be:",
        ", ".join(known),
    ]


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
        count /= 1000
    return ""


def duration(value: float) -> str:
    """Seconds in words."""
    if value < 90:
        return f"{value:.2g} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
