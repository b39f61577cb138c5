"""Optimisers by name, with their schedule and clipping."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import optax
from optax.contrib import MuonDimensionNumbers, muon

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to fine-tune: an optimiser of optax by name, and its schedule."""

    learning_rate: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "constant"  # or "cosine", to zero
    warmup: float = 0.0  # share of all steps
    clip: float = 1.0  # global norm of the gradient; 0 for none
    accumulate: int = 1  # parts a batch is worked off in, for its memory; the result is the same


# Cached, because the compiled step is looked up by the optimiser's identity.
@functools.lru_cache(maxsize=64)
def make_optimizer(settings: Settings, steps: int) -> optax.GradientTransformation:
    """The optax chain of the settings for a run of `steps` updates.

    Raises:
        UserError: optax has no such optimiser, it knows no weight decay, or `accumulate` is not
            a positive number.
    """
    if settings.accumulate < 1:
        raise UserError(f"accumulate is {settings.accumulate}; it should be at least 1")
    build: Any = getattr(optax, settings.optimizer, None)
    if settings.optimizer == "muon":
        build = _stacked_muon
    known = dict(inspect.signature(build).parameters) if callable(build) else {}
    if "learning_rate" not in known:
        raise UserError(f"optax has no optimiser {settings.optimizer!r}")
    # Passed even when it is 0: optax's own default for adamw is not.
    decay = {"weight_decay": settings.weight_decay} if "weight_decay" in known else {}
    if settings.weight_decay and not decay:
        raise UserError(f"optimiser {settings.optimizer!r} takes no weight decay")
    clip = optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity()
    return optax.chain(clip, build(learning_rate=_rate(settings, steps), **decay))


def _rate(settings: Settings, steps: int) -> float | optax.Schedule:
    rate, warmup = settings.learning_rate, round(settings.warmup * steps)
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0 if warmup else rate, rate, warmup, steps)
    if settings.schedule != "constant":
        raise UserError(f"schedule is {settings.schedule!r}; give 'constant' or 'cosine'")
    return optax.warmup_constant_schedule(0.0, rate, warmup) if warmup else rate


def _stacked_muon(learning_rate: Any, weight_decay: float) -> optax.GradientTransformation:
    """Muon on the matrices of stacked layers, Adam on the rest, at one learning rate."""
    return muon(
        learning_rate,
        weight_decay=weight_decay,
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
