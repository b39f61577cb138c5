"""Layer-wise swapping: of two experts, each part comes from the one that changed it more.

2601.22620 (EACL 2026): a safety expert and a language expert are both tuned from one aligned model.
For the attention and for the MLP of every layer the relative change of an expert is

    n = sqrt(sum over the part's matrices of (||W_expert - W_aligned||_F / ||W_aligned||_F)^2)

and its share `n / sum of n over all parts of all layers` is compared between the two experts. The
larger share takes the part; shares within `near` are blended.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import tree
from jaxattack.defend import matrices
from jaxattack.errors import UserError
from jaxattack.tree import Tree

PARTS = ("attention", "mlp")
_PART = re.compile(r"^layers/(attention|mlp)/")


def shares(aligned: Tree, expert: Tree) -> dict[str, np.ndarray]:
    """Each part's share of an expert's relative change, float64 `[L]`; together they are 1.

    A matrix of zeros counts by its change alone.

    Raises:
        UserError: trees of other shapes or places, or an expert with the aligned model's matrices.
    """
    tree.check_alike({"the expert": expert, "the aligned model": aligned})
    squares: dict[str, np.ndarray] = dict.fromkeys(PARTS, np.zeros(1))
    sizes = matrices.sizes(aligned)
    for name, change in matrices.changes(aligned, expert).items():
        size = sizes[name].astype(np.float64)
        relative = change / np.where(size > 0, size, 1.0)
        squares[_part(name)] = squares[_part(name)] + relative**2
    norms = {part: np.sqrt(values) for part, values in squares.items()}
    total = sum(values.sum() for values in norms.values())
    if not total > 0:
        raise UserError("swapping: an expert has the aligned model's matrices; give a tuned one")
    return {part: values / total for part, values in norms.items()}


def swapped(
    aligned: Tree, safety: Tree, language: Tree, near: float = 0.001, blend: float = 0.5
) -> Tree:
    """One model of two experts.

    Args:
        aligned: parameters from which both experts were tuned.
        safety: the expert tuned on safety.
        language: the expert tuned on a language or task.
        near: shares that differ by no more than this are blended.
        blend: the safety expert's weight in a blend.

    Returns:
        a tree in the types of `aligned`. What belongs to a part (its biases and inner norms too)
        goes with it; embedding, head and the norms at the ends are blended, and the norms between
        the parts are the language expert's, as in the authors' program.

    Raises:
        UserError: as for `shares`.
    """
    experts = {"the safety expert": safety, "the language expert": language}
    tree.check_same_devices(experts | {"the aligned model": aligned})
    safer, spoken = shares(aligned, safety), shares(aligned, language)
    weights = {}  # of the safety expert, [L]
    for part in PARTS:
        ahead = safer[part] - spoken[part]
        weights[part] = np.where(ahead > near, 1.0, np.where(ahead < -near, 0.0, blend))

    def take(name: str, leaf: jax.Array, safe: jax.Array, said: jax.Array) -> jax.Array:
        outside = np.array([0.0 if name.startswith("layers/") else blend])
        weight = weights.get(_part(name), outside).astype(np.float32)
        return _blend(weight.reshape(-1, *[1] * (leaf.ndim - 1)), safe, said).astype(leaf.dtype)

    return tree.map_named(take, aligned, safety, language)


def _part(name: str) -> str:
    found = _PART.match(name)
    return found[1] if found else ""


@jax.jit
def _blend(weight: jax.Array, safe: jax.Array, said: jax.Array) -> jax.Array:
    mixed = weight * safe.astype(jnp.float32) + (1.0 - weight) * said.astype(jnp.float32)
    # Not 1 * w + 0 * w': an expert's infinity would reach the other's weights.
    return jnp.where(weight == 1.0, safe, jnp.where(weight == 0.0, said, mixed))
