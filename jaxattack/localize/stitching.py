"""Moving selected weights between models that share shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import tree
from jaxattack.tree import Tree


def stitch(base: Tree, donor: Tree, mask: Tree) -> Tree:
    """Put the donor's selected weights into the base: `where(mask, donor, base)`.

    Raises:
        UserError: the three are not of one shape.
    """
    tree.check_same_shapes("the mask", mask, "the model", base)
    tree.check_same_shapes("the donor", donor, "the model", base)
    return jax.tree.map(jnp.where, mask, donor, base)


def rewind(attacked: Tree, aligned: Tree, mask: Tree) -> Tree:
    """Put the aligned weights back where the mask selects, after the training."""
    return stitch(attacked, aligned, mask)


def transplant(base: Tree, tau: Tree, mask: Tree) -> Tree:
    """Add the selected part of an attack vector to another model of the same shapes.

    Raises:
        UserError: the three are not of one shape.
    """
    tree.check_same_shapes("the mask", mask, "the model", base)
    tree.check_same_shapes("the attack vector", tau, "the model", base)
    return jax.tree.map(
        lambda m, weight, delta: jnp.where(
            m, (weight.astype(jnp.float32) + delta).astype(weight.dtype), weight
        ),
        mask,
        base,
        tau,
    )


def moved(before: Tree, after: Tree, mask: Tree) -> tuple[int, int]:
    """How many selected weights there are, and how many changed a bit of theirs."""
    selected = changed = 0
    leaves = (tree.named_leaves(t) for t in (before, after, mask))
    for old, new, chosen in zip(*(named.values() for named in leaves), strict=True):
        old, new, chosen = np.asarray(old), np.asarray(new), np.asarray(chosen)
        bits = np.dtype(f"u{old.dtype.itemsize}")
        differs = old.view(bits) != new.view(bits)
        selected += int(chosen.sum())
        changed += int((differs & chosen).sum())
    return selected, changed
