"""What a way to fine-tune is: a function, and what it goes by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np

from jaxattack.data.dialogues import Arrays
from jaxattack.models.transformer import Transformer
from jaxattack.train import optimizer
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class How:
    """What a way to fine-tune goes by.

    Attributes:
        updates: the optimiser and its schedule.
        rank, alpha: of adapters.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
        trainable: bool tree like the parameters; False entries have to stay. None trains all.
        key: of what is done at random.
        spare: nobody needs the parameters again, so that their memory may be taken.
    """

    updates: optimizer.Settings
    rank: int
    alpha: float
    dtype: str
    label: str
    trainable: Tree | None
    key: jax.Array
    spare: bool = False


class Method(Protocol):
    """Tunes a copy of the parameters on batches `[B, T]`, as `loop.finetune` does."""

    def __call__(
        self, model: Transformer, params: Tree, batches: Sequence[Arrays], how: How
    ) -> tuple[Tree, np.ndarray]:
        """The tuned parameters, in float32, and the loss of every step `[steps]`."""
