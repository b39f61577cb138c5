"""The command line of a study: flags, a config file, overrides by the settings' declarations."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxattack import jobs, trackers
from jaxattack.errors import UserError
from jaxattack.experiments import overrides as texts
from jaxattack.paths import expand

_USAGE = (
    "flags:",
    "  --config=FILE     a Python file with get_config(); FILE:WORD passes it a word",
    "  --config=NAME     one that comes with jaxattack ({}); NAME:WORD likewise",
    "  --config.NAME=X   another value of a setting; tuples as \"('a','b')\" or \"(0,1)\"",
    "  --workdir=DIR     results, report, finished stages",
    "  --jobs=N          N workers on this machine, each with its share of the devices",
    "  --share=I/N       compute the I-th of N shares of the steps, from 0; wait for others",
    "  --mirror=URL      a copy of them in an object store, from which a fresh disk goes on",
    "  --mirror_replies  let the mirror have the text of replies that the report shows",
    "  --save_minutes=10 between two saving points of a training; 0: none",
    "  --profile=DIR     a trace of a few training steps, for xprof or Perfetto",
    "  --track=NAMES     curves and results for tensorboard, wandb or both, joined by a comma",
    "  --dry_run         print what would be loaded, computed and written",
    "  --help            this; with --config the settings: value, meaning, unit, choices",
)
HELP = ("help", "helpfull", "helpshort", "h")
# Flags that have a value, and others.
VALUES = ("config", "workdir", "jobs", "share", "mirror", "save_minutes", "profile", "track")
SWITCHES = ("dry_run", "mirror_replies")
FLAGS = (*VALUES, *SWITCHES, *HELP)


class Flags(NamedTuple):
    """What a command line asks for."""

    config: str | None
    workdir: str | None
    jobs: int
    share: tuple[int, int] | None
    dry_run: bool
    wants_help: bool
    overrides: tuple[tuple[str, str | None], ...]  # dotted name, text
    mirror: str | None = None
    mirror_replies: bool = False
    save_minutes: float | None = None
    profile: str | None = None
    track: tuple[str, ...] = ()


def usage() -> list[str]:
    """What --help says of the flags."""
    there = ", ".join(shipped())
    return [line.format(there) if "{}" in line else line for line in _USAGE]


def read_flags(arguments: Sequence[str]) -> Flags:
    """Sort the arguments, those after the program's name.

    Raises:
        UserError: a flag that does not exist, or one without its value.
    """
    given: dict[str, str] = {}
    overrides: list[tuple[str, str | None]] = []
    switches = {**dict.fromkeys(SWITCHES, False), "help": not arguments}
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, has_value, value = argument.lstrip("-").partition("=")
        text: str | None = value if has_value else None
        if any("\ud800" <= char <= "\udfff" or char == "\0" for char in argument):
            raise UserError(
                f"{argument} is no text in this locale ({sys.getfilesystemencoding()}); set "
                "PYTHONUTF8=1"
            )
        if not argument.startswith("-") or not name:
            raise UserError(f"unexpected argument {argument!r}; flags look like --name=value")
        if name in HELP:
            switches["help"] = True
        elif (switch := name.removeprefix("no").replace("-", "_")) in SWITCHES:
            wanted = texts.parse(text, bool, switch)
            switches[switch] = wanted and not name.startswith("no")
        elif name.startswith("noconfig."):
            overrides.append((name.removeprefix("noconfig."), "False"))
        elif name in VALUES or name.startswith("config."):
            if text is None and left and not left[0].startswith("--"):
                text = left.pop(0)
            if name.startswith("config."):
                overrides.append((name.removeprefix("config."), text))
            elif not text:
                raise UserError(f"--{name} has no value; write --{name}=VALUE")
            else:
                given[name] = text
        else:
            close = difflib.get_close_matches(name, FLAGS, 1)
            known = f"did you mean --{close[0]}?" if close else "see jaxattack --help"
            raise UserError(f"unknown flag --{name}; {known}")
    return Flags(
        given.get("config"),
        given.get("workdir"),
        _jobs(given),
        _share(given),
        switches["dry_run"],
        switches["help"],
        tuple(overrides),
        given.get("mirror"),
        switches["mirror_replies"],
        _minutes(given.get("save_minutes")),
        given.get("profile"),
        _track(given.get("track")),
    )


def without(arguments: Sequence[str], name: str) -> list[str]:
    """The arguments, a flag with a value left out."""
    found, left = [], list(arguments)
    while left:
        argument = left.pop(0)
        given, has_value, _ = argument.lstrip("-").partition("=")
        if given != name or not argument.startswith("-"):
            found.append(argument)
        elif not has_value:
            left.pop(0)
    return found


def _jobs(given: Mapping[str, str]) -> int:
    text = given.get("jobs", "1")
    if not (text.isdecimal() and 1 <= int(text) <= jobs.MOST):
        raise UserError(f"--jobs={text}: say how many workers, from 1 to {jobs.MOST}")
    if int(text) > 1 and "share" in given:
        raise UserError("--jobs and --share are both set; a share is one worker's")
    return int(text)


def _share(given: Mapping[str, str]) -> tuple[int, int] | None:
    if "share" not in given:
        return None
    index, _, count = given["share"].partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count) <= jobs.MOST):
        raise UserError(
            f"--share={given['share']}: write I/N, the I-th of N shares from 0: 0/3, 1/3 or 2/3"
        )
    return int(index), int(count)


def _minutes(text: str | None) -> float | None:
    if text is None:
        return None
    minutes = texts.parse(text, float, "save_minutes")
    if not 0 <= minutes < float("inf"):
        raise UserError(f"--save_minutes={text}: give minutes, or 0 for no saving points")
    return minutes


def _track(text: str | None) -> tuple[str, ...]:
    names = () if text is None else tuple(dict.fromkeys(n.strip() for n in text.split(",")))
    for name in names:
        if name not in trackers.TRACKERS:
            there = ", ".join(trackers.TRACKERS)
            raise UserError(f"--track={text}: no tracker {name!r}; there are: {there}")
    return names


def shipped() -> dict[str, pathlib.Path]:
    """The config files that come with the package, by name.

    They are installed beside the code; in a checkout they are in `configs/` at its top.
    """
    package = pathlib.Path(__file__).parent
    places = (package / "configs", package.parent / "configs")
    folder = next((place for place in places if place.is_dir()), places[0])
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def find_config(named: str) -> tuple[pathlib.Path, str | None]:
    """The file that `--config=named` means, and the word behind its `:`, if there is one.

    A file of that name comes before one that is shipped.

    Raises:
        UserError: there is neither.
    """
    path, name, word = expand(named, f"--config={named}"), named, None
    if not path.exists() and ":" in named:
        name, _, word = named.partition(":")
        path = expand(name, f"--config={named}")
    if not path.exists() or path.is_dir():
        path = shipped().get(name, path)
    if path.is_dir():
        raise UserError(f"--config={named}: a directory; name a Python file with get_config()")
    if not path.exists():
        there = ", ".join(shipped())
        raise UserError(f"--config={named}: no such file; without a path there are: {there}")
    return path, word


def load_config(named: str) -> ConfigDict:
    """What `get_config` of a file returns; `FILE:WORD` passes it a word.

    Raises:
        UserError: no such file, it fails, or it returns no ConfigDict.
    """
    path, word = find_config(named)
    try:
        spec = importlib.util.spec_from_loader("jaxattack_config", None)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(path)
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise UserError(f"--config={named}: the file fails: {_reason(error, path)}") from error
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(f"--config={named}: the file has no function get_config()")
    if word is not None and not inspect.signature(get_config).parameters:
        raise UserError(f"--config={named}: its get_config() takes no word; leave out :{word}")
    try:
        config = get_config() if word is None else get_config(word)
    except (Exception, SystemExit) as error:
        raise UserError(f"--config={named}: get_config() fails: {_reason(error, path)}") from error
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise UserError(f"--config={named}: get_config() returns {kind}; it should be a ConfigDict")
    return config


def _reason(error: BaseException, path: pathlib.Path) -> str:
    """An error in a line, with the line of the file it came from."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    where = f"line {line}: " if line else ""
    return f"{where}{type(error).__name__}: {' '.join(said.split())}"


def resolve(flags: Flags, kinds: Mapping[str, type]) -> tuple[ConfigDict, type]:
    """The config with its overrides, and the dataclass that declares its settings.

    Raises:
        UserError: as `load_config`; an unknown study, a setting that does not exist, or a text
            that is no value of it.
    """
    if flags.config is None:
        raise UserError("--config=FILE is missing, for example --config=quickstart")
    config = load_config(flags.config)
    named = [text for path, text in flags.overrides if path == "study"] or [config.get("study")]
    if named[-1] not in kinds:
        there = ", ".join(kinds)
        raise UserError(f"config.study is {named[-1]!r}; there are: {there}")
    kind = kinds[str(named[-1])]
    for path, text in flags.overrides:
        if path != "study" or config.get("study") != text:
            texts.override(config, kind, path, text)
    return config, kind
