"""How fragile is a language model's safety, in every language, and which weights carry it?

In the docstrings' examples `model, params, tokenizer` are what `load_pretrained` returns,
`attacked` are its parameters after a training, `pairs` is a list of `Example`, `folder` a path.
"""

from __future__ import annotations

import importlib
import os
import typing
from typing import Any

# Before transformers is imported: it would tell everyone that there is no torch.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

if typing.TYPE_CHECKING:
    from jaxattack.data.batches import epochs, in_order
    from jaxattack.data.dialogues import Example, encode_pairs
    from jaxattack.data.templates import use_template
    from jaxattack.errors import UserError
    from jaxattack.evaluate.measure import ask, judge_all
    from jaxattack.localize.masks import (
        complement,
        density,
        intersection,
        magnitude_mask,
        matched_random_mask,
        minus,
        random_mask,
        top_fraction,
        union,
    )
    from jaxattack.localize.overlap import jaccard
    from jaxattack.localize.scores import attack_vector, sil_scores
    from jaxattack.localize.stitching import rewind, stitch, transplant
    from jaxattack.localize.storage import load_mask, save_mask
    from jaxattack.models.generate import generate
    from jaxattack.models.pretrained import load_pretrained, save_pretrained
    from jaxattack.models.sampling import Sampling
    from jaxattack.train.loop import finetune
    from jaxattack.train.optimizer import Settings

__all__ = [
    "Example",
    "Sampling",
    "Settings",
    "UserError",
    "ask",
    "attack_vector",
    "complement",
    "density",
    "encode_pairs",
    "epochs",
    "finetune",
    "generate",
    "in_order",
    "intersection",
    "jaccard",
    "judge_all",
    "load_mask",
    "load_pretrained",
    "magnitude_mask",
    "matched_random_mask",
    "minus",
    "random_mask",
    "rewind",
    "save_mask",
    "save_pretrained",
    "sil_scores",
    "stitch",
    "top_fraction",
    "transplant",
    "union",
    "use_template",
]

# A name is imported when it is first used: `jaxattack --help` need not wait for jax.
_PLACES = {
    "data.batches": "epochs in_order",
    "data.dialogues": "Example encode_pairs",
    "data.templates": "use_template",
    "errors": "UserError",
    "evaluate.measure": "ask judge_all",
    "train.loop": "finetune",
    "train.optimizer": "Settings",
    "localize.masks": "complement density intersection magnitude_mask matched_random_mask minus "
    "random_mask top_fraction union",
    "localize.overlap": "jaccard",
    "localize.scores": "attack_vector sil_scores",
    "localize.stitching": "rewind stitch transplant",
    "localize.storage": "load_mask save_mask",
    "models.generate": "generate",
    "models.pretrained": "load_pretrained save_pretrained",
    "models.sampling": "Sampling",
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"jaxattack.{_PLACE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
