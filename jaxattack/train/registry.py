"""The ways to fine-tune that there are. A way is a function and a row here."""

from __future__ import annotations

import dataclasses

from jaxattack.train import full, lora
from jaxattack.train.method import Method


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to fine-tune, and what it can do.

    Attributes:
        tune: the function.
        freezes: whether single weights can stay as they are.
        rounds: whether it can keep the weights in bfloat16 while it trains them.
        adapts: whether it trains adapters beside them.
    """

    tune: Method
    freezes: bool = True
    rounds: bool = True
    adapts: bool = False


METHODS: dict[str, Row] = {
    "full": Row(full.tune),
    "lora": Row(lora.tune, freezes=False, rounds=False, adapts=True),
}
