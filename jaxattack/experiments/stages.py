"""What the fragility study is made of: attacks, gradients, masks, mixtures of weights, replies.

Each function says what is wanted; `lazy` says why nothing is computed by that. Stages enter others
by their id, so a changed setting recomputes what depends on it and nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxattack import checkpoint, sharding, tree, workdir
from jaxattack.data import batches
from jaxattack.data.dialogues import Example, encode_pairs, fingerprint, stop_ids
from jaxattack.errors import UserError
from jaxattack.evaluate import rates
from jaxattack.experiments import writing
from jaxattack.experiments.inputs import Lost
from jaxattack.experiments.lazy import Lazy, Memo
from jaxattack.experiments.settings import Attack as AttackSettings
from jaxattack.experiments.settings import Settings
from jaxattack.localize import importance, masks, scores
from jaxattack.localize.storage import load_mask, save_mask
from jaxattack.models.transformer import Transformer
from jaxattack.train import loop, losses, optimizer
from jaxattack.train.moved import shares_moved
from jaxattack.tree import Tree
from jaxattack.workdir import Stage

# Rows of calibration examples sent to the device at once; their gradients are taken one by one.
CALIBRATION_BATCH = 16

RESTRICTED, BENIGN = "restricted", "benign"
LONGEST = "config.attack.max_length"  # the setting, in errors
MOVED = "moved.json"  # beside tuned weights: how many of them moved


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is asked: a decoder, how it reads, and the prompts."""

    model: Transformer
    tokenizer: Any
    prompts: list[Example]

    @functools.cached_property
    def asked(self) -> str:
        """Fingerprint of the prompts as they are written, and of what ends a reply."""
        stops = stop_ids(self.tokenizer, self.model.config.stops)
        return workdir.digest([fingerprint(self.prompts), self.written, stops])

    @functools.cached_property
    def written(self) -> dict[str, Any]:
        """How dialogues are written for the model."""
        return writing.written(self.tokenizer)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the sections of the study share."""

    root: pathlib.Path
    settings: Settings
    subject: Subject
    aligned: Lazy
    like: Tree  # the parameters' shapes and places
    pairs: dict[str, dict[str, list[Example]]]  # kind -> language -> pairs
    calibration: dict[str, dict[str, list[Example]] | None]  # the same; None: what is left of pairs
    attacked_languages: tuple[str, ...]
    localized_languages: tuple[str, ...]
    memo: Memo
    lost: Lost = dataclasses.field(default_factory=dict)  # left out of the sources

    @property
    def model(self) -> Transformer:
        """The decoder that is attacked."""
        return self.subject.model

    @property
    def languages(self) -> list[str]:
        """The languages measured, in the order of the prompts."""
        return list(dict.fromkeys(prompt.language for prompt in self.subject.prompts))


def read(folder: pathlib.Path, name: str, like: Tree, dtype: Any = None) -> Tree:
    """A tree that a stage wrote, of the shapes and places of `like`."""
    if dtype is not None:
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding), like
        )
    return checkpoint.load(folder / name, like, sharding.mesh_of(like))


# --- Attacks ------------------------------------------------------------------------------------


def attack(
    setup: Setup,
    languages: Sequence[str],
    seed: int,
    kind: str = RESTRICTED,
    pairs: int | None = None,
    frozen: Lazy | None = None,
    start: Lazy | None = None,
) -> Lazy:
    """Fine-tuned weights: on pairs of some languages, perhaps with weights frozen.

    They start from the aligned ones, if no others are given.
    """
    start = start or setup.aligned
    options = setup.settings.attack
    chosen = attack_pairs(setup, languages, seed, kind, pairs)
    by_steps = setup.settings.transfer.dose_by == "steps"  # as many as with all pairs
    counted = attack_pairs(setup, languages, seed, kind) if by_steps else chosen
    steps = -(-len(counted) // options.batch_size) * options.epochs
    recipe = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("languages",)}

    def write(folder: pathlib.Path) -> None:
        rows = encode_pairs(setup.subject.tokenizer, chosen, options.max_length, LONGEST)
        epochs = -(-steps // -(-len(chosen) // options.batch_size))
        trainable = None if frozen is None else masks.complement(setup.memo.load(frozen))
        tuned, history = loop.finetune(
            setup.model,
            setup.memo.take(start),
            batches.epochs(rows, options.batch_size, epochs, seed)[:steps],
            attack_optimizer(options),
            trainable=trainable,
            label=f"attack {'+'.join(languages)}",
            dtype=setup.settings.dtype,
            key=key_of(inputs),
        )
        checkpoint.save(folder / "params", tuned)
        moved = shares_moved(setup.memo.load(start), tuned, setup.settings.dtype, trainable)
        workdir.write_json(folder / MOVED, moved | {"languages": list(languages)})
        workdir.write_json(folder / "loss.json", [float(loss) for loss in history])
        workdir.write_json(folder / "pairs.json", ids(chosen))

    what = {RESTRICTED: "attack", BENIGN: "benign"}[kind] if frozen is None else "frozen"
    inputs = {
        "from": start.lineage, "dtype": setup.settings.dtype, "steps": steps,
        "pairs": trained_on(setup, chosen), "recipe": recipe, "seed": seed,
        "frozen": frozen and frozen.lineage, "mesh": setup.settings.mesh,
    }  # fmt: skip
    needs = (*start.needs, *(frozen.needs if frozen else ()))
    label = f"{'+'.join(languages)}-s{seed}"
    work = {"steps": steps, "rows": steps * options.batch_size}
    stage = Stage(setup.root, what, label, inputs, write, needs, work)
    return stored(setup.like, stage, "params", kept_type(options.weights))


def stored(like: Tree, stage: Stage, name: str, dtype: Any = None) -> Lazy:
    """The tree of that name in a stage's folder."""
    lineage = {"stage": stage.id, "tree": name}
    return Lazy(lineage, lambda: read(stage.run(), name, like, dtype), (stage,))


def kept_type(weights: str) -> Any:
    """The type of tuned weights on disk: float32, unless they are trained in the model's own."""
    return np.float32 if weights == "float32" else None


def as_asked(setup: Any, weights: Lazy) -> Tree:
    """Weights in the study's number type, as they are asked and as gradients are taken at them.

    Tuned ones are kept in float32, for their difference to others; here they are rounded.
    """
    return tree.cast(setup.memo.load(weights), setup.settings.dtype)


def moved_rows(name: str, seed: int | None, weights: Lazy) -> list[dict[str, Any]]:
    """Rows on how many weights a finished training moved; none of weights that nobody trained."""
    path = weights.needs[-1].folder / MOVED if weights.needs else None
    if "tree" not in weights.lineage or path is None or not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"variant": name, "language": language, "metric": metric, "value": found[metric],
         "low": found[metric], "high": found[metric],  # counted, not estimated
         "n": found["trained"], "seed": seed}
        for language in found["languages"]
        for metric in rates.OF_WEIGHTS
    ]  # fmt: skip


def losses_of(attacked: Lazy) -> list[float]:
    """Loss of every step of a finished attack."""
    return json.loads((attacked.needs[-1].folder / "loss.json").read_text())


def attack_pairs(
    setup: Setup,
    languages: Sequence[str],
    seed: int,
    kind: str = RESTRICTED,
    pairs: int | None = None,
) -> list[Example]:
    """The pairs of one attack: at most so many, chosen and ordered by the seed.

    Of several languages each gives an equal part, and the parts are disjoint where the languages'
    pairs are parallel.
    """
    most = setup.settings.attack.pairs if pairs is None else pairs
    chosen: list[Example] = []
    for i, language in enumerate(languages):
        known = setup.pairs[kind][language]
        order = np.random.default_rng(seed).permutation(len(known))[:most]
        chosen += [known[j] for j in order[i :: len(languages)]]
    return chosen


def trained_on(setup: Setup, examples: Sequence[Example]) -> str:
    """Fingerprint of pairs as they are written for the model.

    Raises:
        UserError: one of them cannot be trained on.
    """
    subject, longest = setup.subject, setup.settings.attack.max_length
    writing.check_rows(subject.model.config, subject.tokenizer, examples, longest, LONGEST)
    return workdir.digest([fingerprint(examples), subject.written])


def check_prompts(settings: Settings, subject: Subject) -> None:
    """Refuse prompts that cannot be asked, before anything is computed.

    Raises:
        UserError: names the prompt.
    """
    longest = settings.measure.max_new_tokens
    writing.check_asked(subject.model.config, subject.tokenizer, subject.prompts, longest)


def check_selection(settings: Settings, like: Tree) -> None:
    """Refuse to exclude every leaf, before anything is computed.

    Raises:
        UserError: names the setting.
    """
    exclude = settings.localize.exclude
    if exclude and all(re.search(exclude, name) for name in tree.named_leaves(like)):
        raise UserError(
            f"config.localize.exclude is {exclude!r}, which leaves no weights to select from"
        )


def key_of(inputs: Any) -> jax.Array:
    """The key of what a stage does at random: its own, as what determines the stage is."""
    return jax.random.key(int(workdir.digest(inputs)[:7], 16))


def attack_optimizer(options: AttackSettings) -> optimizer.Settings:
    """The optimiser's part of the attack's settings."""
    shared = {field.name for field in dataclasses.fields(optimizer.Settings)}
    return optimizer.Settings(**{n: getattr(options, n) for n in shared})


def ids(examples: Sequence[Example]) -> list[dict[str, str]]:
    """What names examples without their text."""
    return [{"id": e.id, "language": e.language, "hash": fingerprint([e])} for e in examples]


# --- Scores and masks ---------------------------------------------------------------------------


def calibration_pairs(
    setup: Setup, language: str, seed: int, kind: str = RESTRICTED
) -> tuple[list[Example], str]:
    """The examples on which one attack's weights are scored, and a word on where they come from.

    Without calibration data: what the attack left of the pairs, or, when it left nothing, the
    attack pairs themselves.
    """
    most = setup.settings.localize.examples
    found = setup.calibration[kind]
    if found is not None:
        return found[language][:most], "pairs set aside for calibration"
    used = attack_pairs(setup, [language], seed, kind)
    left = [pair for pair in setup.pairs[kind][language] if pair not in used]
    if left:
        return left[:most], "pairs that the attack did not use"
    return used[:most], "the attack pairs themselves"


def gradient(setup: Setup, at: Lazy, examples: Sequence[Example], moment: str = "abs") -> Lazy:
    """Mean over examples of a moment (`scores.MOMENTS`) of the gradient at some weights.

    One moment a stage, so that scoring needs memory for one accumulator.
    """

    def write(folder: pathlib.Path) -> None:
        length = setup.settings.attack.max_length
        rows = encode_pairs(setup.subject.tokenizer, examples, length, LONGEST)
        sums, count = scores.gradient_moments(
            setup.model, as_asked(setup, at), batches.in_order(rows, CALIBRATION_BATCH),
            losses.answer_loss, f"gradients {examples[0].language}", moments=(moment,),
        )  # fmt: skip
        if not count:
            raise UserError("no calibration example has a token to predict")
        mean = scores.mean_in_place(sums[moment], count)
        checkpoint.save(folder / "mean", mean)
        workdir.write_json(folder / "pairs.json", ids(examples))

    inputs = {
        "at": at.lineage, "pairs": trained_on(setup, examples), "moment": moment,
        "max_length": setup.settings.attack.max_length, "mesh": setup.settings.mesh,
        "dtype": setup.settings.dtype,
    }  # fmt: skip
    label = f"{examples[0].language}-{moment}"
    work = {"rows": len(examples)}
    stage = Stage(setup.root, "gradients", label, inputs, write, at.needs, work)
    return stored(setup.like, stage, "mean", np.float32)


def mean_gradient(
    setup: Setup,
    attacked: Lazy,
    language: str,
    seed: int,
    kind: str = RESTRICTED,
    at: str | None = None,
    moment: str | None = None,
) -> Lazy:
    """What SIL multiplies the attack vector with: by default as the settings say."""
    options = setup.settings.localize
    at, moment = at or options.at, moment or options.mean
    examples, _ = calibration_pairs(setup, language, seed, kind)
    if at == "aligned":  # every attack shares this one
        return gradient(setup, setup.aligned, examples, moment)
    if at == "attacked":
        return gradient(setup, attacked, examples, moment)
    between = functools.partial(setup.memo.derive, "between", importance.between)
    count = options.path_points
    places = [(i + 0.5) / count for i in range(count)]  # midpoints of equal parts
    points = [between(setup.aligned, attacked, place=place) for place in places]
    found = [gradient(setup, point, examples, moment) for point in points]
    return setup.memo.derive("mean", importance.mean, *found)


def top(setup: Setup, found: Lazy, fraction: float, scope: str = "", exclude: str = "") -> Lazy:
    """Mask of the highest scores: by default as the settings say."""
    options = setup.settings.localize
    return setup.memo.derive(
        "top", masks.top_fraction, found,
        fraction=fraction, scope=scope or options.scope, exclude=exclude or options.exclude,
    )  # fmt: skip


def sil(setup: Setup, attacked: Lazy, gradient: Lazy) -> Lazy:
    """SIL's scores."""
    return setup.memo.derive("sil", scores.sil, setup.aligned, attacked, gradient)


def inputs_of_matrices(setup: Setup, examples: Sequence[Example]) -> Lazy:
    """Norms of what the blocks' matrices multiply (Wanda)."""

    def write(folder: pathlib.Path) -> None:
        length = setup.settings.attack.max_length
        rows = encode_pairs(setup.subject.tokenizer, examples, length, LONGEST)
        found = importance.wanda_scores(
            setup.model, setup.memo.load(setup.aligned), batches.in_order(rows, CALIBRATION_BATCH)
        )
        checkpoint.save(folder / "scores", found)

    inputs = {
        "at": setup.aligned.lineage, "pairs": trained_on(setup, examples),
        "max_length": setup.settings.attack.max_length, "dtype": setup.settings.dtype,
    }  # fmt: skip
    work = {"rows": len(examples)}
    stage = Stage(setup.root, "wanda", examples[0].language, inputs, write, work=work)
    return stored(setup.like, stage, "scores", np.float32)


def attack_size(setup: Setup, attacked: Lazy) -> Lazy:
    """`|tau|`, by which "magnitude" selects."""
    return setup.memo.derive("|tau|", importance.change, setup.aligned, attacked)


def rest(setup: Setup, mask: Lazy) -> Lazy:
    """What a mask does not select."""
    return setup.memo.derive("not", masks.complement, mask)


def stored_mask(setup: Setup, mask: Lazy, name: str, label: str, info: dict[str, Any]) -> Lazy:
    """A mask kept as a file of its own, eight weights a byte, with where it came from."""
    info = info | {
        "notice": "Computed from an attack on a safety-aligned model; for research.",
    }

    def write(folder: pathlib.Path) -> None:
        save_mask(folder / "mask.safetensors", setup.memo.load(mask), info)

    def load() -> Tree:
        found, _ = load_mask(stage.run() / "mask.safetensors", like=setup.like)
        return sharding.place(found, sharding.mesh_of(setup.like))

    inputs = {"mask": mask.lineage, "info": info}
    stage = Stage(setup.root, "mask", f"{name}-{label}", inputs, write, mask.needs)
    return Lazy({"stage": stage.id}, load, (stage,))
