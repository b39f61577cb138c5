"""A4: the attack again with weights frozen, and how much freezing it takes to stop it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxattack.experiments import stages
from jaxattack.experiments.fragility.localization import sil_mask, sil_movable, sil_scores
from jaxattack.experiments.fragility.shared import overlap
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.stages import Setup
from jaxattack.experiments.wanted import Section
from jaxattack.localize import masks, stitching
from jaxattack.tree import Tree


def pathways(setup: Setup) -> Section:
    """Frozen attacks, the masks they leave, and rounds of freezing all masks so far."""
    section = Section()
    for seed in setup.settings.seeds:
        for language in setup.localized_languages:
            _frozen(section, setup, language, seed)
            _rounds(section, setup, language, seed)
    return section


def _frozen(section: Section, setup: Setup, language: str, seed: int) -> None:
    share = setup.settings.localize.control_fraction
    scores = sil_scores(setup, language, seed)
    found = {("sil", f): stages.top(setup, scores, f) for f in setup.settings.pathways.fractions}
    found[("sil", share)] = sil_mask(setup, language, seed)
    if setup.settings.pathways.random:
        found[("random", share)] = setup.memo.derive(
            "random", masks.random_like, found["sil", share], seed=seed, draw=f"frozen {language}"
        )
    for (method, fraction), mask in found.items():
        again = stages.attack(setup, [language], seed, frozen=mask)
        name = f"frozen/{language}/{method}@{fraction:g}"
        section.measure(setup, name, seed, again)
        section.find(
            setup, "freeze_proof", f"{name}-s{seed}", proof, setup.aligned, again, mask,
            variant=name, seed=seed,
        )  # fmt: skip
    mask = found["sil", share]
    again = stages.attack(setup, [language], seed, frozen=mask)
    left = movable_scores(setup, again, mask, language, seed)
    new = stages.top(setup, left, share)
    name = f"{language}/sil@{share:g}"
    stitched = setup.memo.derive("stitch", stitching.stitch, setup.aligned, again, new)
    section.measure(setup, f"restitched/{name}", seed, stitched)
    facts = {"a": language, "b": language, "method": "restitched", "seed": seed, "fraction": share}
    label = f"restitched-{language}-s{seed}"
    from_first = sil_movable(setup, language, seed)
    from_new = setup.memo.derive("with score", masks.with_score, left)
    section.find(setup, "overlap", label, overlap, mask, new, from_first, from_new, facts=facts)


def movable_scores(setup: Setup, again: Lazy, frozen: Lazy, language: str, seed: int) -> Lazy:
    """SIL's scores after a frozen attack, of the weights that could move."""
    gradient = stages.mean_gradient(setup, again, language, seed)
    scores = stages.sil(setup, again, gradient)
    return setup.memo.derive("movable", without, scores, frozen)


def without(scores: Tree, frozen: Tree) -> Tree:
    """Scores by which no frozen weight is selected."""
    return jax.tree.map(lambda score, held: jnp.where(held, 0.0, score), scores, frozen)


def _rounds(section: Section, setup: Setup, language: str, seed: int) -> None:
    """Round k freezes what SIL selected in the rounds before it, until nothing is left."""
    share = setup.settings.localize.control_fraction
    frozen = sil_mask(setup, language, seed)
    for number in range(2, setup.settings.pathways.rounds + 1):
        if (number - 1) * share > 1 - 1e-9:
            break
        again = stages.attack(setup, [language], seed, frozen=frozen)
        section.measure(setup, f"pathway/{language}/round@{number}", seed, again)
        left = movable_scores(setup, again, frozen, language, seed)
        new = stages.top(setup, left, share)
        section.find(
            setup, "capacity", f"{language}-round{number}-s{seed}", capacity,
            setup.aligned, again, frozen, language=language, seed=seed, round=number,
        )  # fmt: skip
        frozen = setup.memo.derive("union", masks.union, frozen, new)


def proof(aligned: Tree, again: Tree, mask: Tree, variant: str, seed: int) -> list[dict[str, Any]]:
    """How many weights were frozen, and how many of them changed a bit."""
    weights, moved = stitching.moved(aligned, again, mask)
    return [{"variant": variant, "frozen": weights, "moved": moved, "seed": seed}]


def capacity(
    aligned: Tree, again: Tree, frozen: Tree, language: str, seed: int, round: int
) -> list[dict[str, Any]]:
    """One round: what was frozen, whether it stayed, and how far the rest went."""
    weights, moved = stitching.moved(aligned, again, frozen)
    free = masks.complement(frozen)
    _, used = stitching.moved(aligned, again, free)
    return [
        {"language": language, "seed": seed, "round": round,
         "frozen_share": masks.density(frozen), "frozen": weights, "moved": moved,
         "trainable_left": masks.count(free), "used": used}
    ]  # fmt: skip
