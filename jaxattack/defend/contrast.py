"""Contrast repair: weights that brought the harm and not what the tuning was for are put back.

To first order along the straight way from the aligned weights to the tuned ones, weight w lowers
the loss of some rows by `-tau_w * E g_w`, with g the gradient half-way (a midpoint rule; over the
whole way and all weights these parts sum up to how far the loss fell). Two sorts of rows are
compared: restricted prompts with the answers that are not wanted, and benign prompts with what the
tuned model itself answers, which holds whatever it was taught beside the harm. So nobody needs the
user's pairs. Put back are the weights with the largest

    harm_w / sum(harm) - weight * keep_w / sum(keep)

the sums over weights with a part above 0; some of them, then the parts are computed anew, for a
few rounds: after a large change of weights the first order says little of the rest.

This is ours; nothing is trained. It is SIL with signs (Poppi et al. 2024 have `|tau * grad|`) and
with something to lose.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.localize import importance, masks, stitching
from jaxattack.localize.scores import attack_vector, mean_gradient
from jaxattack.models.transformer import Transformer
from jaxattack.tree import Tree

TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much goes back.

    Attributes:
        share: of all weights, in all rounds together; fewer where fewer did more harm than good.
        rounds: between which the parts are computed anew.
        weight: of what is to be kept, against the harm.

    Raises:
        UserError: a value out of its range.
    """

    share: float = 0.1
    rounds: int = 5
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"share is {self.share}; give one above 0, at most 1")
        if self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}; it should be at least 1")
        if not self.weight >= 0:
            raise UserError(f"weight is {self.weight}; give 0 or a number above it")


def repaired(
    model: Transformer,
    tuned: Tree,
    aligned: Tree,
    harmful: Sequence[Arrays],
    kept: Sequence[Arrays],
    plan: Plan,
    label: str = "contrast repair",
    dtype: str = "float32",
) -> Tree:
    """Tuned weights of which some are the aligned ones again.

    Args:
        model: the decoder.
        tuned: parameters after the tuning; left as they are.
        aligned: parameters before it.
        harmful: rows `[B, T]` (see `encode_pairs`) of restricted prompts with answers that are not
            wanted.
        kept: rows of benign prompts with the tuned model's own answers.
        plan: how much goes back.
        label: what the progress bar says.
        dtype: in which the losses see the weights.

    Raises:
        UserError: models of two shapes, or rows without a token to predict.
    """
    tree.check_same_shapes("the aligned model", aligned, "the tuned model", tuned)
    mesh = sharding.mesh_of(tuned)
    aligned = sharding.place(aligned, mesh)
    aligned = jax.tree.map(lambda old, new: old.astype(new.dtype), aligned, tuned)
    for number in range(plan.rounds):
        half = tree.cast(importance.between(aligned, tuned, 0.5), dtype)
        about = f"{label}, round {number + 1}"
        slopes = [
            mean_gradient(model, half, rows, label=about, moment="sum") for rows in (harmful, kept)
        ]
        del half
        found = scores(aligned, tuned, *slopes, plan.weight)
        del slopes
        chosen = masks.top_fraction(found, plan.share / plan.rounds)
        tuned = stitching.rewind(tuned, aligned, chosen)
    return tuned


@jax.jit
def falls(aligned: Tree, tuned: Tree, gradient: Tree) -> Tree:
    """Each weight's part in how far a loss fell on the way: `-tau * gradient`, float32."""
    return jax.tree.map(lambda tau, slope: -tau * slope, attack_vector(tuned, aligned), gradient)


@functools.partial(jax.jit, static_argnums=4)
def scores(aligned: Tree, tuned: Tree, harmful: Tree, kept: Tree, weight: float = 1.0) -> Tree:
    """What is put back first: float32, 0 where a weight had no more part in harm than in the rest.

    Args:
        aligned, tuned: weights before and after.
        harmful: mean gradient half-way of rows with answers that are not wanted.
        kept: the same of benign rows with the tuned model's own answers.
        weight: of what is to be kept.
    """
    harm, keep = (_shares(falls(aligned, tuned, gradient)) for gradient in (harmful, kept))
    return jax.tree.map(lambda h, k: jnp.maximum(h - weight * k, 0.0), harm, keep)


def _shares(parts: Tree) -> Tree:
    """The parts over the sum of those above 0."""
    total = sum(jnp.sum(jnp.maximum(leaf, 0.0)) for leaf in jax.tree.leaves(parts))
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(total, TINY), parts)
