"""A training step on one device: all weights, or LoRA; and what memory it takes.

MFU counts 6 FLOPs a weight and token, of all weights, over the dense bf16 peak; LoRA also 4, for
the gradient of the frozen weights is no work that it needs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu import bench
from benchmarks.gpu.bench import Bench, Case, Row
from jaxattack import sharding, tree
from jaxattack.models.transformer import Transformer
from jaxattack.train import in_parts, loop, lora, losses
from jaxattack.train.optimizer import Settings, make_optimizer
from jaxattack.train.rounding import wide
from jaxattack.tree import Tree

WARMUP, STEPS = 2, 6
RANK = 16
# How the weights are kept and updated.
WAYS: dict[str, Settings] = {
    "AdamW, bfloat16 weights": Settings(1e-5, "adamw", weights="bfloat16"),
    "one card": Settings(1e-5, "adamw8bit", weights="extended"),
    "LoRA": Settings(1e-4),
}
GOALS = {("8B", "one card"): "MFU >= 45 %", ("8B", "LoRA"): ">= 12,500 tokens/s"}


@dataclasses.dataclass(frozen=True)
class Step:
    """A step to be: what is trained, and how.

    Attributes:
        model: the decoder.
        way: a name in `WAYS`.
        rows, length: of a batch.
    """

    model: Transformer
    way: str
    rows: int
    length: int

    @functools.cached_property
    def mesh(self) -> Any:
        """One device."""
        return bench.mesh_here()

    @property
    def change(self) -> lora.LowRank:
        """The adapters of LoRA."""
        return lora.LowRank(RANK)

    @property
    def is_lora(self) -> bool:
        """Whether adapters are trained."""
        return self.way == "LoRA"

    @functools.cached_property
    def training(self) -> loop.Training:
        """As `loop.finetune` makes it."""
        tx = make_optimizer(WAYS[self.way], 1000)
        loss: Any = losses.answer_loss
        if self.is_lora:
            loss = lora.AdaptedLoss(loss, self.change.scale)
        return loop.Training(self.model, tx, loss, self.mesh)

    def shapes(self) -> tuple[Tree, Tree, Tree | None]:
        """Shapes of what is trained, of the optimiser's state, of the weights beside them."""
        weights, base = bench.shapes_of(self.model, self.mesh), None
        if self.is_lora:
            shapes = jax.eval_shape(
                lambda weights: lora.init(weights, RANK, jax.random.key(0)), weights
            )
            weights, base = bench.placed(shapes, self.mesh), weights
        state = jax.eval_shape(lambda params: self.training.tx.init(wide(params)), weights)
        if WAYS[self.way].weights == "extended":
            low = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.int8), weights)
            state = in_parts.Extended(state, low)
        return weights, bench.placed(state, self.mesh), base

    def made(self) -> tuple[Tree, Tree, Tree | None]:
        """The same with values."""
        params, base = bench.random_weights(self.model, self.mesh), None
        if self.is_lora:
            params, base = self.change.first(params, jax.random.key(0)), params
        state = loop.init_state(self.training.tx, params, self.mesh)
        if WAYS[self.way].weights == "extended":
            state = in_parts.extended(state, params, self.mesh)
        return params, state, base

    def draw(self, step: int) -> Any:
        """What the step rounds by."""
        return loop.Rounding(WAYS[self.way].weights).draw_at(step)

    def batch(self) -> Tree:
        """Random tokens without padding, all of them predicted."""
        rng = np.random.default_rng(0)
        shape = self.rows, self.length
        return sharding.place_batch(
            {
                "tokens": rng.integers(0, self.model.config.vocab_size, shape, dtype=np.int32),
                "loss_mask": np.ones(shape, np.float32),
                "segment_ids": np.ones(shape, np.int32),
            },
            self.mesh,
        )

    def lowered(self) -> Any:
        """The step as `loop.train_step` has it, of shapes; nothing is allocated but a batch."""
        params, state, base = self.shapes()
        return loop.train_step.lower(
            self.training, params, state, self.batch(), None, base, self.draw(0)
        )

    def plan(self) -> float | None:
        """GB by `footprint.memory`."""
        settings = WAYS[self.way]
        kinds: dict[str, Any] = {"weights": settings.weights, "optimizer": settings.optimizer}
        sort = "train"
        if self.is_lora:
            sort, kinds["rank"] = "adapters", RANK
        return bench.planned(self.model, sort, self.rows, self.length, **kinds)


def measure(
    about: Bench, shape: str, way: str, length: int, rows: int, attention: str = "auto"
) -> Row:
    """Figures of a step: speed, share of the peak, memory, its loss before and after."""
    model = Transformer(about.config(shape), remat="full", attention=attention)
    step = Step(model, way, rows, length)
    program, found = bench.compiled(step.lowered)
    params, state, base = step.made()
    before = bench.peak_bytes()
    batch = step.batch()
    history: list[jax.Array] = []
    weights = tree.size(params if base is None else base)

    def once() -> jax.Array:
        nonlocal params, state
        draw = step.draw(len(history))
        params, state, loss = program(params, state, batch, None, base, draw)
        history.append(loss)
        return loss

    seconds = bench.median_seconds(once, WARMUP, STEPS)
    speed = rows * length / seconds
    found |= {
        "rows": rows,
        "attention": bench.kernel_of(model, length, packed=True),
        "step s": seconds,
        "tokens/s": speed,
        "MFU, 6N": bench.share(6 * weights * speed, about.peak),
    }
    if step.is_lora:
        found["MFU, 4N"] = bench.share(4 * weights * speed, about.peak)
    return found | {
        "peak GB": bench.risen(before),
        "plan GB": step.plan(),
        "first loss": float(history[0]),
        "last loss": float(history[-1]),
    }


def case(about: Bench, shape: str, way: str, length: int, rows: int, needs: float) -> Case:
    """A case, with fewer rows if they do not fit and without cuDNN if that fails."""
    if about.small:
        length, rows = length // 16, 2
    tries: list[Mapping[str, Any]] = [{"rows": rows}]
    if not about.small:
        tries += [{"rows": max(1, rows // 2)}, {"rows": max(1, rows // 2), "attention": "xla"}]
    return Case(
        "train",
        f"{shape}, {way}, length {length}",
        needs,
        functools.partial(measure, about, shape, way, length),
        tries,
        GOALS.get((shape, way), ""),
    )


def cases(about: Bench) -> tuple[list[Case], list[Case]]:
    """What matters most, and the rest."""
    first = [
        case(about, "8B", "one card", 512, 10, 60),
        case(about, "8B", "LoRA", 512, 16, 60),
    ]
    rest = [
        case(about, "1B", "AdamW, bfloat16 weights", 512, 64, 40),
        case(about, "1B", "LoRA", 512, 64, 40),
        case(about, "8B", "one card", 2048, 2, 60),
        case(about, "8B", "LoRA", 2048, 4, 60),
        case(about, "1B", "AdamW, bfloat16 weights", 2048, 16, 40),
    ]
    return first, rest
