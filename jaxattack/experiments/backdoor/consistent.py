"""CROW as a way to fine-tune, so that a defence by it is a training like any other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxattack.data.dialogues import Arrays
from jaxattack.defend import crow
from jaxattack.models.transformer import Transformer
from jaxattack.train.method import How
from jaxattack.tree import Tree


def tune(
    model: Transformer, params: Tree, batches: Sequence[Arrays], how: How, loss: crow.Crow
) -> tuple[Tree, np.ndarray]:
    """All weights, by CROW's loss (a `method.Method` once `loss` is given)."""
    return crow.repaired(
        model,
        params,
        batches,
        how.updates,
        loss,
        trainable=how.trainable,
        label=how.label,
        dtype=how.dtype,
        key=how.key,
    )
