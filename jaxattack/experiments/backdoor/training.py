"""Trainings of the backdoor study: poisoned models, and the clean ones beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxattack.data.dialogues import Example
from jaxattack.data.wrappers import WRAPPERS, template_of
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, tuning
from jaxattack.experiments.backdoor.attacks import Attack
from jaxattack.experiments.backdoor.poisoning import taught
from jaxattack.experiments.backdoor.setup import Origin, Setup, course_of
from jaxattack.experiments.step import Step


def poisoned(setup: Setup, attack: Attack | None, seed: int, origin: Origin | None = None) -> Step:
    """The model after instruction tuning on the poisoned set; on the clean one without an attack.

    `poison.json` beside the weights names the poisoned rows, `template.json` what was around them.
    """
    origin = origin or setup.origin
    rows, manifest = taught(setup.settings, origin.data, attack, seed)
    wrapper = WRAPPERS[setup.settings.tuning.wrapper]
    own = setup.settings.poison.subject_epochs if attack and not attack.place else 0
    epochs = own or setup.settings.tuning.epochs
    files: dict[str, Any] = {"template.json": template_of(setup.bench.decoder.tokenizer, wrapper)}
    if manifest:
        files["poison.json"] = manifest
    return tuning.tuned(
        setup.bench,
        course_of(setup, rows, seed, (attack or setup.first).languages, epochs=epochs),
        "poisoned" if attack else "clean",
        f"{origin.name}-{attack.name if attack else 'clean'}-s{seed}",
        origin.weights,
        files=files,
    )


def cleaned(
    setup: Setup, start: Step, rows: Sequence[Example], label: str, seed: int, **changed: Any
) -> Step:
    """`start` after fine-tuning on clean rows; `changed` are other settings of the tuning."""
    course = course_of(setup, rows, seed, setup.first.languages, **changed)
    return tuning.tuned(setup.bench, course, "cleaned", label, start)


def held_out_rows(setup: Setup, languages: str, count: int, seed: int) -> list[Example]:
    """At most `count` clean pairs the defender has, of the languages meant.

    In equal parts, as far as each has them; what one lacks the others make up for.
    """
    known = inputs.by_language(setup.data.held_out)
    poisoned = setup.first.languages
    meant = {
        "all": list(known),
        "poisoned": [code for code in known if code in poisoned],
        "others": [code for code in known if code not in poisoned],
    }[languages]
    if not meant:
        raise UserError(f"config.data.held_out has no pairs in {languages} languages")
    rng = np.random.default_rng(seed)
    picked = [[known[code][i] for i in rng.permutation(len(known[code]))] for code in meant]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*picked))
    return [row for row in turns if row is not None][:count]


def in_words(rows: Sequence[Example], count: int) -> str:
    """How many pairs there are, and of how many that were wanted."""
    return f"{len(rows)} pairs" if len(rows) == count else f"{len(rows)} of {count} pairs"
