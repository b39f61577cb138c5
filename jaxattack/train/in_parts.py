"""An update that is made a layer at a time, so that its float32 numbers take one layer's memory.

A whole tree's update holds, beside bfloat16 weights and gradients, float32 copies of both, the
direction and the moved weights: more than all that is kept. An optimiser whose update of some
weights asks nothing of the others (`optimizer.Elementwise`) can do without.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxattack import sharding
from jaxattack.train.optimizer import Elementwise
from jaxattack.train.rounding import Draw, joined, parted, rounded, wide
from jaxattack.tree import Tree

ROWS, MUCH = 16, 1 << 26  # parts of an embedding's rows, if it has so many weights

Arrays = list[jax.Array]
# Of a leaf: weights, the byte that follows them or None, what the optimiser keeps.
Part = tuple[jax.Array, jax.Array | None, Arrays]


class Extended(NamedTuple):
    """An optimiser's state, and of bfloat16 weights the byte that follows them (`rounding`)."""

    state: Tree
    low: Tree


def extended(state: Tree, params: Tree, mesh: Mesh) -> Extended:
    """The state before the first step, where weights have a byte more; they begin without it."""
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.int8), params)
    zeros = jax.tree.map(
        lambda leaf, place: jnp.zeros(leaf.shape, leaf.dtype, device=place),
        abstract,
        sharding.shardings(abstract, mesh),
    )
    return Extended(state, zeros)


def whole(params: Tree, low: Tree) -> Tree:
    """Weights and the bytes that follow them as float32; leaf by leaf, in the place of both."""
    highs, structure = jax.tree.flatten(params)
    lows, found = jax.tree.leaves(low), []
    del params, low
    while highs:
        found.append(_joined(highs.pop(0), lows.pop(0)))
    return jax.tree.unflatten(structure, found)


_joined = jax.jit(joined)


def updated(
    tx: Elementwise,
    params: Tree,
    grads: Tree,
    state: Tree,
    trainable: Tree | None = None,
    draw: Draw | None = None,
    alone: bool = True,
) -> tuple[Tree, Tree]:
    """Weights and state after an update, as `loop.train_step` makes it of whole trees.

    Args:
        tx: the optimiser.
        params: the weights.
        grads: a gradient like them, in any type.
        state: of its `init`, perhaps `Extended`; trees in it that are built like the parameters
            are theirs.
        trainable: bool tree like `params`; None trains all.
        draw: round at random instead of to the nearest value.
        alone: whether one device holds all, so that an embedding may be cut by its rows.
    """
    masks = [None] * len(jax.tree.leaves(params))
    if trainable is not None:
        masks = jax.tree.leaves(trainable)
    # Masked for the norm and again for the update, so that no masked tree has to be kept.
    squares = [
        _sum_of_squares(*leaf, alone) for leaf in zip(jax.tree.leaves(grads), masks, strict=True)
    ]
    factor = tx.factor(jnp.sqrt(sum(squares, jnp.zeros(()))))
    weights = jax.tree.leaves(params)
    structure: Any = jax.tree.structure(params)
    lows: list[Any] = [None] * len(weights)
    if isinstance(state, Extended):
        state, lows = state.state, jax.tree.leaves(state.low)
    clipping, own_state = state
    layout = Layout.of(own_state, structure)
    moments, shared = layout.taken_apart(own_state)
    step = _Update(tx, layout, shared, factor)
    draws: list[Draw | None] = [None] * len(weights)
    if draw is not None:
        draws = [Draw(key, draw.step) for key in jax.random.split(draw.key, len(weights))]
    parts, now = [], shared
    for i, beside in enumerate(zip(jax.tree.leaves(grads), masks, draws, strict=True)):
        part, now = _in_turn(step.of, (weights[i], lows[i], moments[i]), *beside, alone)
        parts.append(part)
    high, low, own = zip(*parts, strict=True)
    state = clipping, layout.put_together(list(own), now, structure)
    if lows[0] is not None:
        state = Extended(state, structure.unflatten(low))
    return structure.unflatten(high), state


class _Update(NamedTuple):
    """An update of any part: the optimiser, its state's layout and what is of no part, clipping."""

    tx: Elementwise
    layout: Layout
    shared: Arrays
    factor: jax.Array

    def of(self, *leaf: Any) -> tuple[Part, Arrays]:
        """A part after it.

        A branch has read all that it is given before anything it makes is written. Without one XLA
        could not tell, and would copy all layers of the weights and moments at every turn.
        """
        return jax.lax.cond(jnp.isfinite(self.factor), self.sound, self.spoilt, *leaf)

    def sound(self, part: Part, grad: Any, chosen: Any, draw: Draw | None) -> tuple[Part, Arrays]:
        """The part where all gradients are finite."""
        old, low, own = part
        exact = wide(old) if low is None else joined(old, low)
        scaled = {"part": _masked(grad, chosen).astype(jnp.float32) * self.factor}
        before = self.layout.put_together([own], self.shared, SINGLE)
        updates, after = self.tx.own.update(scaled, before, {"part": exact})
        moved = exact + updates["part"]
        new = (rounded(moved, old, draw), None) if low is None else parted(moved, draw)
        if chosen is not None:
            new = jax.tree.map(lambda new, old: jnp.where(chosen, new, old), new, (old, low))
        (own,), now = Layout.of(after, SINGLE).taken_apart(after)
        return (*new, own), now

    def spoilt(self, part: Part, *_: Any) -> tuple[Part, Arrays]:
        """NaN, which the training's checks name."""
        return (jnp.full_like(part[0], jnp.nan), *part[1:]), self.shared


def _masked(grad: jax.Array, chosen: jax.Array | None) -> jax.Array:
    return grad if chosen is None else jnp.where(chosen, grad, 0)


def _sum_of_squares(grad: jax.Array, chosen: jax.Array | None, alone: bool) -> jax.Array:
    count = _count(grad, alone)

    def add(i, total):
        rows = len(grad) // count
        here = jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, i * rows, rows), (grad, chosen)
        )
        return total + jnp.sum(jnp.square(_masked(*here).astype(jnp.float32)))

    return jax.lax.fori_loop(0, count, add, jnp.zeros(()))


def _count(leaf: jax.Array, alone: bool) -> int:
    """The parts a leaf is worked off in: its layers, or some of an embedding's rows."""
    if leaf.ndim > 2:
        return len(leaf)
    return ROWS if leaf.ndim == 2 and alone and leaf.size >= MUCH and len(leaf) % ROWS == 0 else 1


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where an optimiser's state has trees of the parameters' structure, and where others' nodes.

    Attributes:
        outer: the state's structure around these trees.
        own: which of its nodes are such trees.
        leaves: of a tree.
    """

    outer: Any
    own: tuple[bool, ...]
    leaves: int

    @classmethod
    def of(cls, state: Tree, structure: Any) -> Layout:
        """The layout of a state of parameters that have this structure."""
        nodes, outer = jax.tree.flatten(state, is_leaf=lambda x: _is_like(x, structure))
        own = tuple(_is_like(node, structure) for node in nodes)
        return cls(outer, own, structure.num_leaves)

    def taken_apart(self, state: Tree) -> tuple[list[Arrays], Arrays]:
        """What belongs to each leaf of the parameters, and what to all of them."""
        nodes = self.outer.flatten_up_to(state)
        trees = [jax.tree.leaves(node) for node, own in zip(nodes, self.own, strict=True) if own]
        shared = [node for node, own in zip(nodes, self.own, strict=True) if not own]
        return [[leaves[i] for leaves in trees] for i in range(self.leaves)], shared

    def put_together(self, moments: list[Arrays], shared: Arrays, structure: Any) -> Tree:
        """The state of parameters of a structure, from what `taken_apart` gives."""
        trees = map(structure.unflatten, zip(*moments, strict=True))
        rest = iter(shared)
        return self.outer.unflatten([next(trees) if own else next(rest) for own in self.own])


SINGLE: Any = jax.tree.structure({"part": 0})


def _is_like(node: Tree, structure: Any) -> bool:
    return jax.tree.structure(node) == structure


def _in_turn(
    one: Callable[..., tuple[Part, Arrays]],
    part: Part,
    grad: jax.Array,
    chosen: jax.Array | None,
    draw: Draw | None,
    alone: bool,
) -> tuple[Part, Arrays]:
    """`one` of a leaf's layers, or of an embedding's rows, each in the place of what it was."""
    count = _count(grad, alone)
    if count == 1:
        return one(part, grad, chosen, draw)

    rows = len(grad) // count

    def at(array, i):
        return jax.lax.dynamic_slice_in_dim(array, i * rows, rows)

    def turn(i, state):
        part, _ = state
        here = chosen if chosen is None else at(chosen, i)
        own = draw if draw is None else Draw(jax.random.fold_in(draw.key, i), draw.step)
        new, now = one(jax.tree.map(lambda a: at(a, i), part), at(grad, i), here, own)
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * rows, axis=0)
        return jax.tree.map(put, part, new), now

    shared = jax.eval_shape(lambda: turn(0, (part, None)))[1]
    start = part, [jnp.zeros(leaf.shape, leaf.dtype) for leaf in shared]
    return jax.lax.fori_loop(0, count, turn, start)
