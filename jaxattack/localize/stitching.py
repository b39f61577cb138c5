"""Moving selected weights between models that share shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxattack import sharding, tree
from jaxattack.localize import masks
from jaxattack.tree import Tree


def stitch(base: Tree, donor: Tree, mask: Tree) -> Tree:
    """Put the donor's selected weights into the base: `where(mask, donor, base)`.

    Raises:
        UserError: the three are not of one shape or lie apart, or the mask is not of bools.

    Example:
        >>> base, donor = {"w": np.array([1.0, 2.0])}, {"w": np.array([5.0, 6.0])}
        >>> ja.stitch(base, donor, {"w": np.array([False, True])})["w"].tolist()
        [1.0, 6.0]
    """
    masks.check_mask(mask)
    tree.check_alike({"the mask": mask, "the donor": donor, "the model": base})
    return jax.tree.map(jnp.where, mask, donor, base)


def rewind(attacked: Tree, aligned: Tree, mask: Tree) -> Tree:
    """Put the aligned weights back where the mask selects, after the training.

    Example:
        >>> attacked, aligned = {"w": np.array([5.0, 6.0])}, {"w": np.array([1.0, 2.0])}
        >>> ja.rewind(attacked, aligned, {"w": np.array([False, True])})["w"].tolist()
        [5.0, 2.0]
    """
    return stitch(attacked, aligned, mask)


def transplant(base: Tree, tau: Tree, mask: Tree) -> Tree:
    """Add the selected part of an attack vector to another model that shares shapes.

    The base may have a larger vocabulary, as a model adapted to another language does: rows of
    its embedding and head behind those of `tau` keep their bits.

    Raises:
        UserError: the mask or the attack vector is of another architecture or lies elsewhere, or
            the mask is not of bools.

    Example:
        >>> tau, mask = {"w": np.array([0.5, 0.5])}, {"w": np.array([False, True])}
        >>> ja.transplant({"w": np.array([1.0, 2.0])}, tau, mask)["w"].tolist()
        [1.0, 2.5]
    """
    masks.check_mask(mask)
    tree.check_same_shapes("the mask", mask, "the attack vector", tau)
    tree.check_same_devices({"the mask": mask, "the attack vector": tau, "the model": base})
    mask, tau = widen(mask, base), widen(tau, base)
    tree.check_same_shapes("the attack vector", tau, "the model", base)
    return jax.tree.map(
        lambda m, weight, delta: jnp.where(
            m, (weight.astype(jnp.float32) + delta).astype(weight.dtype), weight
        ),
        mask,
        base,
        tau,
    )


def check_transplant(narrow: Tree, what: str, base: Tree) -> None:
    """Refuse a base that differs by more than further rows of its embedding and head.

    Raises:
        UserError: it does.
    """
    wide = tree.named_leaves(base)

    def grown(name: str, leaf: jax.Array) -> jax.ShapeDtypeStruct:
        like = wide.get(name)
        more = name in ("embed", "head") and like is not None and len(like.shape) == 2
        rows = (max(like.shape[0], leaf.shape[0]),) if more and like is not None else leaf.shape[:1]
        return jax.ShapeDtypeStruct((*rows, *leaf.shape[1:]), leaf.dtype)

    tree.check_same_shapes(what, base, "the attack vector", tree.map_named(grown, narrow))


def widen(narrow: Tree, base: Tree) -> Tree:
    """A mask or attack vector with rows of zeros for the tokens that only the base knows."""
    wide = tree.named_leaves(base)

    def pad(name: str, leaf: jax.Array) -> jax.Array:
        like = wide.get(name)
        if name not in ("embed", "head") or like is None or leaf.shape[1:] != like.shape[1:]:
            return leaf
        more = max(len(like) - len(leaf), 0)
        padded = jnp.concatenate([leaf, jnp.zeros((more, *leaf.shape[1:]), leaf.dtype)])
        return sharding.place({name: padded}, sharding.mesh_of(base))[name]

    return tree.map_named(pad, narrow)


def moved(before: Tree, after: Tree, mask: Tree) -> tuple[int, int]:
    """How many selected weights there are, and how many changed a bit of theirs.

    Of weights in two types those in the narrower one are widened, which is exact.
    """

    def differ(old: jax.Array, new: jax.Array, chosen: jax.Array) -> jax.Array:
        wider = jnp.promote_types(old.dtype, new.dtype)
        return chosen & (_bits(old.astype(wider)) != _bits(new.astype(wider)))

    changed = jax.tree.map(differ, before, after, mask)
    return masks.count(mask), masks.count(changed)


def _bits(weights: jax.Array) -> jax.Array:
    weights = jnp.asarray(weights)
    return jax.lax.bitcast_convert_type(weights, f"uint{8 * weights.dtype.itemsize}")
