"""A matrix beside a change of low rank that is never added to it (LoRA, Hu et al. 2021)."""

from __future__ import annotations

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapted:
    """`value + a @ b`, in the place of a matrix among a model's parameters.

    What is multiplied by it goes through the two thin matrices on its own way, so that a gradient
    by them needs none by the matrix.

    Attributes:
        value: `[L, *inputs, *outputs]`, the matrix; a layer has its own `[*inputs, *outputs]`.
        a: `[L, *inputs, rank]`.
        b: `[L, rank, *outputs]`.
    """

    value: jax.Array
    a: jax.Array
    b: jax.Array
