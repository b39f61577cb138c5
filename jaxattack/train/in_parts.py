"""An update that is made a layer at a time, so that its float32 numbers take one layer's memory.

A whole tree's update holds, beside bfloat16 weights and gradients, float32 copies of both, the
direction and the moved weights: more than all that is kept. An optimiser whose update of some
weights asks nothing of the others (`optimizer.Elementwise`) can do without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxattack.train.optimizer import Elementwise
from jaxattack.train.rounding import Draw, rounded, wide
from jaxattack.tree import Tree

ROWS, MUCH = 16, 1 << 26  # parts of an embedding's rows, if it has so many weights

Arrays = list[jax.Array]


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
        state: of its `init`; trees in it that are built like the parameters are theirs.
        trainable: bool tree like `params`; None trains all.
        draw: round at random instead of to the nearest value.
        alone: whether one device holds all, so that an embedding may be cut by its rows.
    """
    if trainable is not None:
        grads = jax.tree.map(lambda g, chosen: jnp.where(chosen, g, 0), grads, trainable)
    factor = tx.factor(grads)
    weights = jax.tree.leaves(params)
    structure: Any = jax.tree.structure(params)
    clipping, own_state = state
    layout = Layout.of(own_state, structure)
    moments, shared = layout.taken_apart(own_state)

    def one(part: Arrays, grad: Any, chosen: Any, draw: Draw | None) -> tuple[Arrays, Arrays]:
        old, *own = part
        scaled = {"part": grad.astype(jnp.float32) * factor}
        before = layout.put_together([own], shared, SINGLE)
        updates, after = tx.own.update(scaled, before, {"part": wide(old)})
        new = rounded(wide(old) + updates["part"], old, draw)
        new = new if chosen is None else jnp.where(chosen, new, old)
        (own,), now = Layout.of(after, SINGLE).taken_apart(after)
        return [new, *own], now

    def spoilt(part: Arrays, *_: Any) -> tuple[Arrays, Arrays]:
        return [jnp.full_like(part[0], jnp.nan), *part[1:]], shared

    # A branch has read all that it is given before anything it makes is written. Without one XLA
    # could not tell, and would copy all layers of the weights and moments at every turn.
    def either(*leaf: Any) -> tuple[Arrays, Arrays]:
        return jax.lax.cond(jnp.isfinite(factor), one, spoilt, *leaf)

    masks = [None] * len(weights) if trainable is None else jax.tree.leaves(trainable)
    draws: list[Draw | None] = [None] * len(weights)
    if draw is not None:
        draws = [Draw(key, draw.step) for key in jax.random.split(draw.key, len(weights))]
    parts, now = [], shared
    for i, beside in enumerate(zip(jax.tree.leaves(grads), masks, draws, strict=True)):
        part, now = _in_turn(either, [weights[i], *moments[i]], *beside, alone)
        parts.append(part)
    own_state = layout.put_together([own for _, *own in parts], now, structure)
    return structure.unflatten([new for new, *_ in parts]), (clipping, own_state)


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
    one: Callable[..., tuple[Arrays, Arrays]],
    part: Arrays,
    grad: jax.Array,
    chosen: jax.Array | None,
    draw: Draw | None,
    alone: bool,
) -> tuple[Arrays, Arrays]:
    """`one` of a leaf's layers, or of an embedding's rows, each in the place of what it was."""
    shape, count = grad.shape, 1
    if len(shape) > 2:
        count = shape[0]
    elif len(shape) == 2 and alone and grad.size >= MUCH and shape[0] % ROWS == 0:
        count = ROWS
    if count == 1:
        return one(part, grad, chosen, draw)

    rows = shape[0] // count

    def at(array, i):
        return jax.lax.dynamic_slice_in_dim(array, i * rows, rows)

    def turn(i, state):
        part, _ = state
        here = chosen if chosen is None else at(chosen, i)
        own = draw if draw is None else Draw(jax.random.fold_in(draw.key, i), draw.step)
        new, now = one([at(array, i) for array in part], at(grad, i), here, own)
        put = jax.lax.dynamic_update_slice_in_dim
        return [put(array, leaf, i * rows, 0) for array, leaf in zip(part, new, strict=True)], now

    shared = jax.eval_shape(lambda: turn(0, (part, None)))[1]
    start = part, [jnp.zeros(leaf.shape, leaf.dtype) for leaf in shared]
    return jax.lax.fori_loop(0, count, turn, start)
