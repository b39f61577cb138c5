"""Stages: what a work directory keeps of a study, each computed once.

A stage is a folder named by a hash of everything that went into it. It is written under a
temporary name and renamed when it is complete, so a program killed anywhere leaves only finished
stages and rubbish that the next start ignores. Its record holds checksums (`sums`): a stage that
is not as it was written is named and done again, and so are those that rest on it.

Of several runs in one directory one computes a stage: it has the stage's lease (`leases`).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxattack import (
    distributed,
    leases,
    meter,
    mirror,
    owner,
    provenance,
    savepoint,
    sums,
    workdir,
)
from jaxattack.errors import UserError, printable

_checked: dict[pathlib.Path, sums.Signature] = {}  # sound stages, as this process saw them


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """Something computed once: it has its name before it is computed.

    Attributes:
        root: the work directory.
        kind: what sort of work it is, such as "attack".
        label: what the stage is, for people.
        inputs: JSON values that determine the result; earlier stages by their id.
        write: fills an empty folder with the result; of several processes all call it.
        needs: stages whose results `write` reads.
        work: how much there is to do, for plans: numbers of steps, rows, prompts.
    """

    root: pathlib.Path
    kind: str
    label: str
    inputs: Mapping[str, Any]
    write: Callable[[pathlib.Path], None]
    needs: tuple[Stage, ...] = ()
    work: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def id(self) -> str:
        """The folder's name."""
        label = re.sub(r"[^\w.+@=-]", "-", self.label).encode()[:120].decode(errors="ignore")
        return f"{self.kind}-{label}-{workdir.digest(self._everything)}"

    @property
    def folder(self) -> pathlib.Path:
        """Where the result is, or will be."""
        return self.root / "stages" / self.id

    @functools.cached_property
    def _everything(self) -> dict[str, Any]:
        everything = {
            "kind": self.kind,
            "label": self.label,
            "inputs": dict(self.inputs),
            "computed_by": provenance.identity(),
        }
        return json.loads(json.dumps(everything))  # as it is read back

    def run(self) -> pathlib.Path:
        """The finished folder; computed only if it is not there as it was written.

        While another run computes it, this one waits. `stage.json` holds the inputs, what computed
        the stage, and the checksums.
        """
        looks = None
        while not self.attempt():
            looks = looks or leases.pauses(f"waiting for another run: {self.kind} {self.label}")
            next(looks)
        return self.folder

    def attempt(self) -> bool:
        """Compute the stage if it is not there as it was written; False: another run is at it."""
        if self.is_sound():
            return True
        with leases.held(self.folder) as ours:
            if ours:
                self.compute()
        return ours

    def is_sound(self) -> bool:
        """Whether the stage is there as it was written; then a mirror gets it too."""
        # Told by one process, for on a network's file system the others may see it later.
        return distributed.first(self._look, f"look at {self.id}")

    def _look(self) -> bool:
        if not os.path.lexists(self.folder) or _damage(self.folder, self._everything):
            return False
        # Who computes a stage uploads it too, and has its lease until then.
        lease = leases.take(self.folder) if mirror.lacks(self.folder) else None
        if lease is not None:
            try:
                with owner.alive(lease.path):
                    mirror.push(self.folder)
            finally:
                leases.give_back(self.folder, lease)
        return True

    def compute(self) -> None:
        """Compute the stage, unless another run did so meanwhile; whoever calls has its lease."""
        made = distributed.first(self._begin, f"begin {self.id}")
        if made is None:
            return
        partial = pathlib.Path(made)
        meter.memory_from_here()
        start = time.perf_counter()
        try:
            with owner.alive(partial), savepoint.within(self.root, self.id):
                self.write(partial)
            seconds = round(time.perf_counter() - start, 3)
            distributed.first(lambda: self._finish(partial, seconds), f"finish {self.id}")
        except BaseException:
            if distributed.is_first():
                shutil.rmtree(partial, ignore_errors=True)
            raise

    def _begin(self) -> str | None:
        """A new folder to fill; None if the stage is there and sound."""
        folder = self.folder
        if os.path.lexists(folder):
            wrong = _damage(folder, self._everything)
            if not wrong:
                mirror.push(folder)
                return None
            resting = _resting_on(folder)
            also = f", with {len(resting)} that rest on it" if resting else ""
            said = f"jaxattack: {folder}: {wrong}; done again{also}"
            print(printable(said), file=sys.stderr, flush=True)
            for stage in (*resting, folder):  # the damaged one last: killed between, it is seen
                _discard(stage)
        if mirror.fetch(folder, self._everything):
            _checked[folder] = sums.signature(folder)
            return None
        return tempfile.mkdtemp(prefix=f".{folder.name}{owner.mark()}", dir=folder.parent)

    def _finish(self, partial: pathlib.Path, seconds: float) -> None:
        facts = {
            **self._everything,
            "needs": sorted(stage.id for stage in self.needs),
            "seconds": seconds,
            "memory": meter.memory(),
            "finished": provenance.now(),
            "environment": provenance.environment(),
        }
        workdir.write_json(partial / sums.RECORD, sums.sealed(partial, facts))
        partial.chmod(0o755)
        try:
            partial.rename(self.folder)
        except OSError:
            if not self.folder.is_dir():  # else another run finished the same stage first
                raise
            shutil.rmtree(partial)
            return
        _checked[self.folder] = sums.signature(self.folder)
        savepoint.clear(self.root, self.id)
        mirror.push(self.folder, anew=True)

    def record(self) -> dict[str, Any]:
        """What the finished stage says of itself."""
        return json.loads((self.folder / sums.RECORD).read_text(encoding="utf-8"))

    def seconds(self) -> float:
        """How long the finished stage took, whenever that was."""
        return float(self.record()["seconds"])

    def memory(self) -> int | None:
        """Most bytes held while it was computed (`meter.memory`); None: its record is older."""
        return max((self.record().get("memory") or {}).values(), default=None)


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """The stages and all they need, each once, each after those it needs."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.id in found:
            return
        for earlier in stage.needs:
            add(earlier)
        found[stage.id] = stage

    for stage in stages:
        add(stage)
    return list(found.values())


def _damage(folder: pathlib.Path, identity: dict[str, Any]) -> str:
    """What is wrong with a stage; looked at again only if its files changed."""
    try:
        seen = sums.signature(folder)
        if _checked.get(folder) == seen:
            return ""
        wrong = sums.damage(folder, identity)
        if not wrong:
            _checked[folder] = seen
        return wrong
    except PermissionError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from error
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def _resting_on(folder: pathlib.Path) -> list[pathlib.Path]:
    """The stages beside it that were computed from it, each before those it rests on."""
    needs = {
        record.parent: workdir.read_object(record).get("needs", ())
        for record in folder.parent.glob(f"[!.]*/{sums.RECORD}")
    }
    found: dict[pathlib.Path, None] = {}
    seen = {folder}

    def visit(place: pathlib.Path) -> None:
        for other, needed in needs.items():
            if place.name in needed and other not in seen:
                seen.add(other)
                visit(other)
                found[other] = None

    visit(folder)
    return list(found)


def _discard(folder: pathlib.Path) -> None:
    """Take a stage away: at once out of sight, then bit by bit."""
    aside = folder.with_name(f".{folder.name}{owner.mark()}gone")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return  # another run was first
    except OSError as error:
        raise UserError(
            f"{folder} is damaged and cannot be removed ({error.strerror}); remove it by hand"
        ) from error
    workdir.remove(aside)
