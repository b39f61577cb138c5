"""A3: whether languages share the weights, beside chance, benign fine-tuning and other seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from jaxattack import workdir
from jaxattack.data.dialogues import Example, fingerprint, prompt_tokens
from jaxattack.experiments.fragility.localization import sil_mask, sil_movable
from jaxattack.experiments.stages import BENIGN, RESTRICTED, Setup
from jaxattack.experiments.wanted import Section
from jaxattack.localize import masks, representations
from jaxattack.tree import Tree

Mask = tuple[str, int, str]  # SIL's, by language, seed and kind of pairs


def shared(setup: Setup) -> Section:
    """Overlaps of masks, and how alike the languages' representations are."""
    section = Section()
    first, *others = setup.settings.seeds

    def compare(method: str, a: Mask, b: Mask) -> None:
        (first_language, seed, _), (second_language, _, _) = a, b
        label = f"{method}-{first_language}-{second_language}-s{seed}"
        facts = {"a": first_language, "b": second_language, "method": method, "seed": seed,
                 "fraction": setup.settings.localize.control_fraction}  # fmt: skip
        pair = [sil_mask(setup, *mask) for mask in (a, b)]
        movable = [sil_movable(setup, *mask) for mask in (a, b)]
        section.find(setup, "overlap", label, overlap, *pair, *movable, facts=facts)
        if method == "sil":
            section.find(setup, "overlap_by_place", label, by_place, *pair, facts=facts)

    for seed in setup.settings.seeds:
        # Every language's mask once; those that are stitched with every seed.
        languages = setup.localized_languages
        if seed == first and setup.settings.shared.languages == "attacked":
            languages = setup.attacked_languages
        for a, b in itertools.combinations(languages, 2):
            compare("sil", (a, seed, RESTRICTED), (b, seed, RESTRICTED))
        for language in setup.localized_languages:
            mask = (language, seed, RESTRICTED)
            if language in setup.pairs[BENIGN] and setup.settings.transfer.benign:
                compare("benign", mask, (language, seed, BENIGN))
            if seed in others:
                compare("seeds", mask, (language, first, RESTRICTED))
    if setup.settings.shared.similarity:
        _similarity(section, setup)
    return section


def _similarity(section: Section, setup: Setup) -> None:
    """How alike the aligned model represents the same prompts in two languages."""
    parallel = by_id(setup.subject.prompts)
    if len(parallel) < 2 or len(setup.languages) < 2:
        return
    model, tokenizer = setup.model, setup.subject.tokenizer

    def similarity(aligned: Tree, prompts: str, dtype: str) -> list[dict[str, Any]]:
        states = {
            language: representations.mean_states(
                model, aligned, [prompt_tokens(tokenizer, row[language].prompt) for row in parallel]
            )
            for language in setup.languages
        }
        return [
            {"a": a, "b": b, "measure": name, "layer": layer + 1,
             "value": float(measure(states[a][layer], states[b][layer]))}
            for a, b in itertools.combinations(setup.languages, 2)
            for name, measure in (("cka", representations.cka), ("cosine", representations.cosine))
            for layer in range(len(states[a]))
        ]  # fmt: skip

    asked = workdir.digest(
        [fingerprint([row[language] for row in parallel for language in setup.languages]),
         setup.subject.written]
    )  # fmt: skip
    section.find(
        setup, "similarity", "aligned", similarity, setup.aligned,
        prompts=asked, dtype=setup.settings.dtype,
    )  # fmt: skip


def by_id(prompts: Sequence[Example]) -> list[dict[str, Example]]:
    """Prompts that are there in every language under one id, by language."""
    languages = {prompt.language for prompt in prompts}
    found: dict[str, dict[str, Example]] = {}
    for prompt in prompts:
        found.setdefault(prompt.id, {})[prompt.language] = prompt
    return [row for row in found.values() if set(row) == languages]


def overlap(
    one: Tree, two: Tree, from_one: Tree, from_two: Tree, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """Jaccard index of two masks, beside random masks and random masks of their densities.

    The latter are drawn from what the two were chosen from: two attacks that move the same few
    weights overlap more by chance.
    """
    low, high = masks.null_jaccard(one, two, movable=(from_one, from_two))
    return [
        {**facts, "jaccard": masks.jaccard(one, two), "chance": masks.chance_jaccard(one, two),
         "null_low": low, "null_high": high}
    ]  # fmt: skip


def by_place(one: Tree, two: Tree, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The same within every weight tensor."""
    places = [masks.profile(m) for m in (one, two, masks.intersection(one, two))]
    sizes = masks.sizes(one)
    rows = []
    for place in places[0]:
        a, b, both = (counts[place] for counts in places)
        by_chance = a * b / sizes[place]
        rows.append(
            {"a": facts["a"], "b": facts["b"], "seed": facts["seed"], "module": place[0],
             "layer": place[1], "jaccard": both / (a + b - both) if a + b else 1.0,
             "chance": by_chance / (a + b - by_chance) if a + b else 1.0}
        )  # fmt: skip
    return rows
