"""How many of the trained weights a training moved: a result that says what others are worth.

Where few moved, two attacks agree on the weights that stayed, and a defence has done nothing.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding
from jaxattack.tree import Tree


def shares_moved(
    before: Tree, after: Tree, dtype: str, trainable: Tree | None = None
) -> dict[str, float | int]:
    """Of the weights that were trained the shares that moved.

    Args:
        before: parameters before the training.
        after: those after it.
        dtype: of the checkpoint, in which the weights are asked.
        trainable: bool tree like the parameters; None: all were trained.

    Returns:
        `trained`, their number; `weights_moved`, the share whose value is another one; and
        `weights_moved_rounded`, the share whose value in `dtype` is.
    """
    before = sharding.place(before, sharding.mesh_of(after))
    masks = jax.tree.leaves(trainable) if trainable is not None else None
    totals = np.zeros(3, np.int64)
    for i, (old, new) in enumerate(
        zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    ):
        counts = _counts(dtype, old, new, None if masks is None else masks[i])
        totals += [int(np.asarray(count, np.int64).sum()) for count in counts]
    trained, moved, rounded = (int(total) for total in totals)
    return {
        "trained": trained,
        "weights_moved": moved / trained if trained else 0.0,
        "weights_moved_rounded": rounded / trained if trained else 0.0,
    }


@functools.partial(jax.jit, static_argnums=0)
def _counts(
    dtype: str, old: jax.Array, new: jax.Array, chosen: jax.Array | None
) -> tuple[jax.Array, ...]:
    """Trained, moved and moved after rounding, by the first axis: the sum may not fit an int32."""
    old, new = old.astype(jnp.float32), new.astype(jnp.float32)
    chosen = jnp.ones(old.shape, bool) if chosen is None else chosen
    moved = chosen & (old != new)
    kind = jnp.finfo(dtype)  # not by `astype`, which the compiler may leave out
    old, new = (jax.lax.reduce_precision(w, kind.nexp, kind.nmant) for w in (old, new))
    rounded = chosen & (old != new)
    axes = tuple(range(1, old.ndim))
    return tuple(jnp.sum(part, axis=axes, dtype=jnp.int32) for part in (chosen, moved, rounded))
