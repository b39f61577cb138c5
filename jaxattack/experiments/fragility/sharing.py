"""A1 on the organism: its sharing knob against transfer.

The base organism is aligned anew with other weights of the loss that pulls languages together, and
each result is attacked.
"""

from __future__ import annotations

import pathlib

from jaxattack import checkpoint, organism
from jaxattack.experiments import organism as build
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.bench import Stored
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility.setup import Setup, attack, measure
from jaxattack.experiments.step import Step
from jaxattack.models import pretrained
from jaxattack.tree import Tree


def measured(agenda: Agenda, setup: Setup, contrast: float) -> None:
    """The organism aligned with this weight of the contrast, and attacked."""
    aligned = align(setup, contrast)
    measure(agenda, setup, Cell("sharing", contrast=contrast), aligned)
    seed = setup.settings.seeds[0]
    for language in setup.data.localized:
        cell = Cell("sharing", seed, language, contrast=contrast)
        measure(agenda, setup, cell, attack(setup, [language], seed, start=aligned))


def align(setup: Setup, contrast: float) -> Step:
    """The base organism after the alignment of the shipped one, but for this weight.

    It goes on in the study's own number type and on its mesh, by which it is named too.
    """
    recipe = build.with_contrast(build.shipped_recipe(), contrast)
    shelf = setup.bench.shelf(
        "align", f"contrast{contrast:g}", save, Stored("params", setup.bench.like)
    )
    arguments = {"recipe": recipe, "beside": setup.bench.start}
    return Step(aligned_anew, arguments, setup.bench.values, shelf)


def aligned_anew(recipe: build.Settings, beside: object) -> Tree:
    """The base organism's weights after the alignment of a recipe."""
    phase = recipe.aligned
    model, params, tokenizer = pretrained.load_pretrained(organism.checkpoint("base"))
    tx = build.phase_optimizer(phase)
    state = {"params": params, "opt_state": tx.init(params)}
    steps = range(phase.steps)
    return build.run_leg(recipe, "aligned", model, tokenizer, tx, state, steps)["params"]


def save(folder: pathlib.Path, params: Tree) -> None:
    """Keep the weights."""
    checkpoint.save(folder / "params", params)
