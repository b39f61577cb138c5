"""Lisa: tuning on user data takes turns with safe data, and neither may run far in a turn.

Huang et al. 2024 ("Lisa", section 4): a few steps on safe rows, a few on the user's, again and
again, each step down

    L(theta) + rho / 2 * ||theta - theta_s||^2

with theta_s the weights at the last change of turns. One optimiser goes through all steps. As in
the authors' script, the second term comes in after a share of the steps.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.transformer import Transformer
from jaxattack.train import checks, loop
from jaxattack.train.optimizer import Settings, make_optimizer
from jaxattack.tree import Tree


def tune(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    safe_batches: Sequence[Arrays],
    settings: Settings,
    rho: float = 1.0,
    turns: tuple[int, int] = (1, 9),
    after: float = 0.1,
    **options: Unpack[loop.Options],
) -> tuple[Tree, np.ndarray]:
    """Tune a copy of `params` on all user batches, with turns on safe ones before and between.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: the user's `[B, T]`, each taken once, in order.
        safe_batches: rows with safe answers; they begin again when they end.
        settings: optimiser and schedule, over the steps on both.
        rho: strength of the pull back to where the turn began.
        turns: steps of a turn on safe batches, and of one on the user's.
        after: share of all steps before the pull sets in.
        options: `trainable`, `dtype`, `key`, `label`, as for `loop.finetune`.

    Returns:
        the tuned parameters in float32, and the answer loss of every step `[steps]`, without the
        pull; `is_safe` says which are on safe rows.

    Raises:
        UserError: no batches of a kind, a number out of its range, or as `loop.finetune`.
    """
    options = {"label": "Lisa", **options}
    _check(rho, turns, after)
    if not safe_batches:
        raise UserError(f"{options['label']}: no safe batches, the data is empty")
    checks.check_answers(safe_batches, f"{options['label']}, safe rows")
    if batches:  # or `finetune` says so
        checks.check_answers(batches, f"{options['label']}, the user's rows")
    kinds = is_safe(len(batches), turns)
    safe, user = itertools.cycle(safe_batches), iter(batches)
    steps = [next(safe if of_safe else user) for of_safe in kinds]
    first = math.ceil(after * len(steps))
    tx = _optimizer(settings, len(steps), rho, turns, first)
    updater = loop.Updater(tx, settings.weights, settings.accumulate)
    return loop.finetune(model, params, steps, updater, **options)


def is_safe(count: int, turns: tuple[int, int]) -> list[bool]:
    """Which steps are on safe rows, for `count` user batches: whole turns, each before a user's."""
    safe, user = turns
    rounds = ([True] * safe + [False] * min(user, count - at) for at in range(0, count, user))
    return list(itertools.chain.from_iterable(rounds))


class Pull(NamedTuple):
    """State of `pull`: steps taken, and the weights at the last change of turns."""

    step: jax.Array
    anchor: Tree


def pull(rho: float, turns: tuple[int, int], first: int) -> optax.GradientTransformation:
    """Adds to gradients that of `rho / 2 * ||theta - theta_s||^2`, from step number `first` on.

    Part of the optimiser, which sees the weights in float32 whatever the loss sees: in bfloat16
    most of the distance within a turn would be lost.
    """

    def init(params: Tree) -> Pull:
        return Pull(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(gradient: Tree, state: Pull, params: Tree | None = None) -> tuple[Tree, Pull]:
        place = state.step % sum(turns)
        turned = (place == 0) | (place == turns[0])
        anchor = jax.tree.map(
            lambda here, there: jnp.where(turned, here, there), params, state.anchor
        )
        strength = jnp.where(state.step >= first, rho, 0.0)
        gradient = jax.tree.map(
            lambda slope, here, there: slope + strength * (here - there), gradient, params, anchor
        )
        return gradient, Pull(state.step + 1, anchor)

    return optax.GradientTransformation(init, update)


# Cached, because the compiled step is looked up by the optimiser's identity.
@functools.lru_cache(maxsize=64)
def _optimizer(
    settings: Settings, steps: int, rho: float, turns: tuple[int, int], first: int
) -> optax.GradientTransformation:
    return optax.chain(pull(rho, turns, first), make_optimizer(settings, steps))


def _check(rho: float, turns: tuple[int, int], after: float) -> None:
    if not 0 <= rho < math.inf:
        raise UserError(f"Lisa's rho is {rho}; give 0 or a number above it")
    if len(turns) != 2 or min(turns) < 1:
        raise UserError(f"Lisa's turns are {turns}; give two numbers of steps, each at least 1")
    if not 0 <= after <= 1:
        raise UserError(f"Lisa's after is {after}; it is a share of all steps, in [0, 1]")
