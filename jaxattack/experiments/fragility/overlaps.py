"""A3: whether languages share the weights, beside chance, benign fine-tuning and other seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jaxattack.data.dialogues import Example
from jaxattack.experiments import tables
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.fragility.setup import BENIGN, RESTRICTED, Setup, find
from jaxattack.experiments.fragility.sil import sil_mask, sil_movable

Mask = tuple[str, int, str]  # SIL's, by language, seed and kind of pairs


def overlaps(agenda: Agenda, setup: Setup) -> None:
    """Overlaps of masks, and how alike the languages' representations are."""
    first, *others = setup.settings.seeds
    for seed in setup.settings.seeds:
        # Every language's mask once; those that are stitched with every seed.
        languages = setup.data.localized
        if seed == first and setup.settings.shared.languages == "attacked":
            languages = setup.data.attacked
        for a, b in itertools.combinations(languages, 2):
            _compare(agenda, setup, "sil", (a, seed, RESTRICTED), (b, seed, RESTRICTED))
        for language in setup.data.localized:
            mask = (language, seed, RESTRICTED)
            if language in setup.data.pairs[BENIGN] and setup.settings.transfer.benign:
                _compare(agenda, setup, "benign", mask, (language, seed, BENIGN))
            if seed in others:
                _compare(agenda, setup, "seeds", mask, (language, first, RESTRICTED))
    if setup.settings.shared.similarity:
        _similarity(agenda, setup)


def _compare(agenda: Agenda, setup: Setup, method: str, a: Mask, b: Mask) -> None:
    columns = {"a": a[0], "b": b[0], "method": method, "share": setup.share, "seed": a[1]}
    label = f"{method}-{a[0]}-{b[0]}-s{a[1]}"
    pair = [sil_mask(setup, *mask) for mask in (a, b)]
    movable = [sil_movable(setup, *mask) for mask in (a, b)]
    find(agenda, setup, "overlap", label, tables.overlap, *pair, *movable, columns=columns)
    if method == "sil":
        find(agenda, setup, "overlap_by_place", label, tables.by_place, *pair, columns=columns)


def _similarity(agenda: Agenda, setup: Setup) -> None:
    """How alike the aligned model represents the same prompts in two languages."""
    parallel = by_id(setup.data.prompts)
    if len(parallel) < 2 or len(setup.languages) < 2:
        return
    prompts = {language: [row[language] for row in parallel] for language in setup.languages}
    find(
        agenda,
        setup,
        "similarity",
        "aligned",
        tables.similarity,
        setup.bench.start,
        decoder=setup.bench.decoder,
        prompts=prompts,
    )


def by_id(prompts: Sequence[Example]) -> list[dict[str, Example]]:
    """Prompts that are there in every language under one id, by language."""
    languages = {prompt.language for prompt in prompts}
    found: dict[str, dict[str, Example]] = {}
    for prompt in prompts:
        found.setdefault(prompt.id, {})[prompt.language] = prompt
    return [row for row in found.values() if set(row) == languages]
