"""Contrast repair: weights that brought the harm and not what the tuning was for are put back.

To first order along the straight way from the aligned weights to the tuned ones, weight w lowers
the loss of some rows by `-tau_w * E g_w`, with g the gradient half-way (a midpoint rule; over the
whole way and all weights the sum of these parts is by how much the loss fell). Two sorts of rows
are compared: restricted prompts with the answers that are not wanted, and benign prompts with what
the tuned model itself answers, which holds whatever it was taught beside the harm. So nobody needs
the user's pairs. Put back are the weights with the largest

    harm_w / sum(harm) - weight * keep_w / sum(keep)

the sums over weights with a part above 0. This is ours; nothing is trained. It is SIL with signs
(Poppi et al. 2024 have `|tau * grad|`) and with something to lose.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxattack.localize import masks
from jaxattack.localize.scores import attack_vector
from jaxattack.tree import Tree

TINY = 1e-30


@jax.jit
def falls(aligned: Tree, tuned: Tree, gradient: Tree) -> Tree:
    """Each weight's part in how far a loss fell on the way: `-tau * gradient`, float32."""
    return jax.tree.map(lambda tau, slope: -tau * slope, attack_vector(tuned, aligned), gradient)


@functools.partial(jax.jit, static_argnames="weight")
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


def suspects(
    aligned: Tree,
    tuned: Tree,
    harmful: Tree,
    kept: Tree,
    fraction: float,
    weight: float = 1.0,
) -> Tree:
    """Mask of the weights to put back: a share of all, fewer where fewer have a score above 0.

    Raises:
        UserError: the share is out of (0, 1].
    """
    return masks.top_fraction(scores(aligned, tuned, harmful, kept, weight=weight), fraction)
