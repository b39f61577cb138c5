"""Where curves go: event files of TensorBoard, runs of Weights & Biases.

A tracker is given names and numbers, and the settings of a run; no text that was read or written.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxattack.errors import UserError

FLAG = "--track"
PROJECT = "jaxattack"  # of Weights & Biases, where WANDB_PROJECT names none
LOCAL = ("offline", "disabled", "dryrun")
MODES = ("online", *LOCAL, "shared", "run")  # that wandb knows
FINISHING = 30.0  # seconds that the last of it may take to be sent

Values = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Tracker:
    """Somewhere that keeps numbers.

    Attributes:
        name: of the tracker.
        point: keeps a point of a group of curves: the group, its step, values by their names.
        summary: keeps what a run found, by its names.
        close: nothing comes any more; whether all went well.
    """

    name: str
    point: Callable[[str, int, Values], None]
    summary: Callable[[Values], None]
    close: Callable[[bool], None]


def tensorboard(root: pathlib.Path, config: Mapping[str, Any]) -> Tracker:
    """Event files in `root/tensorboard/GROUP`, for `tensorboard --logdir root/tensorboard`.

    A file says where its curve begins, so that of a group that is written again, or goes on, the
    newest points are shown.

    Raises:
        UserError: something else is where they should be.
    """
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder, files = _folder(root, "tensorboard"), dict[str, io.FileIO]()

    def write(file: io.FileIO, **content: Any) -> None:
        record = io.BytesIO()  # in one piece
        event = event_pb2.Event(wall_time=time.time(), **content)
        RecordWriter(record).write(event.SerializeToString())
        file.write(record.getvalue())

    def begun(group: str, step: int) -> io.FileIO:
        check_folder(folder / group, "tensorboard")
        (folder / group).mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{os.getpid()}.jaxattack"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        file = io.FileIO(os.open(folder / group / name, flags, 0o644), "a")
        write(file, file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        write(file, step=step, session_log=start)
        return file

    def point(group: str, step: int, values: Values) -> None:
        if group not in files:
            _close(files)  # one training comes after the other
            files[group] = begun(group, step)
        found = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        write(files[group], step=step, summary=summary_pb2.Summary(value=found))

    return Tracker(
        "tensorboard", point, lambda values: point("results", 0, values), lambda _: _close(files)
    )


def _close(files: dict[str, io.FileIO]) -> None:
    while files:
        files.popitem()[1].close()


def wandb(root: pathlib.Path, config: Mapping[str, Any]) -> Tracker:
    """A run of Weights & Biases; project, name, mode and key are its own environment's.

    What it would add by itself (terminal, command line, code, host, machine) is turned off.

    Raises:
        UserError: no run can be begun, or something else is where its files should be.
    """
    import wandb as library

    _folder(root, "wandb")
    private = library.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        finish_timeout=FINISHING,
        host="",
        quiet=True,
        save_code=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    try:
        run = library.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            group=os.environ.get("WANDB_RUN_GROUP") or root.resolve().name,
            dir=os.environ.get("WANDB_DIR") or str(root),
            config=dict(config),
            settings=private,
        )
    except Exception as error:
        raise UserError(
            f"{FLAG}=wandb: no run can be begun ({str(error) or type(error).__name__}); log in "
            "(`wandb login`, or WANDB_API_KEY), or set WANDB_MODE=offline"
        ) from error
    known: set[str] = set()

    def point(group: str, step: int, values: Values) -> None:
        if group not in known:
            run.define_metric(f"{group}/step", hidden=True)
            run.define_metric(f"{group}/*", step_metric=f"{group}/step")
            known.add(group)
        run.log({f"{group}/step": step, **{f"{group}/{name}": x for name, x in values.items()}})

    def close(well: bool) -> None:
        run.finish(exit_code=0 if well else 1)

    return Tracker("wandb", point, lambda values: run.summary.update(dict(values)), close)


def sends(names: Iterable[str]) -> list[str]:
    """What leaves this machine, and for where, in a line; none if nothing does."""
    local = os.environ.get("WANDB_MODE") in LOCAL
    said = "sent       settings, names of stages, losses, speeds and rates to Weights & Biases"
    return [said] if "wandb" in names and not local else []


# By their names; the package that each needs is an extra of that name.
TRACKERS: dict[str, Callable[[pathlib.Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
}


def check(names: Iterable[str], root: pathlib.Path) -> None:
    """See that some trackers could be told of a run in the work directory `root`.

    Raises:
        UserError: a package is missing, something is where files should be, or the environment
            names a mode that there is not.
    """
    for name in names:
        _folder(root, name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name is no package
            raise UserError(
                f'{FLAG}={name}: its package is missing: pip install "jaxattack[{name}]"'
            )
    mode = os.environ.get("WANDB_MODE") or MODES[0]
    if "wandb" in names and mode not in MODES:
        raise UserError(f"WANDB_MODE={mode}: there are: {', '.join(MODES)}")


def slug(text: str) -> str:
    """A text as a name of a group or a curve: a folder, and one part of a path."""
    return re.sub(r"[^\w.+@=-]+", "-", text)[:120].strip("-.") or "-"


def _folder(root: pathlib.Path, name: str) -> pathlib.Path:
    """A folder of the work directory, perhaps not yet made.

    Raises:
        UserError: something else is there.
    """
    folder = root / name
    check_folder(folder, name)
    return folder


def check_folder(folder: pathlib.Path, name: str) -> None:
    """See that files may be put into a folder, which perhaps is not yet there.

    Raises:
        UserError: it is a link, or something else.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder of {name}'s files; move it away")
