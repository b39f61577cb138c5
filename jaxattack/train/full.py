"""Fine-tuning of the weights themselves."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxattack.data.dialogues import Arrays
from jaxattack.models.transformer import Transformer
from jaxattack.train import loop
from jaxattack.train.method import How
from jaxattack.tree import Tree


def tune(
    model: Transformer,
    params: Tree,
    batches: Sequence[Arrays],
    how: How,
    trainable: Tree | None,
    key: jax.Array,
) -> tuple[Tree, np.ndarray]:
    """All weights, or those that a mask lets move (a `method.Method`).

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
