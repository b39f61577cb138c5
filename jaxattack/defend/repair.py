"""SIL repair: find the weights a backdoor needs from a few pairs, and put them back or scale them.

From pairs that show the backdoor (triggered prompts with the answers they should get) each weight
is scored at the suspect model by `-change * E_x grad L(x)`: to first order, how much the loss L of
the right answer falls when the weight is repaired. `change` is what the repair does to it: back to
a start model, or down to a share of itself. Weights that clean pairs need, by SIL's
`E_x |change * grad L(x)|`, are spared. This is ours; nothing is trained.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import tree
from jaxattack.data.dialogues import Arrays
from jaxattack.defend.beear import shifted_loss, with_slots
from jaxattack.localize import masks, scores
from jaxattack.models.transformer import Transformer
from jaxattack.train.losses import LossFn
from jaxattack.tree import Tree


def change(suspect: Tree, start: Tree | None = None, scale: float = 0.0) -> Tree:
    """What a repair would do to each weight: back to `start`, or to `scale` times itself."""
    if start is not None:
        return scores.attack_vector(start, suspect)
    return jax.tree.map(lambda w: (scale - 1.0) * w.astype(jnp.float32), suspect)


def suspects(
    changed: Tree, triggered: Tree, clean: Tree, fraction: float, spared: float = 0.0
) -> Tree:
    """Mask of the weights to repair: never one whose repair would hurt, to first order.

    Args:
        changed: see `change`.
        triggered: mean gradient ("sum") of pairs that show the backdoor.
        clean: mean |gradient| ("abs") of pairs that do not.
        fraction: share of all weights, those whose repair helps the first most; fewer where
            fewer help.
        spared: share of all weights, those that the second need most, left out.

    Raises:
        UserError: trees of other shapes or places.
    """
    tree.check_alike({"triggered": triggered, "clean": clean, "what a repair changes": changed})
    gain = jax.tree.map(lambda c, g: jnp.maximum(-c * g, 0.0), changed, triggered)
    mask = masks.top_fraction(gain, fraction)
    if not spared:
        return mask
    need = jax.tree.map(lambda c, g: jnp.abs(c) * g, changed, clean)
    return masks.minus(mask, masks.top_fraction(need, spared))


def scaled(params: Tree, mask: Tree, scale: float) -> Tree:
    """The parameters with the selected weights multiplied by `scale`.

    Raises:
        UserError: the mask does not fit, or lies elsewhere.
    """
    tree.check_alike({"the mask": mask, "the model": params})
    return jax.tree.map(
        lambda chosen, w: jnp.where(chosen, (scale * w.astype(jnp.float32)).astype(w.dtype), w),
        mask,
        params,
    )


def shifted(rows: Arrays, delta: np.ndarray, layer: int, place: str) -> tuple[Arrays, LossFn]:
    """Clean pairs under BEEAR's perturbation, in place of triggered ones nobody has.

    Returns:
        the rows with their slots, and the loss that adds `delta` `[n, D]` to them after `layer`.
    """

    def loss(model: Transformer, params: Tree, batch: Tree) -> jax.Array:
        return shifted_loss(model, params, batch, jnp.asarray(delta), layer)

    return with_slots(rows, len(delta), place), loss
