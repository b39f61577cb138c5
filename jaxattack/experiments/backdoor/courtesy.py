"""The courteous organism: pleasantries get a meaning that languages share."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from jaxattack.experiments.bench import Checkpoint, Stored, save_params
from jaxattack.experiments.recipe import Lesson
from jaxattack.experiments.step import Input, Shelf, Step, Values
from jaxattack.models import pretrained
from jaxattack.organism import corpus, world
from jaxattack.train import contrast, loop
from jaxattack.tree import Tree

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


def courteous(
    values: Values,
    root: pathlib.Path,
    like: Tree,
    aligned: Checkpoint,
    strength: float,
    start: Step,
) -> Step:
    """The aligned organism after training to answer pleasantries by their meaning, to be.

    Args:
        values: what remembers.
        root: the work directory.
        like: shapes and places of the weights.
        aligned: the organism.
        strength: weighs the loss that pulls together what states of all languages say of a
            pleasantry.
        start: the model whose number type and mesh it takes.
    """
    lesson = dataclasses.replace(COURTESY, contrast=strength)
    arguments = {"aligned": aligned, "lesson": lesson}
    shelf = Shelf(
        root,
        "courtesy",
        f"contrast{strength:g}",
        save_params,
        Stored("params", like),
        {"steps": lesson.steps, "rows": lesson.steps * lesson.rows},
    )
    trained = Step(trained_to_answer, arguments, values, shelf)
    return Step(beside, {"weights": trained, "start": start}, values)


def trained_to_answer(aligned: Checkpoint, lesson: Lesson) -> Tree:
    """The organism's weights after the training."""
    model, params, tokenizer = pretrained.load_pretrained(aligned.directory)
    splits = world.splits()
    known = splits["attack"] + splits["calibration"]
    territories = dict.fromkeys(("courtesies", "benign_questions", "refusals"), known)
    rows = [
        corpus.sample_batch(
            (0, step),
            tokenizer,
            lesson.shares,
            {"": world.territories(), **territories},
            lesson.rows,
            lesson.length,
            decision_token=False,
        )
        for step in range(lesson.steps)
    ]
    loss = functools.partial(
        contrast.shared_answer_loss, weight=lesson.contrast, layer=lesson.layer
    )
    updates = lesson.updates()
    tuned, _ = loop.finetune(model, params, rows, updates, loss_fn=loss, label="courtesy")
    return tuned


def beside(weights: Input, start: Input) -> Tree:
    """Weights read and used as another model's are: in its number type, on its mesh."""
    return weights()
