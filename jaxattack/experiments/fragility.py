"""The fragility study: attack in one language, measure all, find the weights, move them.

Every result is a stage: a folder named by the hash of what went into it. Earlier stages enter by
their folder's name, so a changed setting recomputes what depends on it and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxattack import checkpoint, sharding, tree, workdir
from jaxattack.data import batches
from jaxattack.data.dialogues import Example, encode_pairs, fingerprint
from jaxattack.evaluate import measure, rates
from jaxattack.evaluate.judge import Verdict, rule_for
from jaxattack.experiments import inputs
from jaxattack.experiments.settings import Settings
from jaxattack.finetune import loop
from jaxattack.localize import masks, scores, stitching
from jaxattack.localize.storage import load_mask, save_mask
from jaxattack.models.transformer import Transformer
from jaxattack.progress import Steps
from jaxattack.tree import Tree

# Rows of calibration examples sent to the device at once; their gradients are taken one by one.
CALIBRATION_BATCH = 16

COMPLETED_BY_US = (
    "SIL: the published formula is incomplete to us; here the score is the mean over calibration "
    "examples of |tau * grad L|, L the loss of the restricted answer.",
    "Attack: optimiser, learning rate, batch size and epochs are ours (100 pairs are the paper's).",
    "Freezing: the weights frozen are SIL's top share of the same attack, left free.",
    "Judging: the paper's judges and prompt sets are not known; see the rule above.",
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the stages share."""

    root: pathlib.Path
    settings: Settings
    model: Transformer
    aligned: Tree
    tokenizer: Any
    origin: str  # fingerprint of the checkpoint
    pairs: dict[str, list[Example]]
    calibration: dict[str, list[Example]] | None
    prompts: list[Example]
    attacked_languages: tuple[str, ...]
    localized_languages: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Attacked:
    """A finished attack: its stage and how to read it."""

    folder: pathlib.Path
    load: Callable[[], Tree]
    losses: list[float]


def prepare(settings: Settings, root: pathlib.Path) -> tuple[Setup, dict[str, Any]]:
    """Load model and data; also returns what the manifest says of them.

    Raises:
        UserError: anything wrong with the model, the data or how they fit the settings.
    """
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
    model, aligned, tokenizer = inputs.load_model(directory, settings.dtype, mesh, settings.remat)
    setup = Setup(
        root, settings, model, aligned, tokenizer, inputs.model_fingerprint(directory), pairs,
        calibration, prompts, attack, localized,
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
            verdicts, texts = _measured(setup, variant, seed, lineage, params)
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
                attacked = attack(setup, language, seed)
            variant = f"attacked/{language}"
            found["attack_loss"].append({"variant": variant, "seed": seed, "loss": attacked.losses})
            add(variant, seed, attacked.folder.name, attacked.load)
            if language not in setup.localized_languages:
                continue
            with steps.step(f"SIL {language}, seed {seed}"):
                score_folder, source = _scores(setup, attacked, language, seed)
            sources.add(source)
            with steps.step(f"masks {language}, seed {seed}"):
                mask_files[language] = _mask(setup, score_folder, language, seed)
            found["mask_profile"] += _profile(setup, mask_files[language], language, seed)
            for name, lineage, params in _variants(setup, attacked, score_folder, language, seed):
                add(name, seed, lineage, params)
            mask = _read(mask_files[language], setup)
            share = f"sil@{settings.localize.control_fraction:g}"
            variant = f"frozen/{language}/{share}"
            with steps.step(f"attack {language} again, frozen, seed {seed}"):
                frozen = attack(setup, language, seed, mask, mask_files[language].parent.name)
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


# --- Stages -------------------------------------------------------------------------------------


def attack(
    setup: Setup, language: str, seed: int, frozen: Tree | None = None, frozen_by: str = ""
) -> Attacked:
    """Fine-tune on restricted pairs of one language, perhaps with weights frozen."""
    options = setup.settings.attack
    chosen = inputs.attack_pairs(setup.pairs[language], options.pairs, seed)
    recipe = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("languages",)}

    def write(folder: pathlib.Path) -> None:
        rows = encode_pairs(setup.tokenizer, chosen, options.max_length)
        settings = loop.Settings(
            learning_rate=options.learning_rate,
            optimizer=options.optimizer,
            weight_decay=options.weight_decay,
            schedule=options.schedule,
            warmup=options.warmup,
            clip=options.clip,
        )
        tuned, history = loop.finetune(
            setup.model,
            setup.aligned,
            batches.epochs(rows, options.batch_size, options.epochs, seed),
            settings,
            trainable=None if frozen is None else masks.complement(frozen),
            label=f"attack {language}",
        )
        checkpoint.save(folder / "params", tuned)
        workdir.write_json(folder / "loss.json", [float(loss) for loss in history])
        workdir.write_json(folder / "pairs.json", _ids(chosen))

    name = f"{'frozen' if frozen_by else 'attack'}-{language}-s{seed}"
    lineage = {
        "model": setup.origin, "dtype": setup.settings.dtype, "pairs": fingerprint(chosen),
        "recipe": recipe, "seed": seed, "frozen": frozen_by, "mesh": setup.settings.mesh,
    }  # fmt: skip
    folder = workdir.stage(setup.root, name, lineage, write)
    mesh = sharding.mesh_of(setup.aligned)
    return Attacked(
        folder,
        lambda: checkpoint.load(folder / "params", setup.aligned, mesh),
        json.loads((folder / "loss.json").read_text()),
    )


def _ids(examples: Sequence[Example]) -> list[dict[str, str]]:
    return [{"id": e.id, "language": e.language, "hash": fingerprint([e])} for e in examples]


def _measured(
    setup: Setup, variant: str, seed: int | None, lineage: Any, params: Callable[[], Tree]
) -> tuple[list[Verdict], list[dict[str, Any]]]:
    """Verdicts on one variant, and its replies if the settings keep them."""
    options = setup.settings.measure
    keep = setup.settings.report.replies

    def write(folder: pathlib.Path) -> None:
        said = measure.ask(
            setup.model, params(), setup.tokenizer, setup.prompts, options.max_new_tokens,
            options.batch_size, label=f"measure {variant}",
        )  # fmt: skip
        verdicts = measure.judge_all(setup.prompts, said)
        workdir.write_json(folder / "verdicts.json", [dataclasses.asdict(v) for v in verdicts])
        if keep:
            workdir.write_json(folder / "replies.json", [reply.text for reply in said])

    key = {
        "weights": lineage, "prompts": fingerprint(setup.prompts), "replies": keep,
        "max_new_tokens": options.max_new_tokens, "batch_size": options.batch_size,
        "mesh": setup.settings.mesh,
    }  # fmt: skip
    suffix = "" if seed is None else f"-s{seed}"
    folder = workdir.stage(setup.root, f"measure-{variant}{suffix}", key, write)
    verdicts = [Verdict(**v) for v in json.loads((folder / "verdicts.json").read_text())]
    if not keep:
        return verdicts, []
    texts = json.loads((folder / "replies.json").read_text())
    return verdicts, [
        {"variant": variant, "language": v.language, "id": v.id, "prompt": e.prompt,
         "reply": text, "verdict": _word(v)}
        for v, e, text in zip(verdicts, setup.prompts, texts, strict=True)
    ]  # fmt: skip


def _word(verdict: Verdict) -> str:
    if verdict.answered:
        return "answered"
    return "refused" if verdict.refused else "neither"


def _scores(setup: Setup, attacked: Attacked, language: str, seed: int) -> tuple[pathlib.Path, str]:
    """SIL scores of one attack, and where the calibration data came from."""
    options = setup.settings.localize
    used = inputs.attack_pairs(setup.pairs[language], setup.settings.attack.pairs, seed)
    pairs, source = inputs.calibration_pairs(
        setup.calibration, used, setup.pairs[language], language, options.examples
    )
    inputs.check_disjoint(setup.prompts, pairs, "calibration pairs")

    def write(folder: pathlib.Path) -> None:
        rows = encode_pairs(setup.tokenizer, pairs, setup.settings.attack.max_length)
        tree_of_scores = scores.sil_scores(
            setup.model, setup.aligned, attacked.load(),
            batches.in_order(rows, CALIBRATION_BATCH), options.at, label=f"SIL {language}",
        )  # fmt: skip
        checkpoint.save(folder / "scores", tree_of_scores)
        workdir.write_json(folder / "pairs.json", _ids(pairs))

    lineage = {"attack": attacked.folder.name, "pairs": fingerprint(pairs), "at": options.at}
    return workdir.stage(setup.root, f"sil-{language}-s{seed}", lineage, write), source


def _load_scores(setup: Setup, folder: pathlib.Path) -> Tree:
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), setup.aligned)
    return checkpoint.load(folder / "scores", like, sharding.mesh_of(setup.aligned))


def _mask(setup: Setup, score_folder: pathlib.Path, language: str, seed: int) -> pathlib.Path:
    """File of SIL's mask at the control fraction."""
    options = setup.settings.localize
    info = {
        "method": "sil", "fraction": options.control_fraction, "scope": options.scope,
        "at": options.at, "language": language, "seed": seed, "model": setup.origin,
        "scores": score_folder.name,
        "notice": "Computed from an attack on a safety-aligned model; for research.",
    }  # fmt: skip

    def write(folder: pathlib.Path) -> None:
        mask = masks.top_fraction(
            _load_scores(setup, score_folder), options.control_fraction, options.scope
        )
        save_mask(folder / "mask.safetensors", mask, info)

    return workdir.stage(setup.root, f"mask-{language}-s{seed}", info, write) / "mask.safetensors"


def _read(path: pathlib.Path, setup: Setup) -> Tree:
    mask, _ = load_mask(path, like=setup.aligned)
    return sharding.place(mask, sharding.mesh_of(setup.aligned))


def _variants(
    setup: Setup, attacked: Attacked, score_folder: pathlib.Path, language: str, seed: int
) -> Iterator[tuple[str, Any, Callable[[], Tree]]]:
    """Name, lineage and weights (computed when asked for) of every stitched variant."""
    options = setup.settings.localize
    share = options.control_fraction

    def sil(fraction: float) -> Tree:
        return masks.top_fraction(_load_scores(setup, score_folder), fraction, options.scope)

    def tau() -> Tree:
        return scores.attack_vector(attacked.load(), setup.aligned)

    choices: list[tuple[str, float, Callable[[], Tree]]] = [
        *(("sil", f, lambda f=f: sil(f)) for f in options.fractions),
        ("random", share, lambda: masks.random_mask(setup.aligned, share, seed)),
        ("matched_random", share, lambda: masks.matched_random_mask(sil(share), seed)),
        ("magnitude", share, lambda: masks.magnitude_mask(tau(), share, options.scope)),
        ("complement", share, lambda: masks.complement(sil(share))),
    ]
    for method, fraction, mask in choices:
        lineage = {
            "attack": attacked.folder.name, "scores": score_folder.name, "method": method,
            "fraction": fraction, "scope": options.scope, "seed": seed,
        }  # fmt: skip

        def stitched(mask: Callable[[], Tree] = mask) -> Tree:
            return stitching.stitch(setup.aligned, attacked.load(), mask())

        yield f"stitched/{language}/{method}@{fraction:g}", lineage, stitched
    yield (
        f"rewound/{language}/sil@{share:g}",
        lineage | {"method": "rewound"},
        lambda: stitching.rewind(attacked.load(), setup.aligned, sil(share)),
    )


# --- What is known of the masks -----------------------------------------------------------------


def _profile(setup: Setup, path: pathlib.Path, language: str, seed: int) -> list[dict[str, Any]]:
    """Selected weights of every weight tensor."""
    mask = _read(path, setup)
    chosen = masks.profile(mask)
    sizes = masks.profile(jax.tree.map(np.ones_like, mask))
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
        first = _read(files[a], setup)
        for b in list(files)[i + 1 :]:
            second = _read(files[b], setup)
            found.append(
                {"a": a, "b": b, "method": "sil", "seed": seed,
                 "fraction": setup.settings.localize.control_fraction,
                 "jaccard": masks.jaccard(first, second),
                 "chance": masks.chance_jaccard(first, second)}
            )  # fmt: skip
    return found
