"""The fragility study's stages: what is computed once and kept in a folder.

Earlier stages enter by their folder's name, so a changed setting recomputes what depends on it and
nothing else. Weights are passed as functions: nothing is loaded for a stage that is there.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxattack import checkpoint, sharding, workdir
from jaxattack.data import batches
from jaxattack.data.dialogues import Example, encode_pairs, fingerprint
from jaxattack.evaluate import measure
from jaxattack.evaluate.judge import Verdict
from jaxattack.experiments import inputs
from jaxattack.experiments.settings import Attack as AttackSettings
from jaxattack.experiments.settings import Settings
from jaxattack.finetune import loop, optimizer
from jaxattack.localize import masks, scores, stitching
from jaxattack.localize.storage import load_mask, save_mask
from jaxattack.models.transformer import Transformer
from jaxattack.tree import Tree

# Rows of calibration examples sent to the device at once; their gradients are taken one by one.
CALIBRATION_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the stages share."""

    root: pathlib.Path
    settings: Settings
    model: Transformer
    aligned: Tree
    tokenizer: Any
    stops: tuple[int, ...]  # beside the tokenizer's own
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


def attack(
    setup: Setup, language: str, seed: int, frozen: Tree | None = None, frozen_by: str = ""
) -> Attacked:
    """Fine-tune on restricted pairs of one language, perhaps with weights frozen."""
    options = setup.settings.attack
    chosen = inputs.attack_pairs(setup.pairs[language], options.pairs, seed)
    recipe = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("languages",)}

    def write(folder: pathlib.Path) -> None:
        rows = encode_pairs(setup.tokenizer, chosen, options.max_length)
        tuned, history = loop.finetune(
            setup.model,
            setup.aligned,
            batches.epochs(rows, options.batch_size, options.epochs, seed),
            attack_optimizer(options),
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


def attack_optimizer(options: AttackSettings) -> optimizer.Settings:
    """The optimiser's part of the attack's settings."""
    return optimizer.Settings(
        learning_rate=options.learning_rate,
        optimizer=options.optimizer,
        weight_decay=options.weight_decay,
        schedule=options.schedule,
        warmup=options.warmup,
        clip=options.clip,
        accumulate=options.accumulate,
    )


def _ids(examples: Sequence[Example]) -> list[dict[str, str]]:
    return [{"id": e.id, "language": e.language, "hash": fingerprint([e])} for e in examples]


def measured(
    setup: Setup, variant: str, seed: int | None, lineage: Any, params: Callable[[], Tree]
) -> tuple[list[Verdict], list[dict[str, Any]]]:
    """Verdicts on one variant, and its replies if the settings keep them."""
    options = setup.settings.measure
    keep = setup.settings.report.replies

    def write(folder: pathlib.Path) -> None:
        said = measure.ask(
            setup.model, params(), setup.tokenizer, setup.prompts, options.max_new_tokens,
            options.batch_size, label=f"measure {variant}", extra_stops=setup.stops,
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


def sil(setup: Setup, attacked: Attacked, language: str, seed: int) -> tuple[pathlib.Path, str]:
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
            spread=options.spread,
        )  # fmt: skip
        checkpoint.save(folder / "scores", tree_of_scores)
        workdir.write_json(folder / "pairs.json", _ids(pairs))

    lineage = {"attack": attacked.folder.name, "pairs": fingerprint(pairs), "at": options.at}
    return workdir.stage(setup.root, f"sil-{language}-s{seed}", lineage, write), source


def _load_scores(setup: Setup, folder: pathlib.Path) -> Tree:
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), setup.aligned)
    return checkpoint.load(folder / "scores", like, sharding.mesh_of(setup.aligned))


def sil_mask(setup: Setup, score_folder: pathlib.Path, language: str, seed: int) -> pathlib.Path:
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


def read_mask(path: pathlib.Path, setup: Setup) -> Tree:
    """A mask of a stage, placed like the parameters."""
    mask, _ = load_mask(path, like=setup.aligned)
    return sharding.place(mask, sharding.mesh_of(setup.aligned))


def variants(
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
