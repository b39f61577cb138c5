"""What a study would load, compute and write, before it does: `--dry_run`.

Memory is counted from shapes, places and what each kind of stage holds at once; time from the
model's floating-point operations and bytes read, at a stated share of a device's published peak.
"""

from __future__ import annotations

import math
import pathlib
import typing
from collections.abc import Sequence
from typing import Any

import jax

from jaxattack import savepoint, tree
from jaxattack.experiments import inputs
from jaxattack.experiments.bench import kept_type
from jaxattack.experiments.devices import DEVICES, this_cpu
from jaxattack.experiments.footprint import (
    HELD,
    TUNED,
    Shape,
    Tokens,
    asking,
    blocks,
    held,
    logits,
    memory,
)
from jaxattack.experiments.locating import CALIBRATION_BATCH
from jaxattack.experiments.opening import Opened
from jaxattack.experiments.recipe import Recipe, Updates
from jaxattack.experiments.settings import Model
from jaxattack.experiments.tuning import RANK
from jaxattack.stages import Stage
from jaxattack.train.optimizer import make_optimizer

UTILISATION = 0.4  # of the peak, assumed
TRAINED = {"float32": 4, "extended": 3, "stochastic": 2, "bfloat16": 2}  # bytes of a weight
RECOMPUTED = {"none": 0, "dots": 0, "full": 1}  # forward passes again in the backward pass


def operations(shape: Shape, tokens: Tokens, stages: Sequence[Stage]) -> dict[str, float]:
    """FLOPs by kind of stage: 2 a weight and token forward, 4 backward, and attention's.

    Adapters leave out the half of the backward pass that is the weights' gradient.
    """
    answered = tokens.row if tokens.answered is None else tokens.answered
    read, said = blocks(shape, tokens.row), logits(shape, answered)
    found: dict[str, float] = {}
    for stage in stages:
        passes = 2 if RANK in stage.work else 3
        row = (passes + RECOMPUTED[shape.remat]) * read + passes * said
        flops = stage.work.get("rows", 0) * row
        flops += stage.work.get("prompts", 0) * asking(shape, tokens)
        found[stage.kind] = found.get(stage.kind, 0.0) + flops
    return found


def seconds(
    shape: Shape, tokens: Tokens, stages: Sequence[Stage], asked: int, device: tuple[float, float]
) -> float:
    """Estimated time of the stages on the mesh, if a device of it does so many FLOP and bytes/s."""
    peak, bandwidth = device
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
    left = [stage for stage in stages if stage.kind in TUNED and not stage.folder.is_dir()]
    minutes = savepoint.minutes()
    if not minutes or all(RANK in stage.work for stage in left):
        return []
    point = size(saved(shape, training.updates()))
    return [
        f"saved      {root}/{savepoint.FOLDER}: two of about {point} at most, of a training that "
        f"takes more than {minutes:g} minutes (--save_minutes)"
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
        max((stage.work.get(RANK, 0) for stage in stages), default=0),
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
            name: sum(stage.work.get(name, 0) for stage in own)
            for name in dict.fromkeys(n for stage in own for n in stage.work if n != RANK)
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
    for sort, parts in memory(shape, tokens, batch, asked, CALIBRATION_BATCH).items():
        if not any(is_of(stage, sort) for stage in stages):
            continue
        listed = ", ".join(f"{what} {size(held)}" for what, held in parts.items())
        lines.append(f"{sort:<10}{size(sum(parts.values())):>8} = {listed}")
    left = [stage for stage in stages if not stage.folder.is_dir()]
    total = sum(operations(shape, tokens, left).values())
    devices = DEVICES | dict([this_cpu()])
    known = (
        f"{name} {duration(seconds(shape, tokens, left, asked, device))}"
        for name, device in devices.items()
    )
    return [
        *lines,
        "",
        f"{total:.2g} FLOPs are left to do; time at {100 * UTILISATION:.0f} % of the devices' "
        "peak, every reply as long as it may be:",
        ", ".join(known),
    ]


def is_of(stage: Stage, sort: str) -> bool:
    """Whether a stage is of a sort in `HELD`; one that trains trains adapters, or all weights."""
    wanted = {"train": False, "adapters": True, "merge": True}.get(sort)
    return stage.kind in HELD[sort] and wanted in (None, RANK in stage.work)


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
