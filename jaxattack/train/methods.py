"""Ways to fine-tune. A way is a function and a row here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import jax
import numpy as np

from jaxattack import tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.transformer import Transformer
from jaxattack.train import loop, lora, optimizer
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class How:
    """What a way to fine-tune goes by.

    Attributes:
        updates: the optimiser and its schedule.
        rank, alpha: of adapters.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
    """

    updates: optimizer.Settings
    rank: int
    alpha: float
    dtype: str
    label: str


class Method(Protocol):
    """Tunes a copy of the parameters on batches; returns it in float32, and every step's loss."""

    def __call__(
        self,
        model: Transformer,
        params: Tree,
        batches: Sequence[Arrays],
        how: How,
        trainable: Tree | None,
        key: jax.Array,
    ) -> tuple[Tree, np.ndarray]:
        """The tuned parameters and the losses."""


def full(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    how: How,
    trainable: Tree | None,
    key: jax.Array,
) -> tuple[Tree, np.ndarray]:
    """All weights, or those that a mask lets move.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: arrays `[B, T]`, as for `loop.finetune`.
        how: optimiser, types, label.
        trainable: bool tree like `params`; None trains all.
        key: of weights that are rounded at random.
    """
    return loop.finetune(
        model, params, batches, how.updates, trainable, label=how.label, dtype=how.dtype, key=key
    )


def adapters(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    how: How,
    trainable: Tree | None,
    key: jax.Array,
) -> tuple[Tree, np.ndarray]:
    """LoRA, its adapters merged into the weights.

    Args:
        model: the decoder.
        params: where to start; left as they are.
        batches: arrays `[B, T]`, as for `loop.finetune`.
        how: optimiser, rank and scale of the adapters, label.
        trainable: None, for all weights may change.
        key: of the adapters' first values.

    Raises:
        UserError: some weights are to be frozen, which adapters of whole matrices cannot do.
    """
    if trainable is not None:
        raise UserError(f"{how.label}: adapters change whole matrices; single weights cannot stay")
    change = lora.LowRank(how.rank, how.alpha)
    found, history = lora.finetune(
        model, params, batches, how.updates, key, change, label=how.label
    )
    return lora.merge(tree.cast(params, np.float32), found, change.scale), history


METHODS: Mapping[str, Method] = MappingProxyType({"full": full, "lora": adapters})
