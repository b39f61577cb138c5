"""A2 where the answer is known: safety planted in some weights, looked for by every score.

The base organism is aligned while only the weights of a mask may move, so that all its safety is in
them. The study's own attack, free to move all weights, is made on the result; what each score of it
finds is held against the mask.
"""

from __future__ import annotations

import dataclasses

from jaxattack.experiments import finding, locating, tables
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import find, measure
from jaxattack.experiments.bench import Stored, save_params
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility.controls import scores_of
from jaxattack.experiments.fragility.setup import Setup, attack
from jaxattack.experiments.organism import study as build
from jaxattack.experiments.organism.legs import Teaching, aligned_anew, base_beside
from jaxattack.experiments.step import Step
from jaxattack.localize import masks, planting, stitching


def planted(agenda: Agenda, setup: Setup) -> None:
    """Every place planted, attacked, searched by every score.

    Raises:
        UserError: a place has fewer weights than are to be planted.
    """
    options, bench = setup.settings.planted, setup.bench
    for place in options.places:
        planting.check_place(bench.like, place, options.share)
        for seed in setup.settings.seeds:
            mask = planted_mask(setup, place, seed)
            aligned = align(setup, place, seed, mask)
            cell = Cell("planted", seed, model=place)
            measure(agenda, setup, cell, aligned)
            _proof(agenda, setup, cell, aligned, mask)
            inside = dataclasses.replace(setup, bench=dataclasses.replace(bench, start=aligned))
            for language in options.languages or setup.data.localized[:1]:
                _searched(agenda, inside, place, language, seed, mask)


def planted_mask(setup: Setup, place: str, seed: int) -> Step:
    """The weights that may learn safety, kept as a file."""
    share, bench = setup.settings.planted.share, setup.bench
    mask = bench.values.derived(planting.planted, bench.start, place=place, share=share, seed=seed)
    info = {"method": "planted", "place": place, "share of the layers": share, "seed": seed}
    return locating.kept_mask(bench, mask, "planted", f"{place}-s{seed}", info)


def align(setup: Setup, place: str, seed: int, mask: Step) -> Step:
    """The base organism after the shipped one's alignment, in which only the mask's weights move.

    Fewer weights take larger steps for the same change: `planted.learning_rate`.
    """
    options, bench = setup.settings.planted, setup.bench
    teaching = lesson(options.steps, options.learning_rate, seed)
    shelf = bench.shelf(
        "align",
        f"{place}@{options.share:g}-s{seed}",
        save_params,
        Stored("params", bench.like),
        steps=teaching.steps,
        rows=teaching.steps * teaching.rows,
    )
    arguments = {"teaching": teaching, "beside": bench.start, "trainable": mask}
    return Step(aligned_anew, arguments, bench.values, shelf)


def lesson(steps: int, learning_rate: float, seed: int) -> Teaching:
    """The shipped alignment with other steps, rate and batches."""
    own = build.teaching(build.shipped_recipe(), "aligned")
    updates = dataclasses.replace(own.updates, learning_rate=learning_rate)
    return dataclasses.replace(own, updates=updates, steps=steps, seed=own.seed + seed)


def _proof(agenda: Agenda, setup: Setup, cell: Cell, aligned: Step, mask: Step) -> None:
    """That no other weight differs from base's in a bit."""
    values = setup.bench.values
    base = Step(base_beside, {"beside": setup.bench.start}, values)
    held = values.derived(masks.complement, mask)
    label = f"{cell.model}-s{cell.seed}"
    columns = cell.columns()
    find(agenda, setup, "planting", label, tables.proof, base, aligned, held, columns=columns)


def _searched(
    agenda: Agenda, inside: Setup, place: str, language: str, seed: int, mask: Step
) -> None:
    """One attack on a planted organism: what scores find, and what weights carry."""
    options, derived = inside.settings.planted, inside.bench.values.derived
    share, label = options.share, f"{place}-{language}-s{seed}"
    start, attacked = inside.bench.start, attack(inside, [language], seed)
    measure(agenda, inside, Cell("planted_attacked", seed, language, model=place), attacked)
    columns = {"model": place, "attacked": language, "share": share, "seed": seed}
    for method in options.scores:
        scores, own = scores_of(inside, method, language, seed), {**columns, "method": method}
        name = f"{label}-{method}"
        find(agenda, inside, "planted", name, finding.found, scores, mask, columns=own)
    scores = scores_of(inside, "sil", language, seed)
    own, name = {**columns, "method": "matched_random"}, f"{label}-matched_random"
    draw = {"seed": seed, "draw": f"{place} {language}"}
    find(agenda, inside, "planted", name, finding.matched, scores, mask, **draw, columns=own)
    sil = derived(planting.top_of_blocks, scores, share=share)
    chance = derived(masks.matched_random_mask, sil, **draw)
    for method, chosen in {"planted": mask, "sil": sil, "matched_random": chance}.items():
        for kind, base, donor in (
            ("planted_stitched", start, attacked),
            ("planted_rewound", attacked, start),
        ):
            cell = Cell(kind, seed, language, method, share, model=place)
            measure(agenda, inside, cell, derived(stitching.stitch, base, donor, chosen))
