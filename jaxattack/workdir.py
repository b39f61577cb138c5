"""The work directory: stages that are done once, and files that appear whole or not at all.

A stage is a folder named by a hash of everything that went into it. It is written under a
temporary name and renamed when it is complete, so a program killed anywhere leaves only finished
stages and rubbish that the next start ignores.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxattack import distributed
from jaxattack.errors import UserError

# Rooms whose code decides what a stage holds; the report and the command line do not.
_ROOMS = (
    "data", "defend", "evaluate", "experiments", "finetune", "localize", "models", "organism",
    "checkpoint.py", "sharding.py", "tree.py",
)  # fmt: skip


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a file atomically; of several processes the first does."""
    if not distributed.is_first():
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, so that equal values give equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def open_workdir(path: str | pathlib.Path) -> pathlib.Path:
    """Make the directory if need be.

    Raises:
        UserError: it cannot be made or written.
    """
    root = pathlib.Path(path).expanduser()
    try:
        (root / "stages").mkdir(parents=True, exist_ok=True)
        for rubbish in (root / "stages").glob(".*"):
            # Another process may be at work here: only what nobody touches any more goes.
            if _abandoned(rubbish):
                shutil.rmtree(rubbish, ignore_errors=True)
    except OSError as error:
        raise UserError(f"--workdir={path}: {error.strerror or error}") from error
    if not os.access(root, os.W_OK):
        raise UserError(f"--workdir={path}: not writable")
    return root


def _abandoned(partial: pathlib.Path) -> bool:
    parts = partial.name.rsplit("-", 2)
    if len(parts) < 3 or not parts[1].isdecimal():
        return False  # some other program's
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=1)
def code_hash() -> str:
    """A hash of the source that computes stages: a changed program does not reuse old ones."""
    package = pathlib.Path(__file__).parent
    sources: list[pathlib.Path] = []
    for room in _ROOMS:
        place = package / room
        sources += [place] if place.is_file() else place.rglob("*.py")
    whole = hashlib.sha256()
    for source in sorted(sources):
        whole.update(source.relative_to(package).as_posix().encode() + b"\0")
        whole.update(source.read_bytes())
    return whole.hexdigest()[:12]


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
        return f"{self.kind}-{self.label.replace('/', '-')}-{digest(self._everything)}"

    @property
    def folder(self) -> pathlib.Path:
        """Where the result is, or will be."""
        return self.root / "stages" / self.id

    @property
    def _everything(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "label": self.label,
            "code": code_hash(),
            "inputs": dict(self.inputs),
        }

    def run(self) -> pathlib.Path:
        """The finished folder; computed only if it is not there. `stage.json` holds the inputs."""
        # Told by one process, for on a network's file system the others may see it later.
        made = distributed.first(lambda: _begin(self.folder), f"begin {self.id}")
        if made is None:
            return self.folder
        partial = pathlib.Path(made)
        start = time.perf_counter()
        try:
            self.write(partial)
            seconds = round(time.perf_counter() - start, 3)
            everything = {**self._everything, "seconds": seconds}
            distributed.first(
                lambda: _finish(partial, self.folder, everything), f"finish {self.id}"
            )
        except BaseException:
            if distributed.is_first():
                shutil.rmtree(partial, ignore_errors=True)
            raise
        return self.folder

    def seconds(self) -> float:
        """How long the finished stage took, whenever that was."""
        return float(json.loads((self.folder / "stage.json").read_text())["seconds"])


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


def _begin(folder: pathlib.Path) -> str | None:
    """A new folder to fill; None if the stage is there."""
    if folder.is_dir():
        return None
    return tempfile.mkdtemp(prefix=f".{folder.name}-{os.getpid()}-", dir=folder.parent)


def _finish(partial: pathlib.Path, folder: pathlib.Path, everything: Any) -> None:
    write_json(partial / "stage.json", everything)
    partial.chmod(0o755)
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run finished the same stage first
            raise
        shutil.rmtree(partial)
