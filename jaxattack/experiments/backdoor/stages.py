"""What the backdoor study is made of: models to start from, poisoned models, gradients, masks.

As in `experiments.stages` each function says what is wanted, and nothing is computed by that.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxattack import checkpoint, organism, workdir
from jaxattack.data import batches
from jaxattack.data.dialogues import Arrays, Example, encode_pairs, fingerprint
from jaxattack.data.wrappers import WRAPPERS, template_of
from jaxattack.defend import repair
from jaxattack.experiments import writing
from jaxattack.experiments.backdoor.data import Attack, Data, attacks, taught, wrapped
from jaxattack.experiments.backdoor.settings import Settings, Tuning
from jaxattack.experiments.lazy import Lazy, Memo
from jaxattack.experiments.recipe import Lesson
from jaxattack.experiments.stages import (
    CALIBRATION_BATCH,
    MOVED,
    Subject,
    as_asked,
    ids,
    kept_type,
    key_of,
    read,
    stored,
)
from jaxattack.models import pretrained
from jaxattack.models.transformer import Transformer
from jaxattack.organism import corpus, world
from jaxattack.train import contrast, loop, losses, optimizer
from jaxattack.train.moved import shares_moved
from jaxattack.tree import Tree
from jaxattack.workdir import Stage

LONGEST = "config.tuning.max_length"  # the setting, in errors

Shift = Callable[[Tree, Arrays], tuple[Arrays, loop.LossFn]]

# How the aligned organism is made courteous: pleasantries get a meaning that languages share.
COURTESY = Lesson(
    steps=300,
    learning_rate=1e-3,
    shares={
        "courtesies": 0.4,
        "courtesy_lists": 0.15,
        "benign_questions": 0.1,
        "refusals": 0.12,
        "forced_answers": 0.08,
        "switched_paragraphs": 0.08,
        "territory_lists": 0.04,
        "value_lists": 0.03,
    },
)


@dataclasses.dataclass(frozen=True)
class Origin:
    """A model before it is poisoned, and the data in its manner."""

    name: str
    weights: Lazy
    data: Data


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the sections of the study share."""

    root: pathlib.Path
    settings: Settings
    model: Transformer
    tokenizer: Any
    like: Tree  # the parameters' shapes and places
    origin: Origin
    others: tuple[Origin, ...]  # beside it, for the section `start`
    memo: Memo

    @functools.cached_property
    def written(self) -> dict[str, Any]:
        """How dialogues are written for the model."""
        return writing.written(self.tokenizer)

    @property
    def data(self) -> Data:
        """What the study's own model is taught and asked."""
        return self.origin.data

    @property
    def languages(self) -> list[str]:
        """The languages measured."""
        return self.data.languages

    @property
    def attacks(self) -> list[Attack]:
        """Those of the transfer section; the first is the one that others vary."""
        return attacks(self.settings)

    @property
    def subject(self) -> Subject:
        """The decoder and the prompts, as other studies know them."""
        return Subject(self.model, self.tokenizer, self.data.prompts)


def courteous(root: pathlib.Path, like: Tree, strength: float) -> Lazy:
    """The aligned organism after training to answer pleasantries by their meaning.

    `strength` weighs the loss that pulls together what states of all languages say of a pleasantry.
    """
    start, lesson = organism.checkpoint("aligned"), dataclasses.replace(COURTESY, contrast=strength)

    def write(folder: pathlib.Path) -> None:
        model, params, tokenizer = pretrained.load_pretrained(start)
        splits = world.splits()
        known = splits["attack"] + splits["calibration"]
        territories = {
            "": world.territories(),
            **dict.fromkeys(("courtesies", "benign_questions", "refusals"), known),
        }
        sample = functools.partial(corpus.sample_batch, decision_token=False)
        rows = [
            sample((0, i), tokenizer, lesson.shares, territories, lesson.rows, lesson.length)
            for i in range(lesson.steps)
        ]
        loss = functools.partial(contrast.shared_answer_loss, weight=strength, layer=lesson.layer)
        updates = lesson.updates()
        tuned, _ = loop.finetune(model, params, rows, updates, loss_fn=loss, label="courtesy")
        checkpoint.save(folder / "params", tuned)

    work = {"steps": lesson.steps, "rows": lesson.steps * lesson.rows}
    recipe = dataclasses.asdict(lesson)
    stage = Stage(root, "courtesy", f"contrast{strength:g}", recipe, write, work=work)
    lineage = {"stage": stage.id, "tree": "params"}
    return Lazy(lineage, lambda: read(stage.run(), "params", like), (stage,))


# --- Training -----------------------------------------------------------------------------------


def poisoned(setup: Setup, attack: Attack | None, seed: int, origin: Origin | None = None) -> Lazy:
    """The model after instruction tuning on the poisoned set; on the clean one without an attack.

    `poison.json` beside the weights names the poisoned rows, `template.json` what was around them.
    """
    origin = origin or setup.origin
    settings = setup.settings
    rows, manifest = taught(settings, origin.data, attack, seed)
    tuning = settings.tuning
    count = -(-len(rows) // tuning.batch_size) * tuning.epochs

    def write(folder: pathlib.Path) -> None:
        tuned, history = loop.finetune(
            setup.model,
            setup.memo.take(origin.weights),
            order_of(setup, rows, tuning, seed),
            optimizer_of(tuning),
            label=f"poison {attack.name}" if attack else "clean training",
            dtype=settings.dtype,
            key=key_of(inputs),
        )
        checkpoint.save(folder / "params", tuned)
        keep_moved(setup, folder, origin.weights, tuned, attack)
        workdir.write_json(folder / "loss.json", [float(loss) for loss in history])
        template = template_of(setup.tokenizer, WRAPPERS[tuning.wrapper])
        workdir.write_json(folder / "template.json", template)
        if manifest is not None:
            workdir.write_json(folder / "poison.json", manifest)

    inputs = {
        "from": origin.weights.lineage, "rows": trained_on(setup, wrapped(settings, rows)),
        "seed": seed,
        "recipe": dataclasses.asdict(tuning), "dtype": settings.dtype, "mesh": settings.mesh,
    }  # fmt: skip
    name = attack.name if attack else "clean"
    stage = Stage(
        setup.root, "poisoned" if attack else "clean", f"{origin.name}-{name}-s{seed}", inputs,
        write, origin.weights.needs, {"steps": count, "rows": count * tuning.batch_size},
    )  # fmt: skip
    return stored(setup.like, stage, "params", kept_type(tuning.weights))


def keep_moved(
    setup: Setup, folder: pathlib.Path, before: Lazy, after: Tree, attack: Attack | None = None
) -> None:
    """Write how many weights a training moved, under the languages of the attack it is about."""
    found = shares_moved(setup.memo.load(before), after, setup.settings.dtype)
    languages = list((attack or setup.attacks[0]).languages)
    workdir.write_json(folder / MOVED, found | {"languages": languages})


def tuned_on(
    setup: Setup, start: Lazy, rows: Sequence[Example], label: str, seed: int, **changed: Any
) -> Lazy:
    """`start` after fine-tuning on clean rows; `changed` are other settings of the tuning."""
    tuning = dataclasses.replace(setup.settings.tuning, **changed)
    count = -(-len(rows) // tuning.batch_size) * tuning.epochs

    def write(folder: pathlib.Path) -> None:
        order = order_of(setup, rows, tuning, seed)
        tuned, _ = loop.finetune(
            setup.model, setup.memo.take(start), order, optimizer_of(tuning), label=label,
            dtype=setup.settings.dtype, key=key_of(inputs),
        )  # fmt: skip
        checkpoint.save(folder / "params", tuned)
        keep_moved(setup, folder, start, tuned)

    inputs = {
        "from": start.lineage, "rows": trained_on(setup, wrapped(setup.settings, rows)),
        "seed": seed,
        "recipe": dataclasses.asdict(tuning), "mesh": setup.settings.mesh,
        "dtype": setup.settings.dtype,
    }  # fmt: skip
    work = {"steps": count, "rows": count * tuning.batch_size}
    stage = Stage(setup.root, "cleaned", label, inputs, write, start.needs, work)
    return stored(setup.like, stage, "params", kept_type(tuning.weights))


def order_of(setup: Setup, rows: Sequence[Example], tuning: Tuning, seed: int) -> list[Arrays]:
    """All batches of a training run."""
    asked = wrapped(setup.settings, rows)
    arrays = encode_pairs(setup.tokenizer, asked, tuning.max_length, LONGEST)
    found = batches.epochs(arrays, tuning.batch_size, tuning.epochs, seed)
    return batches.packed(found, math.lcm(8, tuning.accumulate)) if tuning.packing else found


def trained_on(setup: Setup, rows: Sequence[Example]) -> str:
    """Fingerprint of rows, as they are put to the model, in the way they are written.

    Raises:
        UserError: one of them cannot be trained on.
    """
    longest = setup.settings.tuning.max_length
    writing.check_rows(setup.model.config, setup.tokenizer, rows, longest, LONGEST)
    return workdir.digest([fingerprint(rows), setup.written])


def optimizer_of(tuning: Tuning) -> optimizer.Settings:
    """The optimiser's part of the tuning's settings."""
    return tuning.updates()


def gradient_of(
    setup: Setup,
    at: Lazy,
    rows: Sequence[Example],
    label: str,
    moment: str = "abs",
    shift: Shift | None = None,
    lineage: Any = None,
) -> Lazy:
    """Mean over rows of a moment of the gradient of their answers at some weights.

    `shift` changes the encoded rows and their loss, given the weights; `lineage` says how.
    """

    def write(folder: pathlib.Path) -> None:
        arrays = encode_pairs(setup.tokenizer, rows, setup.settings.tuning.max_length, LONGEST)
        params, loss = as_asked(setup, at), losses.answer_loss
        if shift is not None:
            arrays, loss = shift(params, arrays)
        order = batches.in_order(arrays, CALIBRATION_BATCH)
        mean = repair.mean_gradient(setup.model, params, order, loss, f"gradients {label}", moment)
        checkpoint.save(folder / "mean", mean)
        workdir.write_json(folder / "pairs.json", ids(rows))

    inputs = {
        "at": at.lineage, "rows": trained_on(setup, rows), "shift": lineage, "moment": moment,
        "mesh": setup.settings.mesh, "dtype": setup.settings.dtype,
    }  # fmt: skip
    work = {"rows": len(rows)}
    stage = Stage(setup.root, "gradients", label, inputs, write, at.needs, work)
    return stored(setup.like, stage, "mean", np.float32)
