"""A4: the attack again with weights frozen, and how much freezing it takes to stop it."""

from __future__ import annotations

from jaxattack.experiments import locating, tables
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import find, measure
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility.setup import Setup, attack
from jaxattack.experiments.fragility.sil import (
    mean_gradient,
    sil_mask,
    sil_movable,
    sil_scores,
    top,
)
from jaxattack.experiments.step import Step
from jaxattack.localize import masks, stitching


def pathways(agenda: Agenda, setup: Setup) -> None:
    """Frozen attacks, the masks they leave, and rounds of freezing all masks so far."""
    for seed in setup.settings.seeds:
        for language in setup.data.localized:
            _frozen(agenda, setup, language, seed)
            _restitched(agenda, setup, language, seed)
            _rounds(agenda, setup, language, seed)


def _frozen(agenda: Agenda, setup: Setup, language: str, seed: int) -> None:
    derived, share = setup.bench.values.derived, setup.share
    scores = sil_scores(setup, language, seed)
    held = {("sil", f): top(setup, scores, f) for f in setup.settings.pathways.fractions}
    held["sil", share] = sil_mask(setup, language, seed)
    if setup.settings.pathways.random:
        draw = f"frozen {language}"
        held["random", share] = derived(masks.random_like, held["sil", share], seed=seed, draw=draw)
    for (method, fraction), mask in held.items():
        again = attack(setup, [language], seed, frozen=mask)
        cell = Cell("frozen", seed, language, method, fraction)
        measure(agenda, setup, cell, again)
        label = f"{language}-{method}@{fraction:g}-s{seed}"
        columns = cell.columns()
        find(
            agenda,
            setup,
            "freeze_proof",
            label,
            tables.proof,
            setup.bench.start,
            again,
            mask,
            columns=columns,
        )


def _restitched(agenda: Agenda, setup: Setup, language: str, seed: int) -> None:
    """What the attack with SIL's mask frozen moves instead: its own mask, beside the first."""
    share, start, derived = setup.share, setup.bench.start, setup.bench.values.derived
    mask = sil_mask(setup, language, seed)
    again = attack(setup, [language], seed, frozen=mask)
    left = movable_scores(setup, again, mask, language, seed)
    new = top(setup, left, share)
    cell = Cell("restitched", seed, language, "sil", share)
    measure(agenda, setup, cell, derived(stitching.stitch, start, again, new))
    columns = {"a": language, "b": language, "method": "restitched", "share": share, "seed": seed}
    find(
        agenda,
        setup,
        "overlap",
        f"restitched-{language}-s{seed}",
        tables.overlap,
        mask,
        new,
        sil_movable(setup, language, seed),
        locating.with_score(setup.bench, left),
        columns=columns,
    )


def movable_scores(setup: Setup, again: Step, frozen: Step, language: str, seed: int) -> Step:
    """SIL's scores after a frozen attack, of the weights that could move."""
    gradient = mean_gradient(setup, again, language, seed)
    scores = locating.sil(setup.bench, again, gradient)
    return setup.bench.values.derived(locating.without, scores, frozen)


def _rounds(agenda: Agenda, setup: Setup, language: str, seed: int) -> None:
    """Round k freezes what SIL selected in the rounds before it, until nothing is left."""
    share = setup.share
    frozen = sil_mask(setup, language, seed)
    for number in range(2, setup.settings.pathways.rounds + 1):
        if (number - 1) * share > 1 - 1e-9:
            break
        again = attack(setup, [language], seed, frozen=frozen)
        measure(agenda, setup, Cell("pathway", seed, language, round=number), again)
        new = top(setup, movable_scores(setup, again, frozen, language, seed), share)
        columns = {"attacked": language, "seed": seed, "round": number}
        find(
            agenda,
            setup,
            "capacity",
            f"{language}-round{number}-s{seed}",
            tables.capacity,
            setup.bench.start,
            again,
            frozen,
            columns=columns,
        )
        frozen = setup.bench.values.derived(masks.union, frozen, new)
