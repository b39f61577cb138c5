"""The fragility study: attack in one language, measure all, find the weights, move them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxattack import sharding, tree
from jaxattack.data.dialogues import fingerprint
from jaxattack.evaluate import rates
from jaxattack.evaluate.judge import rule_for
from jaxattack.experiments import inputs, stages
from jaxattack.experiments.settings import Settings
from jaxattack.experiments.stages import Setup
from jaxattack.finetune.optimizer import make_optimizer
from jaxattack.localize import masks, stitching
from jaxattack.models import pretrained
from jaxattack.progress import Steps
from jaxattack.tree import Tree

COMPLETED_BY_US = (
    "SIL: the published formula is incomplete to us; here the score is the mean over calibration "
    "examples of |tau * grad L|, L the loss of the restricted answer.",
    "Attack: optimiser, learning rate, batch size and epochs are ours (100 pairs are the paper's).",
    "Freezing: the weights frozen are SIL's top share of the same attack, left free.",
    "Judging: the paper's judges and prompt sets are not known; see the rule above.",
)


def prepare(settings: Settings, root: pathlib.Path) -> tuple[Setup, dict[str, Any]]:
    """Load model and data; also returns what the manifest says of them.

    Raises:
        UserError: anything wrong with the model, the data or how they fit the settings.
    """
    make_optimizer(stages.attack_optimizer(settings.attack), steps=100)  # names a wrong one early
    directory = inputs.model_directory(settings.model, settings.revision)
    data = settings.data
    pairs = inputs.by_language(inputs.load_examples(data.pairs, ("restricted",), True, directory))
    prompts = inputs.load_examples(data.prompts, ("restricted", "benign"), False, directory)
    # The organism's pairs have calibration pairs of their own.
    uri = data.calibration or ("organism:calibration" if data.pairs == "organism:attack" else "")
    calibration = None
    if uri:
        calibration = inputs.by_language(
            inputs.load_examples(uri, ("restricted",), True, directory)
        )
    attack = inputs.choose_languages(
        settings.attack.languages, list(pairs), "config.attack.languages"
    )
    localized = inputs.choose_languages(
        settings.localize.languages, attack, "config.localize.languages"
    )
    if not settings.localize.languages:
        localized = inputs.spread(localized, settings.localize.max_languages)
    known = list(inputs.by_language(prompts))
    measured = inputs.choose_languages(
        settings.measure.languages, known, "config.measure.languages"
    )
    prompts = inputs.test_prompts(prompts, measured, settings.measure.prompts)
    rule_for(prompts)
    for language in attack:
        inputs.check_disjoint(prompts, pairs[language], "attack pairs")
    mesh = sharding.make_mesh(settings.mesh)
    model, aligned, tokenizer = inputs.load_model(
        directory, settings.dtype, mesh, settings.remat, settings.attention
    )
    setup = Setup(
        root, settings, model, aligned, tokenizer, pretrained.generation_stops(directory),
        inputs.model_fingerprint(directory), pairs, calibration, prompts, attack, localized,
    )  # fmt: skip
    facts = {
        "model": settings.model,
        "revision": settings.revision,
        "model_fingerprint": setup.origin,
        "parameters": tree.size(aligned),
        "pairs": {language: fingerprint(pairs[language]) for language in attack},
        "prompts": fingerprint(prompts),
        "mesh": dict(mesh.shape),
        "device": jax.devices()[0].device_kind,
    }
    return setup, facts


def run(setup: Setup) -> dict[str, Any]:
    """Run all stages that are not there yet; returns what goes into results.json."""
    settings = setup.settings
    steps = Steps(count_steps(setup))
    rows: list[dict[str, Any]] = []
    replies: list[dict[str, Any]] = []

    def add(variant: str, seed: int | None, lineage: Any, params: Callable[[], Tree]) -> None:
        with steps.step(f"measure {variant}"):
            verdicts, texts = stages.measured(setup, variant, seed, lineage, params)
        rows.extend(rates.rows(verdicts, variant, seed))
        replies.extend(texts)

    found: dict[str, list] = {
        key: [] for key in ("attack_loss", "mask_profile", "overlap", "freeze_proof")
    }
    sources: set[str] = set()
    add("aligned", None, setup.origin, lambda: setup.aligned)
    for seed in settings.seeds:
        mask_files = {}
        for language in setup.attacked_languages:
            with steps.step(f"attack {language}, seed {seed}"):
                attacked = stages.attack(setup, language, seed)
            variant = f"attacked/{language}"
            found["attack_loss"].append({"variant": variant, "seed": seed, "loss": attacked.losses})
            add(variant, seed, attacked.folder.name, attacked.load)
            if language not in setup.localized_languages:
                continue
            with steps.step(f"SIL {language}, seed {seed}"):
                score_folder, source = stages.sil(setup, attacked, language, seed)
            sources.add(source)
            with steps.step(f"masks {language}, seed {seed}"):
                mask_files[language] = stages.sil_mask(setup, score_folder, language, seed)
            found["mask_profile"] += _profile(setup, mask_files[language], language, seed)
            for name, lineage, params in stages.variants(
                setup, attacked, score_folder, language, seed
            ):
                add(name, seed, lineage, params)
            mask = stages.read_mask(mask_files[language], setup)
            share = f"sil@{settings.localize.control_fraction:g}"
            variant = f"frozen/{language}/{share}"
            with steps.step(f"attack {language} again, frozen, seed {seed}"):
                frozen = stages.attack(
                    setup, language, seed, mask, mask_files[language].parent.name
                )
            add(variant, seed, frozen.folder.name, frozen.load)
            weights, moved = stitching.moved(setup.aligned, frozen.load(), mask)
            found["freeze_proof"].append(
                {"variant": variant, "frozen": weights, "moved": moved, "seed": seed}
            )
            found["attack_loss"].append({"variant": variant, "seed": seed, "loss": frozen.losses})
        found["overlap"] += _overlap(setup, mask_files, seed)
    steps.close()
    name, rule = rule_for(setup.prompts)
    results = {
        "study": settings.study,
        "languages": list(inputs.by_language(setup.prompts)),
        "attack_languages": list(setup.attacked_languages),
        "seeds": list(settings.seeds),
        "judge": {"name": name, "rule": rule, "completed_by_us": list(COMPLETED_BY_US)},
        "attack_pairs": {
            language: min(settings.attack.pairs, len(setup.pairs[language]))
            for language in setup.attacked_languages
        },
        "calibration": sorted(sources),
        "rows": rows,
        **found,
    }
    return results | ({"replies": replies} if settings.report.replies else {})


def count_steps(setup: Setup) -> int:
    """How many steps `run` reports."""
    variants = len(setup.settings.localize.fractions) + 5  # + 4 controls and rewound
    each_attack = 2
    each_localized = 2 + variants + 2
    return 1 + len(setup.settings.seeds) * (
        each_attack * len(setup.attacked_languages)
        + each_localized * len(setup.localized_languages)
    )


def _profile(setup: Setup, path: pathlib.Path, language: str, seed: int) -> list[dict[str, Any]]:
    """Selected weights of every weight tensor."""
    mask = stages.read_mask(path, setup)
    chosen = masks.profile(mask)
    sizes = masks.profile(jax.tree.map(jnp.ones_like, mask))
    name = f"sil/{language}@{setup.settings.localize.control_fraction:g}"
    return [
        {"mask": name, "layer": layer, "module": module, "selected": selected,
         "total": sizes[module, layer], "seed": seed}
        for (module, layer), selected in chosen.items()
    ]  # fmt: skip


def _overlap(setup: Setup, files: dict[str, pathlib.Path], seed: int) -> list[dict[str, Any]]:
    """Jaccard index of every pair of languages' masks, beside that of random masks."""
    found = []
    for i, a in enumerate(files):
        first = stages.read_mask(files[a], setup)
        for b in list(files)[i + 1 :]:
            second = stages.read_mask(files[b], setup)
            found.append(
                {"a": a, "b": b, "method": "sil", "seed": seed,
                 "fraction": setup.settings.localize.control_fraction,
                 "jaccard": masks.jaccard(first, second),
                 "chance": masks.chance_jaccard(first, second)}
            )  # fmt: skip
    return found
