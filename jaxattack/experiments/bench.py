"""What every step of a study stands on: the model, how it writes, its weights, where things lie."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxattack import checkpoint, sharding, tree
from jaxattack.data.dialogues import Example, fingerprint
from jaxattack.experiments.step import Input, Shelf, Step, Values, rows_step
from jaxattack.models import pretrained
from jaxattack.models.transformer import Transformer
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A model and how it reads and writes."""

    model: Transformer
    tokenizer: Any


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the steps of a study share.

    Attributes:
        root: the work directory.
        values: what steps remember.
        decoder: the study's own.
        start: its weights, before anything is done to them.
        like: their shapes and places.
        dtype: in which weights are asked and gradients taken.
    """

    root: pathlib.Path
    values: Values
    decoder: Decoder
    start: Step
    like: Tree
    dtype: str

    def rows(
        self,
        table: str,
        label: str,
        function: Callable[..., list[dict[str, Any]]],
        *parts: Step,
        **options: Any,
    ) -> Step:
        """Rows of a table, made by a function of steps' values."""
        return rows_step(self.values, self.root, table, label, function, *parts, **options)

    def shelf(self, kind: str, label: str, save: Any, load: Any, **work: int) -> Shelf:
        """A place in the work directory."""
        return Shelf(self.root, kind, label, save, load, work)


@dataclasses.dataclass(frozen=True)
class Stored:
    """Reads a tree that a step keeps.

    Attributes:
        name: in the step's folder.
        like: its shapes and places.
        dtype: of its leaves; None: those of `like`.
    """

    name: str
    like: Tree
    dtype: Any = None

    def __call__(self, folder: pathlib.Path) -> Tree:
        """The tree."""
        like = self.like
        if self.dtype is not None:
            like = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, self.dtype, sharding=leaf.sharding),
                like,
            )
        return checkpoint.load(folder / self.name, like, sharding.mesh_of(like))


def save_params(folder: pathlib.Path, params: Tree) -> None:
    """Keep weights."""
    checkpoint.save(folder / "params", params)


def rounded(weights: Input, dtype: str) -> Tree:
    """Weights in the study's number type, as they are asked and as gradients are taken at them.

    Tuned ones are kept in float32, for their difference to others; here they are rounded.
    """
    return tree.cast(weights(), dtype)


def kept_type(weights: str) -> Any:
    """The type of tuned weights on disk: float32, unless they are trained in the model's own."""
    return np.float32 if weights in ("float32", "extended") else None


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model's files, named by what is in them.

    Attributes:
        fingerprint: of its weights, config, tokenizer and templates.
        directory: where they lie.
        tokenizer: fingerprint of another tokenizer that takes the place of its own.
        loaded: its weights, if they are loaded; taken away by who reads them.
    """

    fingerprint: str
    directory: pathlib.Path = dataclasses.field(compare=False)
    tokenizer: str = ""
    loaded: list[Tree] = dataclasses.field(default_factory=list, compare=False)


def start_step(values: Values, checkpoint: Checkpoint, manner: Mapping[str, Any]) -> Step:
    """A checkpoint's weights, to be: all that is derived from them inherits this name.

    Args:
        values: what remembers.
        checkpoint: whose.
        manner: how they are read and used: `dtype`, `attention`, `remat`, `mesh`.
    """
    arguments = {**manner, "checkpoint": checkpoint}
    return Step(weights_of, arguments, values, often=True)


def weights_of(checkpoint: Checkpoint, dtype: str, attention: str, remat: str, mesh: Any) -> Tree:
    """A checkpoint's weights: those that were loaded, and when asked again loaded again.

    So nobody needs to hold them for the time in between.
    """
    if checkpoint.loaded:
        return checkpoint.loaded.pop()
    return pretrained.load_pretrained(
        checkpoint.directory, dtype, mesh, remat=remat, attention=attention
    )[1]


def ids(examples: Sequence[Example]) -> list[dict[str, str]]:
    """What names examples without their text."""
    return [{"id": e.id, "language": e.language, "hash": fingerprint([e])} for e in examples]
