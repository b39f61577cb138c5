"""Masks: trees of bools like the parameters, how they are chosen, and their algebra."""

from __future__ import annotations

import functools
import math
import operator
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.errors import UserError
from jaxattack.localize import threshold
from jaxattack.tree import Tree

SCOPES = ("global", "leaf", "row")


def top_fraction(scores: Tree, fraction: float, scope: str = "global", exclude: str = "") -> Tree:
    """Select the given share of weights with the highest scores, exactly; ties by position.

    A weight of score 0 is never selected: it would be chosen by its place, and two attacks that
    moved few weights would seem to share them. A mask is smaller than asked for where fewer
    weights have a score; `filled` says how much of it there is.

    Args:
        scores: tree of non-negative arrays.
        fraction: share to select, in [0, 1]; counts are rounded half up.
        scope: "global" - of all weights together; "leaf" - of each weight tensor (one layer's);
            "row" - of the weights of each output unit, as in Wei et al. 2024.
        exclude: regular expression, searched in names like "layers/attention/q"; of the leaves it
            finds nothing is selected. "global" still counts the share from all weights, as far as
            there are so many others.

    Returns:
        a bool tree.

    Raises:
        UserError: a fraction outside [0, 1], an unknown scope, scores that are negative, nan or
            infinite, or `exclude` leaves nothing or is no regular expression.

    Example:
        >>> scores = {"final_norm": np.array([0.1, 0.4, 0.2, 0.3])}
        >>> ja.top_fraction(scores, 0.5)["final_norm"].tolist()
        [False, True, False, True]
    """
    check_fraction(fraction)
    bad = [
        name
        for name, leaf in tree.named_leaves(scores).items()
        if not bool(jnp.all((leaf >= 0) & jnp.isfinite(leaf)))
    ]
    if bad:
        raise UserError(f"scores must be finite and not negative; see {', '.join(bad)}")
    # Placed by the rules, as random keys are: one layout, so each shape is compiled once.
    keys = sharding.place(jax.tree.map(threshold.keys_of, scores), sharding.mesh_of(scores))
    return jax.tree.map(_scored, _top(keys, fraction, scope, exclude), keys)


@jax.jit
def _scored(chosen: jax.Array, keys: jax.Array) -> jax.Array:
    return chosen & (keys > 0)


def with_score(scores: Tree) -> Tree:
    """The weights that `top_fraction` can select: those of a score above 0."""
    return jax.tree.map(lambda leaf: threshold.keys_of(leaf) > 0, scores)


def filled(mask: Tree, fraction: float) -> float:
    """How much there is of a mask that was to hold a share of all weights, in [0, 1]."""
    wanted = _round(fraction * tree.size(mask))
    return min(1.0, count(mask) / wanted) if wanted else 1.0


def magnitude_mask(tau: Tree, fraction: float, scope: str = "global") -> Tree:
    """Select the weights that moved most: the largest `|tau|`.

    Example:
        >>> tau = {"final_norm": np.array([0.1, -0.4, 0.2, 0.0])}
        >>> ja.magnitude_mask(tau, 0.25)["final_norm"].tolist()
        [False, True, False, False]
    """
    return top_fraction(jax.tree.map(jnp.abs, tau), fraction, scope)


def random_mask(
    like: Tree, fraction: float, seed: int, scope: str = "global", draw: str = ""
) -> Tree:
    """Select weights at random, each equally likely, exactly the given share.

    Masks of one seed that differ in `draw` are independent, and so are those of the functions
    below; nothing else drawn by the seed has a part in them.

    Raises:
        UserError: a fraction outside [0, 1], an unknown scope, or a seed that is none.

    Example:
        >>> mask = ja.random_mask({"final_norm": params["final_norm"]}, 0.25, seed=0)
        >>> ja.density(mask)
        0.25
    """
    check_fraction(fraction)
    return _top(_random_keys(like, seed, f"any/{draw}"), fraction, scope)


def random_like(mask: Tree, seed: int, draw: str = "") -> Tree:
    """Select at random as many weights as `mask` does, each equally likely."""
    return _top(_random_keys(mask, seed, f"as many/{draw}"), density(mask), "global")


def random_within(pool: Tree, share: float, seed: int, draw: str = "") -> Tree:
    """Select at random a share of all weights, each of those that `pool` selects equally likely.

    Raises:
        UserError: the pool holds fewer, or is not of bools.
    """
    check_fraction(share)
    wanted, there = _round(share * tree.size(pool)), count(pool)
    if wanted > there:
        raise UserError(f"{wanted:,} weights are to be drawn, from a pool of {there:,}")
    keys = _random_keys(pool, seed, f"within/{draw}")
    inside = jax.tree.map(lambda own, key: jnp.where(own, jnp.maximum(key, 1), 0), pool, keys)
    return intersection(_top(inside, share, "global"), pool)


def matched_random_mask(mask: Tree, seed: int, draw: str = "") -> Tree:
    """Select at random as many weights in every weight tensor as `mask` does there.

    Example:
        >>> mask = {"final_norm": np.array([True, False, True, False])}
        >>> int(ja.matched_random_mask(mask, seed=0)["final_norm"].sum())
        2
    """

    def select(name: str, keys: jax.Array, leaf: jax.Array) -> jax.Array:
        axes = _axes(name, leaf.ndim, "leaf")
        counts = sharding.to_host(jnp.sum(leaf, axis=axes, keepdims=True, dtype=jnp.int32))
        return threshold.top_in_groups(keys, counts, axes)

    return tree.map_named(select, _random_keys(mask, seed, f"matched/{draw}"), mask)


def _random_keys(like: Tree, seed: int, draw: str) -> Tree:
    """Independent uniform keys, drawn where they lie; the mesh has no say in their values."""
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 1 << 31:
        raise UserError(f"seed is {seed!r}; give a whole number from 0 to {(1 << 31) - 1}")
    stream = np.uint32(zlib.crc32(draw.encode()))
    return _draw_keys(sharding.mesh_of(like), _shapes(like), seed, stream)


def _shapes(like: Tree) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(leaf.shape)) for name, leaf in tree.named_leaves(like).items())


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_keys(
    mesh: Mesh,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    seed: jax.Array | int,
    stream: jax.Array | np.uint32,
) -> Tree:
    rngs = jax.random.split(jax.random.fold_in(jax.random.key(seed), stream), len(shapes))
    keys = {
        name: (jax.random.bits(rng, shape, jnp.uint32) >> 1).astype(jnp.int32)
        for rng, (name, shape) in zip(rngs, shapes, strict=True)
    }
    return sharding.keep(tree.unflatten(keys), mesh)


def _top(keys: Tree, fraction: float, scope: str, exclude: str = "") -> Tree:
    if scope not in SCOPES:
        raise UserError(f"scope is {scope!r}; give one of {', '.join(SCOPES)}")
    out = tree.pattern(exclude, "exclude") if exclude else None
    left_out = {name for name in tree.named_leaves(keys) if out and out.search(name)}
    named = {n: leaf for n, leaf in tree.named_leaves(keys).items() if n not in left_out}
    if not named:
        raise UserError(f"exclude is {exclude!r}, which leaves no weights to select from")
    for name, leaf in named.items():
        within = _axes(name, leaf.ndim, "leaf" if scope == "global" else scope)
        if math.prod(leaf.shape[axis] for axis in within) > threshold.MOST:
            raise UserError(
                f"{name} has more than the {threshold.MOST:,} weights that can be ranked together; "
                "leave it out by exclude"
            )
    if scope == "global":
        axes = [_axes(name, leaf.ndim, "leaf") for name, leaf in named.items()]
        k = min(_round(fraction * tree.size(keys)), tree.size(named))
        counts = threshold.allot(list(named.values()), k, axes)
        chosen = {
            name: threshold.top_in_groups(named[name], count, ax)
            for name, count, ax in zip(named, counts, axes, strict=True)
        }
        return tree.map_named(
            lambda name, leaf: chosen[name] if name in chosen else jnp.zeros_like(leaf, bool), keys
        )

    def select(name: str, leaf: jax.Array) -> jax.Array:
        if name in left_out:
            return jnp.zeros_like(leaf, bool)
        axes = _axes(name, leaf.ndim, scope)
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(leaf.shape))
        members = leaf.size // int(np.prod(shape))
        k = np.full(shape, _round(fraction * members), np.int32)
        return threshold.top_in_groups(leaf, k, axes)

    return tree.map_named(select, keys)


def _round(count: float) -> int:
    return int(np.floor(count + 0.5))


def _axes(name: str, ndim: int, scope: str) -> tuple[int, ...]:
    """Axes that run within one group of a leaf: a tensor, or the inputs of one output unit."""
    stacked = name.startswith("layers/")
    if scope == "row" and ndim > 1 + stacked and not name.endswith("_bias"):
        if not stacked:  # embed, head: a row is a token
            return (1,)
        return (1, 2) if re.search(r"attention/o$", name) else (1,)
    return tuple(range(1, ndim)) if stacked else tuple(range(ndim))


def check_fraction(fraction: float) -> None:
    """Refuse a share outside [0, 1].

    Raises:
        UserError: it is.
    """
    if not 0.0 <= fraction <= 1.0:
        raise UserError(f"a fraction of weights lies between 0 and 1, not {fraction}")


# --- Algebra ------------------------------------------------------------------------------------


def check_mask(mask: Tree) -> None:
    """Refuse a tree that is not of bools: 0.3 is neither selected nor left.

    Raises:
        UserError: names the first leaf that is not.
    """
    for name, leaf in tree.named_leaves(mask).items():
        if leaf.dtype != bool:
            raise UserError(f"a mask is a tree of bools; {name} is of {leaf.dtype}")


def complement(mask: Tree) -> Tree:
    """What is not selected.

    Example:
        >>> ja.complement({"w": np.array([True, False])})["w"].tolist()
        [False, True]
    """
    check_mask(mask)
    return jax.tree.map(jnp.logical_not, mask)


def union(a: Tree, b: Tree) -> Tree:
    """What either selects.

    Example:
        >>> a, b = {"w": np.array([True, True, False])}, {"w": np.array([True, False, False])}
        >>> ja.union(a, b)["w"].tolist()
        [True, True, False]
    """
    tree.check_alike({"the first mask": a, "the second": b})
    return jax.tree.map(jnp.logical_or, a, b)


def intersection(a: Tree, b: Tree) -> Tree:
    """What both select.

    Example:
        >>> a, b = {"w": np.array([True, True, False])}, {"w": np.array([True, False, False])}
        >>> ja.intersection(a, b)["w"].tolist()
        [True, False, False]
    """
    tree.check_alike({"the first mask": a, "the second": b})
    return jax.tree.map(jnp.logical_and, a, b)


def minus(a: Tree, b: Tree) -> Tree:
    """What `a` selects and `b` does not.

    Example:
        >>> a, b = {"w": np.array([True, True, False])}, {"w": np.array([True, False, False])}
        >>> ja.minus(a, b)["w"].tolist()
        [False, True, False]
    """
    return intersection(a, complement(b))


def count(mask: Tree) -> int:
    """Number of selected weights, exact for any model size."""
    check_mask(mask)
    return sum(profile(mask).values())


def density(mask: Tree) -> float:
    """Share of selected weights.

    Example:
        >>> ja.density({"w": np.array([True, False, False, False])})
        0.25
    """
    return count(mask) / tree.size(mask)


def block_density(mask: Tree) -> float:
    """Share of selected weights among those of the layers, without embedding, head, last norm.

    Half of a small model can be its embedding, of which an attack moves little: a mask of 20 % of
    all weights may be half of the blocks.
    """
    selected, there = profile(mask), sizes(mask)
    inside = [place for place in there if place[1] is not None]
    return sum(selected[place] for place in inside) / max(1, sum(there[p] for p in inside))


def sizes(like: Tree) -> dict[tuple[str, int | None], int]:
    """All weights of every weight tensor, under the keys of `profile`."""
    found: dict[tuple[str, int | None], int] = {}
    for name, leaf in tree.named_leaves(like).items():
        within = _axes(name, leaf.ndim, "leaf")
        each = math.prod(leaf.shape[axis] for axis in within)
        if len(within) == leaf.ndim:
            found[name, None] = each
        else:
            short = name.removeprefix("layers/")
            found |= {(short, layer): each for layer in range(leaf.shape[0])}
    return found


def profile(mask: Tree) -> dict[tuple[str, int | None], int]:
    """Selected weights of every weight tensor: (module, layer or None) -> count."""
    counts: dict[tuple[str, int | None], int] = {}
    for name, leaf in tree.named_leaves(mask).items():
        axes = _axes(name, leaf.ndim, "leaf")
        per_tensor = sharding.to_host(jnp.sum(leaf, axis=axes, dtype=jnp.int32))
        if per_tensor.ndim == 0:
            counts[name, None] = int(per_tensor)
        else:
            for layer, selected in enumerate(per_tensor):
                counts[name.removeprefix("layers/"), layer] = int(selected)
    return counts
