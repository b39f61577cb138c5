"""Fine-tuning of the weights themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxattack.data.dialogues import Arrays
from jaxattack.models.transformer import Transformer
from jaxattack.train import loop
from jaxattack.train.method import How
from jaxattack.tree import Tree


def tune(
    model: Transformer, params: Tree, batches: Sequence[Arrays], how: How
) -> tuple[Tree, np.ndarray]:
    """All weights, or those that a mask lets move (a `method.Method`)."""
    return loop.finetune(
        model,
        params,
        batches,
        how.updates,
        how.trainable,
        label=how.label,
        dtype=how.dtype,
        key=how.key,
        spare=how.spare,
    )
