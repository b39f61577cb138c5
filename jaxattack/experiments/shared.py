"""A3: whether languages share the weights, beside chance, benign fine-tuning and other seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from jaxattack.data.dialogues import Example, fingerprint, prompt_tokens
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.localization import sil_mask
from jaxattack.experiments.stages import BENIGN, Setup
from jaxattack.experiments.wanted import Section
from jaxattack.localize import masks, representations
from jaxattack.tree import Tree


def shared(setup: Setup) -> Section:
    """Overlaps of masks, and how alike the languages' representations are."""
    section = Section()
    first, *others = setup.settings.seeds

    def compare(method: str, a: str, b: str, seed: int, one: Lazy, two: Lazy) -> None:
        label = f"{method}-{a}-{b}-s{seed}"
        facts = {"a": a, "b": b, "method": method, "seed": seed,
                 "fraction": setup.settings.localize.control_fraction}  # fmt: skip
        section.find(setup, "overlap", label, overlap, one, two, facts=facts)
        if method == "sil":
            section.find(setup, "overlap_by_place", label, by_place, one, two, facts=facts)

    for seed in setup.settings.seeds:
        # Every language's mask once; those that are stitched with every seed.
        languages = setup.localized_languages
        if seed == first and setup.settings.shared.languages == "attacked":
            languages = setup.attacked_languages
        for a, b in itertools.combinations(languages, 2):
            one, two = sil_mask(setup, a, seed), sil_mask(setup, b, seed)
            compare("sil", a, b, seed, one, two)
        for language in setup.localized_languages:
            mask = sil_mask(setup, language, seed)
            if language in setup.pairs[BENIGN] and setup.settings.transfer.benign:
                benign = sil_mask(setup, language, seed, BENIGN)
                compare("benign", language, language, seed, mask, benign)
            if seed in others:
                compare("seeds", language, language, seed, mask, sil_mask(setup, language, first))
    if setup.settings.shared.similarity:
        _similarity(section, setup)
    return section


def _similarity(section: Section, setup: Setup) -> None:
    """How alike the aligned model represents the same prompts in two languages."""
    parallel = by_id(setup.subject.prompts)
    if len(parallel) < 2 or len(setup.languages) < 2:
        return
    model, tokenizer = setup.model, setup.subject.tokenizer

    def similarity(aligned: Tree, prompts: str) -> list[dict[str, Any]]:
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

    asked = fingerprint([row[language] for row in parallel for language in setup.languages])
    section.find(setup, "similarity", "aligned", similarity, setup.aligned, prompts=asked)


def by_id(prompts: Sequence[Example]) -> list[dict[str, Example]]:
    """Prompts that are there in every language under one id, by language."""
    languages = {prompt.language for prompt in prompts}
    found: dict[str, dict[str, Example]] = {}
    for prompt in prompts:
        found.setdefault(prompt.id, {})[prompt.language] = prompt
    return [row for row in found.values() if set(row) == languages]


def overlap(one: Tree, two: Tree, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Jaccard index of two masks, beside random masks and random masks of their densities."""
    low, high = masks.null_jaccard(one, two)
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
