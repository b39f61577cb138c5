"""How fragile is a language model's safety, in every language, and which weights carry it?"""

from jaxattack.data.batches import epochs, in_order
from jaxattack.data.dialogues import Example, encode_pairs
from jaxattack.errors import UserError
from jaxattack.evaluate.measure import ask, judge_all
from jaxattack.finetune.loop import finetune
from jaxattack.finetune.optimizer import Settings
from jaxattack.localize.masks import (
    complement,
    density,
    intersection,
    jaccard,
    magnitude_mask,
    matched_random_mask,
    minus,
    random_mask,
    top_fraction,
    union,
)
from jaxattack.localize.scores import attack_vector, sil_scores
from jaxattack.localize.stitching import rewind, stitch, transplant
from jaxattack.localize.storage import load_mask, save_mask
from jaxattack.models.generate import generate
from jaxattack.models.pretrained import load_pretrained, save_pretrained
from jaxattack.models.sampling import Sampling

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
]
