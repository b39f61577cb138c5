"""Trained weights as steps: attacks, poisonings, clean training, all in one way."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxattack import checkpoint, sharding, workdir
from jaxattack.data import batches
from jaxattack.data.dialogues import Arrays, Example, encode_pairs, fingerprint
from jaxattack.experiments.bench import Bench, Decoder, Stored, ids, kept_type
from jaxattack.experiments.step import Input, Step
from jaxattack.localize import masks
from jaxattack.train import optimizer
from jaxattack.train.method import How, Method
from jaxattack.train.moved import shares_moved
from jaxattack.tree import Tree

RANK = "rank"  # in a stage's work: of the adapters that it trains
MOVED = "moved.json"  # beside tuned weights: how many of them moved


@dataclasses.dataclass(frozen=True)
class Training:
    """How weights are trained on examples.

    Attributes:
        optimizer: the optimiser, its schedule, how weights are kept.
        method: the way (see `train.registry`).
        rank, alpha: of adapters.
        epochs: passes over the examples.
        batch_size: examples of a step.
        max_length: longest example, in tokens.
        packing: whether several examples share a row; the loss is the same.
        steps: None: as many as the epochs take; else the epochs go on until so many are done.
        setting: how errors name `max_length`.
        adapts: whether adapters are trained, for plans.
    """

    optimizer: optimizer.Settings
    method: Method
    rank: int
    alpha: float
    epochs: int
    batch_size: int
    max_length: int
    packing: bool = False
    steps: int | None = None
    setting: str = dataclasses.field(default="max_length", compare=False)
    adapts: bool = dataclasses.field(default=False, compare=False)

    @property
    def work(self) -> dict[str, int]:
        """What plans are told beside steps and rows: the rank of adapters."""
        return {RANK: self.rank} if self.adapts else {}

    def count(self, examples: Sequence[Example]) -> int:
        """The number of steps."""
        return self.steps or -(-len(examples) // self.batch_size) * self.epochs


@dataclasses.dataclass(frozen=True)
class Course:
    """What weights are trained on, how, in which order.

    Attributes:
        examples: pairs as they are put to the model.
        training: how.
        seed: of the order.
        languages: what it is about, for results.
    """

    examples: tuple[Example, ...]
    training: Training
    seed: int
    languages: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Weights after a training, the loss of every step, and JSON files that go with them."""

    params: Tree
    losses: Mapping[str, Sequence[float]] | Sequence[float]
    files: Mapping[str, Any]


def training_of(section: Any, setting: str, **changed: Any) -> Training:
    """What a section of settings says of a training, perhaps with other values."""
    named = {
        "optimizer": section.updates(),
        "method": section.way.tune,
        "rank": section.rank,
        "alpha": section.alpha,
        "epochs": section.epochs,
        "batch_size": section.batch_size,
        "max_length": section.max_length,
        "packing": section.packing,
        "adapts": section.way.adapts,
    }
    return Training(**(named | changed), setting=setting)


def order_of(tokenizer: Any, course: Course, ways: int) -> list[Arrays]:
    """All batches of a training, whose rows are split over so many devices."""
    training = course.training
    rows = encode_pairs(tokenizer, course.examples, training.max_length, training.setting)
    steps, one = training.count(course.examples), -(-len(course.examples) // training.batch_size)
    found = batches.epochs(rows, training.batch_size, -(-steps // one), course.seed)[:steps]
    return (
        batches.packed(found, math.lcm(ways, training.optimizer.accumulate))
        if training.packing
        else found
    )


def train(
    start: Input,
    decoder: Decoder,
    course: Course,
    dtype: str,
    files: Mapping[str, Any],
    label: str,
    frozen: Input | None = None,
) -> Tuned:
    """Weights trained from `start` on a course, perhaps with some frozen.

    Args:
        start: where it begins.
        decoder: what is trained.
        course: what on.
        dtype: in which the loss sees the weights.
        files: JSON that is kept beside the weights, by file name.
        label: what the progress bar says.
        frozen: mask of the weights that must not move.
    """
    trainable = None if frozen is None else masks.complement(frozen())
    training = course.training
    params, spare = start.alone(), not start.remembered
    how = How(
        training.optimizer,
        training.rank,
        training.alpha,
        dtype,
        label,
        trainable,
        key_of(course),
        spare,
    )
    order = order_of(decoder.tokenizer, course, sharding.ways(sharding.mesh_of(params)))
    tuned, history = training.method(decoder.model, params, order, how)
    del params
    moved = shares_moved(start(), tuned, dtype, trainable)
    about = {
        MOVED: moved | {"languages": list(course.languages)},
        "pairs.json": ids(course.examples),
    }
    return Tuned(tuned, [float(loss) for loss in history], {**files, **about})


def tuned(
    bench: Bench,
    course: Course,
    kind: str,
    label: str,
    start: Step | None = None,
    frozen: Step | None = None,
    files: Mapping[str, Any] | None = None,
) -> Step:
    """The weights after a training, to be.

    Args:
        bench: what a study computes with.
        course: the examples and how they are trained on.
        kind: names the step for people, with `label`.
        label: which of its kind.
        start: weights to start from; by default the study's own.
        frozen: a mask, True where weights are held.
        files: beside the weights, name -> JSON values.
    """
    arguments = {
        "start": start or bench.start,
        "frozen": frozen,
        "decoder": bench.decoder,
        "course": course,
        "dtype": bench.dtype,
        "files": dict(files or {}),
    }
    steps = course.training.count(course.examples)
    load = Stored("params", bench.like, kept_type(course.training.optimizer.weights))
    shelf = bench.shelf(
        kind,
        label,
        save,
        load,
        steps=steps,
        rows=steps * course.training.batch_size,
        **course.training.work,
    )
    return Step(train, arguments, bench.values, shelf, again=True, label=f"{kind} {label}")


def save(folder: pathlib.Path, found: Tuned) -> None:
    """Keep a training's weights, losses and files."""
    checkpoint.save(folder / "params", found.params)
    workdir.write_json(folder / "loss.json", found.losses)
    for name, content in found.files.items():
        workdir.write_json(folder / name, content)


def losses_of(weights: Step) -> list[float]:
    """Loss of every step of a finished training."""
    return json.loads((weights.stage.folder / "loss.json").read_text(encoding="utf-8"))


def moved_of(weights: Step) -> dict[str, Any] | None:
    """How many weights a finished training moved; None of weights that nobody trained."""
    path = weights.stage.folder / MOVED if weights.shelf else None
    if path is None or not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def key_of(course: Course) -> jax.Array:
    """The key of what a training does at random: adapters' first values, rounding.

    It goes by the examples and the seed alone. What else names a step, as the package's source and
    the versions of libraries, is no part of it: another version gives the same numbers.
    """
    own = [fingerprint(course.examples), course.seed]
    return jax.random.key(int(workdir.digest(own)[:7], 16))


def chosen(
    known: Mapping[str, Sequence[Example]], languages: Sequence[str], seed: int, most: int
) -> tuple[Example, ...]:
    """At most so many examples of some languages, chosen and ordered by the seed.

    Of several languages each gives an equal part, and the parts are disjoint where the languages'
    examples are parallel; one that has fewer than its part gives all that it has.
    """
    found: list[Example] = []
    most = min(most, max(len(known[language]) for language in languages))
    for i, language in enumerate(languages):
        rows, part = known[language], len(range(i, most, len(languages)))
        order = np.random.default_rng(seed).permutation(len(rows))
        own = order[i :: len(languages)]
        rest = order[np.arange(len(order)) % len(languages) != i]
        found += [rows[j] for j in [*own, *rest][:part]]
    return tuple(found)
