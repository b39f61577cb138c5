"""A1 on the organism: its sharing knob against transfer.

The base organism is aligned anew with other weights of the loss that pulls languages together, and
each result is attacked.
"""

from __future__ import annotations

from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import measure
from jaxattack.experiments.bench import Stored, save_params
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility.setup import Setup, attack
from jaxattack.experiments.organism import study as build
from jaxattack.experiments.organism.legs import aligned_anew
from jaxattack.experiments.step import Step


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
    teaching = build.teaching(build.with_contrast(build.shipped_recipe(), contrast), "aligned")
    shelf = setup.bench.shelf(
        "align", f"contrast{contrast:g}", save_params, Stored("params", setup.bench.like)
    )
    arguments = {"teaching": teaching, "beside": setup.bench.start}
    return Step(aligned_anew, arguments, setup.bench.values, shelf)
