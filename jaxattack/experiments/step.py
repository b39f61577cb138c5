"""Steps: values that have their name before they are computed.

A study first says what it wants: attacks, masks, mixtures of weights, replies, judgements. Only
then is anything computed, step by step, each once. So steps can be counted, planned and resumed,
and what two sections want is shared.

The name is computed too: from the function, its arguments, and the source of all that the function
imports. Nothing is listed by hand, and what cannot be named cannot be an argument.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from jaxattack import provenance, sharding, tree, workdir
from jaxattack.experiments.identity import identity, name_of
from jaxattack.stages import Stage
from jaxattack.tree import Tree

BESIDE = 3  # trees like a kept one that later steps hold: a gradient's sums, scores, a variant


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Where a step's value is kept, and how.

    Attributes:
        root: the work directory.
        kind: what sort of work it is, such as "attack".
        label: what the step is, for people.
        save: writes the value into an empty folder.
        load: reads what later steps need of it.
        work: how much there is to do, for plans: numbers of steps, rows, prompts.
    """

    root: pathlib.Path
    kind: str
    label: str
    save: Callable[[pathlib.Path, Any], None]
    load: Callable[[pathlib.Path], Any]
    work: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A value to be: what a function makes of arguments, some of which are steps.

    The function is one of a module's own. It is given an `Input` for every step among its
    arguments, which reads that step's value when it is called.

    Attributes:
        function: makes the value; equal names are equal values.
        arguments: all it is given that may decide the value.
        values: what remembers.
        shelf: None: the value is not kept on disk.
        often: whether many others are made from it, so that it is worth its memory.
        again: whether several others in a row are, so that it is where there is much memory.
        label: what a progress bar says; given to the function as `label` if it is not empty.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    values: Values
    shelf: Shelf | None = None
    often: bool = False
    again: bool = False
    label: str = ""

    @functools.cached_property
    def named(self) -> dict[str, Any]:
        """JSON that decides the value."""
        return {
            "function": name_of(self.function),
            "code": provenance.source_of(self.function.__module__),
            "arguments": identity(self.arguments),
        }

    @functools.cached_property
    def id(self) -> str:
        """The name that later steps know it by."""
        return self.stage.id if self.shelf else workdir.digest(self.named)

    @functools.cached_property
    def stage(self) -> Stage:
        """How it stands on disk; only of a step with a shelf."""
        assert self.shelf
        return Stage(
            self.shelf.root,
            self.shelf.kind,
            self.shelf.label,
            self.named,
            lambda folder: self.shelf.save(folder, self.compute()),  # type: ignore[union-attr]
            self._beneath,
            self.shelf.work,
        )

    @functools.cached_property
    def needs(self) -> tuple[Stage, ...]:
        """The stages on disk that have to be there to read the value."""
        return (self.stage,) if self.shelf else self._beneath

    @functools.cached_property
    def _beneath(self) -> tuple[Stage, ...]:
        found = (stage for step in steps_in(self.arguments) for stage in step.needs)
        return tuple({stage.id: stage for stage in found}.values())

    def compute(self) -> Any:
        """Call the function."""
        labelled = {"label": self.label} if self.label else {}
        return self.function(**_with_inputs(self.arguments), **labelled)

    def read(self) -> Any:
        """The value: from disk, or computed."""
        return self.shelf.load(self.stage.run()) if self.shelf else self.compute()


@dataclasses.dataclass(frozen=True)
class Input:
    """An argument that is a step: its value, when it is asked for."""

    step: Step

    def __call__(self) -> Any:
        """The value."""
        return self.step.values.of(self.step)

    def alone(self) -> Any:
        """The value, no other large one being remembered: what follows needs all the memory."""
        return self.step.values.alone(self.step)

    @property
    def remembered(self) -> bool:
        """Whether the value is kept for others, so that nobody may take its memory."""
        return self.step.values.remembers(self.step)


def steps_in(value: Any) -> Iterable[Step]:
    """The steps among arguments."""
    if isinstance(value, Step):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from steps_in(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from steps_in(part)


def _with_inputs(value: Any) -> Any:
    if isinstance(value, Step):
        return Input(value)
    if isinstance(value, Mapping):
        return {key: _with_inputs(part) for key, part in value.items()}
    if isinstance(value, tuple | list) and any(True for _ in steps_in(value)):
        return tuple(_with_inputs(part) for part in value)
    return value


class Values:
    """The last trees that were read or derived, up to so many bytes.

    Thirty variants are stitched from one attack: it need not be read thirty times. Of large trees
    two are kept: one that is used often, such as the aligned model, and, if there is room for
    `BESIDE` more of its size, the last attack. A training takes them away.
    """

    def __init__(self, limit: int = 1 << 28, room: Callable[[Tree, int], bool] = sharding.has_room):
        """Keep at most `limit` bytes, and the last attack if `room` says so."""
        self._limit = limit
        self._room = room
        self._kept: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._large: dict[str, Any] = {}
        self._last: dict[str, Any] = {}

    def of(self, step: Step) -> Any:
        """A step's value."""
        if step.id in self._kept:
            self._kept.move_to_end(step.id)
            return self._kept[step.id]
        for large in (self._large, self._last):
            if step.id in large:
                return large[step.id]
        if step.again:
            self._last.clear()
        found = step.read()
        if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found)):
            return found
        if tree.nbytes(found) > self._limit:
            if step.often:
                self._large = {step.id: found}
            elif step.again and self._room(found, BESIDE):
                self._last = {step.id: found}
            return found
        self._kept[step.id] = found
        while sum(map(tree.nbytes, self._kept.values())) > self._limit:
            self._kept.popitem(last=False)
        return found

    def alone(self, step: Step) -> Any:
        """A step's value, no large one being kept."""
        found = self.of(step)
        self._large.clear()
        self._last.clear()
        return found

    def remembers(self, step: Step) -> bool:
        """Whether the step's value is kept."""
        return step.id in self._kept or step.id in self._large

    def derived(self, function: Callable[..., Any], *parts: Step, **options: Any) -> Step:
        """`function` of other steps' values, not kept on disk."""
        arguments = {"function": function, "parts": parts, "options": options}
        return Step(apply, arguments, self)


def apply(
    function: Callable[..., Any], parts: tuple[Input, ...], options: Mapping[str, Any]
) -> Any:
    """Call a function of values."""
    return function(*(part() for part in parts), **options)


def save_rows(folder: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    """Keep rows of a table."""
    workdir.write_json(folder / "rows.json", rows)


def load_rows(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Rows of a table."""
    return json.loads((folder / "rows.json").read_text(encoding="utf-8"))


def rows_step(
    values: Values,
    root: pathlib.Path,
    table: str,
    label: str,
    function: Callable[..., list[dict[str, Any]]],
    *parts: Step,
    **options: Any,
) -> Step:
    """Rows of a table, made by a function of other steps' values and kept on disk."""
    arguments = {"function": function, "parts": parts, "options": options}
    return Step(apply, arguments, values, Shelf(root, table, label, save_rows, load_rows))
