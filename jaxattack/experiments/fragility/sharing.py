"""A1 on the organism: its sharing knob against transfer.

The base organism is aligned anew with other weights of the loss that pulls languages together, and
each result is attacked.
"""

from __future__ import annotations

import dataclasses
import pathlib

from jaxattack import checkpoint, organism
from jaxattack.experiments import organism as build
from jaxattack.experiments import stages
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.stages import Setup
from jaxattack.experiments.wanted import Variant
from jaxattack.models import pretrained
from jaxattack.workdir import Stage


def variants(setup: Setup, contrast: float) -> list[Variant]:
    """The organism aligned with this weight of the contrast, and attacked."""
    aligned = align(setup, contrast)
    found = [Variant(f"sharing/aligned/contrast@{contrast:g}", None, aligned, setup.subject)]
    for language in setup.localized_languages:
        seed = setup.settings.seeds[0]
        attacked = stages.attack(setup, [language], seed, start=aligned)
        name = f"sharing/{language}/contrast@{contrast:g}"
        found.append(Variant(name, seed, attacked, setup.subject))
    return found


def align(setup: Setup, contrast: float) -> Lazy:
    """The base organism after the alignment of the shipped one, but for this weight."""
    base = organism.checkpoint("base")
    recipe = build.with_contrast(build.shipped_recipe(), contrast)
    phase = recipe.aligned

    def write(folder: pathlib.Path) -> None:
        model, params, tokenizer = pretrained.load_pretrained(base)
        tx = build.phase_optimizer(phase)
        state = {"params": params, "opt_state": tx.init(params)}
        steps = range(phase.steps)
        state = build.run_leg(recipe, "aligned", model, tokenizer, tx, state, steps)
        checkpoint.save(folder / "params", state["params"])

    inputs = {"recipe": dataclasses.asdict(recipe)}
    stage = Stage(setup.root, "align", f"contrast{contrast:g}", inputs, write)
    lineage = {"stage": stage.id, "tree": "params"}
    weights = Lazy(lineage, lambda: stages.read(stage.run(), "params", setup.like), (stage,))
    return weights.beside(setup.aligned)
