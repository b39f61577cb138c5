"""Saving points within a step: a training that is stopped goes on from its last one.

While a stage of a work directory is run, its trainings save weights, optimiser and losses beside
the stages: now and then, in the background (on a CPU before the next step), and once more when
SIGTERM comes. Batches are lists and keys are folded from the step's number, so what goes on ends
bit by bit where what was never stopped does. A saving point is a folder with checksums, as a stage
is; it goes when its stage is finished. A mirror may have copies (`Copies`), from which a fresh disk
goes on.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import dataclasses
import json
import math
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh

from jaxattack import checkpoint, distributed, owner, sums
from jaxattack.errors import UserError, printable
from jaxattack.tree import Tree

MINUTES = 10.0  # between two saving points
FOLDER = "unfinished"  # in a work directory
AGREED = 16  # steps after which processes hear from the first whether to save

T = TypeVar("T")

Look = Callable[[list[Any]], None]


@dataclasses.dataclass
class _Stage:
    """A stage that is run: where, its name, how many trainings it has begun."""

    folder: pathlib.Path
    id: str
    trainings: int = 0


@dataclasses.dataclass(frozen=True)
class Copies:
    """Where else saving points are kept. Each of these raises a `UserError` if it cannot.

    Attributes:
        names: of what there is of a training.
        fetch: brings one to where it should be, if its record holds some facts; whether it did.
        keep: copies one, and takes those of its training that were there away; ends before it is
            through if it is told to.
        forget: takes those of a training away.
    """

    names: Callable[[str], list[str]]
    fetch: Callable[[pathlib.Path, dict[str, Any]], bool]
    keep: Callable[[pathlib.Path, Callable[[], bool]], None]
    forget: Callable[[str], None]


_copies: contextvars.ContextVar[Copies | None] = contextvars.ContextVar("copies", default=None)
_seconds: contextvars.ContextVar[float] = contextvars.ContextVar("seconds", default=60 * MINUTES)
_stage: contextvars.ContextVar[_Stage | None] = contextvars.ContextVar("stage", default=None)


@contextlib.contextmanager
def every(minutes: float | None) -> Iterator[None]:
    """How often trainings save in this context; 0: never, also not at SIGTERM; None: `MINUTES`."""
    token = _seconds.set(60 * (MINUTES if minutes is None else minutes))
    try:
        yield
    finally:
        _seconds.reset(token)


def minutes() -> float:
    """Between two saving points in this context; 0: there are none."""
    return _seconds.get() / 60


@contextlib.contextmanager
def copied_to(copies: Copies) -> Iterator[None]:
    """Saving points of this context are kept there too."""
    token = _copies.set(copies)
    try:
        yield
    finally:
        _copies.reset(token)


@contextlib.contextmanager
def within(root: pathlib.Path, stage: str) -> Iterator[None]:
    """Trainings in this context are those of a stage of the work directory `root`."""
    token = _stage.set(_Stage(root / FOLDER, stage))
    try:
        yield
    finally:
        _stage.reset(token)


def clear(root: pathlib.Path, stage: str) -> None:
    """Take a stage's saving points away."""
    for path in (root / FOLDER).glob(f"{stage}.*"):
        shutil.rmtree(path, ignore_errors=True)


def clear_finished(root: pathlib.Path) -> None:
    """Take the saving points of finished stages away, which a killed run left."""
    for path in (root / FOLDER).glob("[!.]*"):
        if (root / "stages" / path.name.rsplit(".", 2)[0]).is_dir():
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def training(
    state: dict[str, Tree], mesh: Mesh, steps: int, label: str
) -> Iterator[tuple[list[Any], Look]]:
    """Let a training of a stage save its state, and begin with what an earlier run saved.

    Args:
        state: weights and the optimiser's state; what was saved takes their place.
        mesh: where they are.
        steps: of the training.
        label: what a line on it says.

    Yields:
        the losses of the steps that are done, and a function to call after every further step with
        the losses so far; `state` has to be that after the step.
    """
    stage, seconds = _stage.get(), _seconds.get()
    if stage is None or not seconds:
        yield [], lambda losses: None
        return
    told: dict[str, Any] = {"training": f"{stage.id}.{stage.trainings}", "steps": steps}
    stage.trainings += 1
    pool = concurrent.futures.ThreadPoolExecutor(1)
    saver = _Saver(stage.folder, told, state, mesh, seconds, label, pool, _copies.get())
    whole = False
    try:
        yield saver.resumed(), saver.look
        whole = True
    except UserError:  # the same would come again
        saver.over = True
        saver.settle()
        if distributed.is_first():
            saver.remove_but(None)
            saver.copied(lambda copies: copies.forget(told["training"]))
        raise
    finally:
        saver.over = not whole
        try:
            saver.release()
        finally:  # of several processes one that fails waits for nobody
            pool.shutdown(wait=whole or not distributed.several())


@dataclasses.dataclass
class _Saver:
    """Saves one training; see `training`."""

    folder: pathlib.Path
    told: dict[str, Any]
    state: dict[str, Tree]
    mesh: Mesh
    seconds: float
    label: str
    pool: concurrent.futures.ThreadPoolExecutor
    copies: Copies | None
    begun: float = dataclasses.field(default_factory=time.monotonic)  # since the last one
    pending: concurrent.futures.Future[None] | None = None
    failed: bool = False
    before: Any = None  # who was told of SIGTERM
    stopped: bool = False
    newest: int = 0  # steps that were taken before the last saving point that was begun
    over: bool = False  # nothing is waited for any more

    def resumed(self) -> list[float]:
        """Take the last sound saving point as the state; its losses, none if there is none."""
        name = distributed.first(self._last, f"resume {self.label}")
        if name is None:
            return []
        like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), dict(self.state))
        self.state.clear()  # two of them might not fit
        self.state.update(checkpoint.load(self.folder / name / "state", like, self.mesh))
        record = json.loads((self.folder / name / sums.RECORD).read_text(encoding="utf-8"))
        losses = [float(loss) for loss in record["losses"]]
        self._say(f"goes on after step {len(losses)} of {self.told['steps']}")
        return losses

    def look(self, losses: list[Any]) -> None:
        """Save if it is time, or if SIGTERM came; that ends the program then."""
        several, step = distributed.several(), len(losses)
        if not several:
            self._listen()
        if several and step % AGREED:
            return
        if distributed.first(self._due, f"saving {step} {self.label}"):
            self._save(losses)
        if self.stopped:
            self.settle()
            self.release()

    def settle(self) -> None:
        """Wait until what is being saved is on disk."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:
            self._give_up(error)

    def release(self) -> None:
        """Leave SIGTERM to who was told of it before, also the one that came."""
        before, self.before = self.before, None
        if before is not None:
            signal.signal(signal.SIGTERM, before)
            if self.stopped:
                signal.raise_signal(signal.SIGTERM)

    def remove_but(self, kept: pathlib.Path | None) -> None:
        """Take this training's other saving points away."""
        for path in self.folder.glob(f"{self.told['training']}.*"):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)

    def copied(self, act: Callable[[Copies], T]) -> T | None:
        """Do something with the copies, if there are any; once that fails there are none."""
        try:
            return None if self.copies is None else act(self.copies)
        except Exception as error:
            self.copies = None
            self._say(f"no copies of saving points ({str(error) or type(error).__name__})")
            return None

    def _listen(self) -> None:
        if self.before is None and threading.current_thread() is threading.main_thread():
            found = signal.signal(signal.SIGTERM, self._stop)
            self.before = signal.SIG_DFL if found is None else found

    def _stop(self, *_: Any) -> None:
        self.stopped = True  # after the step: within it the state is nobody's

    def _due(self) -> bool:
        late = time.monotonic() - self.begun >= self.seconds
        copying = self.copies and self.pending and not self.pending.done()  # it may take long
        return ((late and not copying) or self.stopped) and not self.failed

    def _last(self) -> str | None:
        """The name of the last sound saving point, here or brought here."""
        here = self._last_here()
        return self.copied(lambda copies: self._fetched(copies, _step(here))) or here

    def _fetched(self, copies: Copies, after: int) -> str | None:
        """The name of the last sound copy that is further than a step, brought here."""
        self.folder.mkdir(exist_ok=True)
        names = [name for name in copies.names(self.told["training"]) if _step(name) > after]
        for name in sorted(names, key=_step, reverse=True):
            if copies.fetch(self.folder / name, self.told):
                return name
        return None

    def _last_here(self) -> str | None:
        found = self.folder.glob(f"{self.told['training']}.*")
        for path in sorted(found, key=lambda path: _step(path.name), reverse=True):
            wrong = sums.damage(path, self.told)
            if not wrong:
                return path.name
            self._say(f"{path}: {wrong}; not used")
            shutil.rmtree(path, ignore_errors=True)
        return None

    def _save(self, losses: list[Any]) -> None:
        """Begin to save: the state is copied now, and written in the background.

        On a CPU, where a copy would take the memory of another state, it is written at once.
        """
        self.newest = len(losses)  # first, for a copy of an older one ends then
        self.settle()
        losses[:] = [float(loss) for loss in losses]
        if self.failed or not all(map(math.isfinite, losses)):
            return
        name = f"{self.told['training']}.{len(losses)}"
        try:
            made = distributed.first(lambda: self._partial(name), f"save {name}")
            partial = pathlib.Path(made)
            response = checkpoint.save_async(partial / "state", self.state)
        except Exception as error:
            self._give_up(error)
            return
        self.pending = self.pool.submit(self._seal, response, partial, name, losses.copy())
        if self.mesh.devices.flat[0].platform == "cpu":
            # What is written lies where the steps' arrays do: a step would make all of it anew.
            with contextlib.suppress(Exception):  # `_seal` meets it too
                response.result()
        self.begun = time.monotonic()

    def _partial(self, name: str) -> str:
        self.folder.mkdir(exist_ok=True)
        return tempfile.mkdtemp(prefix=f".{name}{owner.mark()}", dir=self.folder)

    def _seal(self, response: Any, partial: pathlib.Path, name: str, losses: list[float]) -> None:
        try:
            response.result()
            if not distributed.is_first():
                return
            record = sums.sealed(partial, {**self.told, "losses": losses})
            (partial / sums.RECORD).write_text(sums.render(record), encoding="utf-8")
            shutil.rmtree(self.folder / name, ignore_errors=True)
            partial.rename(self.folder / name)
            self.remove_but(self.folder / name)
            self._copy(name)
        finally:
            if distributed.is_first():
                shutil.rmtree(partial, ignore_errors=True)

    def _copy(self, name: str) -> None:
        def unless() -> bool:  # what time SIGTERM leaves is for the last one
            return self.over or (self.stopped and _step(name) < self.newest)

        self.copied(lambda copies: copies.keep(self.folder / name, unless))

    def _give_up(self, error: Exception) -> None:
        """A training is worth more than its saving points."""
        self.failed = True
        self._say(f"no more saving points ({str(error) or type(error).__name__})")

    def _say(self, text: str) -> None:
        if distributed.is_first():
            print(printable(f"jaxattack: {self.label}: {text}"), file=sys.stderr, flush=True)


def _step(name: str | None) -> int:
    """Steps that were taken before a saving point, by its name; 0 without one."""
    steps = "" if name is None else name.rpartition(".")[2]
    return int(steps) if steps.isdecimal() else 0
