"""Optimisers by name, with their schedule and clipping."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh
from optax.contrib import MuonDimensionNumbers, muon

from jaxattack import sharding, tree
from jaxattack.errors import UserError, check_whole_number
from jaxattack.train import eight_bit
from jaxattack.tree import Tree

# Whose update of some weights asks nothing of the others.
ELEMENTWISE = ("adam", "adamw", "adamw8bit", "lion", "sgd")
WEIGHTS = ("float32", "extended", "stochastic", "bfloat16")
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to fine-tune: an optimiser of optax by name, its schedule, how weights are kept.

    Beside optax's there is "adamw8bit", whose moments take 8 bits a weight (`train.eight_bit`).
    `weights` is "float32", or, for a bfloat16 model, "extended" (bfloat16 for the passes, and a
    byte more that takes up small updates; the result is float32), "stochastic" (bfloat16, rounded
    at random so that small updates arrive on average) or "bfloat16" (rounded to the nearest:
    updates below half a unit in the last place are lost). Of the last two the result has that type.
    To those of optax's that go by a whole array's norm or rows (lamb, lars, adafactor, ...) the
    matrices of one kind are one array with all layers in it; muon takes each layer by itself.

    Raises:
        UserError: a value that makes no sense.

    Example:
        >>> ja.Settings(learning_rate=2e-4, schedule="cosine", warmup=0.1).optimizer
        'adamw'
    """

    learning_rate: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "constant"  # or "cosine", to zero
    warmup: float = 0.0  # share of all steps, below 1
    clip: float = 1.0  # global norm of the gradient; 0 for none
    accumulate: int = 1  # parts a batch is worked off in, for its memory; the result is the same
    weights: str = "float32"

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate is {self.learning_rate}; give a number above 0")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; give 0 or a number above it")
        if not 0 <= self.warmup < 1:
            raise UserError(f"warmup is {self.warmup}; it is a share of all steps, below 1")
        check_whole_number("accumulate", self.accumulate)
        for name, known in (("schedule", SCHEDULES), ("weights", WEIGHTS)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}; give one of {', '.join(known)}"
                )
        if self.weights == "extended" and self.optimizer not in ELEMENTWISE:
            raise UserError(
                f"weights='extended' goes with optimiser {', '.join(ELEMENTWISE)}; this one is "
                f"{self.optimizer!r}"
            )


class Elementwise(NamedTuple):
    """An `optax.GradientTransformation` that can be applied to some of the weights after others.

    Attributes:
        init, update: of the whole, clipped.
        factor: what a gradient is multiplied with to be clipped, by its norm.
        own: what comes after that, on any part of the weights.
    """

    init: Callable[[Tree], Tree]
    update: Callable[..., tuple[Tree, Tree]]
    factor: Callable[[jax.Array], jax.Array]
    own: optax.GradientTransformation


def names() -> list[str]:
    """Optimisers that a learning rate is enough for: optax's, and ours."""
    known = {name: getattr(optax, name) for name in dir(optax)} | OWN
    return sorted(
        name
        for name, build in known.items()
        if inspect.isfunction(build) and "learning_rate" in inspect.signature(build).parameters
    )


# Cached, because the compiled step is looked up by the optimiser's identity.
@functools.lru_cache(maxsize=64)
def make_optimizer(settings: Settings, steps: int) -> optax.GradientTransformation | Elementwise:
    """The optax chain of the settings for a run of `steps` updates.

    Raises:
        UserError: optax has no such optimiser, it knows no weight decay, or it needs more than
            gradients.
    """
    build: Any = OWN.get(settings.optimizer, getattr(optax, settings.optimizer, None))
    known = inspect.signature(build).parameters if inspect.isfunction(build) else {}
    if "learning_rate" not in known:
        raise UserError(f"optax has no optimiser {settings.optimizer!r}")
    # Passed even when it is 0: optax's own default for adamw is not.
    decay = {"weight_decay": settings.weight_decay} if "weight_decay" in known else {}
    if settings.weight_decay and not decay:
        raise UserError(f"optimiser {settings.optimizer!r} takes no weight decay")
    noise = {"key": 0} if "key" in known else {}
    clip = _clipped(settings.clip) if settings.clip else optax.identity()
    own = functools.partial(build, learning_rate=_rate(settings, steps), **decay, **noise)
    found = _tried(settings.optimizer, own)
    whole = optax.chain(clip, found)
    if settings.optimizer not in ELEMENTWISE:
        return whole
    factor = functools.partial(clip_factor, most=settings.clip or math.inf)
    return Elementwise(whole.init, whole.update, factor, found)


def _clipped(most: float) -> optax.GradientTransformation:
    """Gradients scaled down to a global norm of `most`.

    By one factor: a division of every entry, as optax has it, is kept in memory for its two uses.
    """

    def scale(updates: Tree, params: Tree | None = None) -> Tree:
        factor = clip_factor(optax.tree.norm(updates), most)
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates)

    return optax.stateless(scale)


def clip_factor(norm: jax.Array, most: float) -> jax.Array:
    """What a gradient of this norm is multiplied with to have one of `most` at the most."""
    # Of a norm that is not finite nothing is left; the loop then names it.
    return jnp.where(jnp.isfinite(norm), jnp.minimum(1.0, most / norm), jnp.nan)


def _tried(name: str, build: Callable[[], Any]) -> optax.GradientTransformation:
    """The optimiser, seen to be one that the training step can drive."""
    shapes = {"embed": (4, 2), "final_norm": (2,), "layers": {"mlp": {"up": (1, 2, 4)}}}
    toy = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
    try:
        tx = build()
        state = jax.eval_shape(tx.init, toy)
        updates, _ = jax.eval_shape(tx.update, toy, state, toy)
        # Placed by the sharding rules' names; what none of them knows could not be.
        tree.map_named(lambda leaf, x: sharding.spec_for(leaf, x.shape, _MESH), state)
        tree.check_same_shapes("the updates", updates, "the weights", toy)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UserError(
            f"optimiser {name!r} cannot be used: it needs more than a learning rate, gradients "
            f"and weights, or keeps what no mesh can hold ({reason}); take another, such as 'adamw'"
        ) from error
    return tx


_MESH = AbstractMesh((1, 1, 1), sharding.AXES)


def _rate(settings: Settings, steps: int) -> float | optax.Schedule:
    rate = settings.learning_rate
    warmup = min(round(settings.warmup * steps), steps - 1)  # the last step is never at rate 0
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0 if warmup else rate, rate, warmup, steps)
    return optax.warmup_constant_schedule(0.0, rate, warmup) if warmup else rate


def learning_rates(settings: Settings, steps: int) -> np.ndarray:
    """The learning rate of every step of a run of `steps` updates, `[steps]`."""
    rate = _rate(settings, steps)
    counts = np.arange(steps)  # updates that were made before
    return np.asarray(rate(counts) if callable(rate) else np.full(steps, rate), np.float64)


def _stacked_muon(learning_rate: Any, weight_decay: float) -> optax.GradientTransformation:
    """Muon on the matrices of stacked layers, Adam on the rest, at one learning rate."""
    return muon(
        learning_rate,
        weight_decay=weight_decay,
        adam_weight_decay=weight_decay,
        muon_weight_dimension_numbers=_matrix_axes,
        consistent_rms=0.2,  # updates as large as Adam's, so that the rate fits both
    )


def _matrix_axes(params: Tree) -> Tree:
    """Which axes of our leaves are a matrix's inputs and outputs; None for what is no matrix."""

    def axes(name: str, leaf: Any) -> MuonDimensionNumbers | None:
        if name.endswith(("attention/q", "attention/k", "attention/v")):
            return MuonDimensionNumbers(1, (2, 3))
        if name.endswith("attention/qkv"):
            return MuonDimensionNumbers(1, (2, 3, 4))
        if name.endswith("attention/o"):
            return MuonDimensionNumbers((1, 2), 3)
        if name.endswith(("mlp/gate", "mlp/up", "mlp/down")):
            return MuonDimensionNumbers(1, 2)
        return None

    return tree.map_named(axes, params)


OWN: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adamw8bit": eight_bit.adamw8bit,
    "muon": _stacked_muon,
}
