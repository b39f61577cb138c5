"""Attacks as functions of values: one that is named, or one that is chosen of those tried.

Nothing here names a row of the sweep or a defence, so a further one computes no attack again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxattack.experiments import tuning
from jaxattack.experiments.bench import Decoder
from jaxattack.experiments.durability.choosing import taken
from jaxattack.experiments.step import Input
from jaxattack.localize import stitching


def tuned(
    start: Input,
    decoder: Decoder,
    plans: Mapping[str, Mapping[str, Any]],
    dtype: str,
    label: str,
    choice: Input | None,
) -> tuning.Tuned:
    """Weights after one of several attacks.

    Args:
        start: where it begins.
        decoder: what is tuned.
        plans: by attack, the fields of an `attacks.Plan`.
        dtype: in which the loss sees the weights.
        label: what the progress bar says.
        choice: rows that say which attack is taken; None: the only one.
    """
    plan = plans[taken(plans, choice)]
    found = tuning.train(start, decoder, plan["course"], dtype, {}, label, plan["frozen"])
    if plan["put_back"] is None:
        return found
    params = stitching.rewind(found.params, start(), plan["put_back"]())
    return dataclasses.replace(found, params=params)
