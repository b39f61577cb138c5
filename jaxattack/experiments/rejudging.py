"""Other judges for a finished run: its settings, and what would be computed beside judgements.

A run is known by its config.json, and its steps by their names: so it is known, before a weight is
loaded, which of them are there and which would be computed anew.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxattack import distributed, provenance, sums, workdir
from jaxattack.errors import UserError
from jaxattack.experiments import moderating, overrides, runs, served
from jaxattack.experiments.declared import config_of
from jaxattack.experiments.moderators import judge_name
from jaxattack.report.page import flat
from jaxattack.stages import Stage

# Kinds of stages that judge: all others are there in a finished run that kept its replies.
JUDGING = ("judge", moderating.KIND, moderating.WEIGHED, "judge_errors")
_FILES = ("manifest.json", "config.json")  # that a run writes when it begins


def config_of_run(
    root: pathlib.Path, kinds: Mapping[str, type], given: Mapping[str, str]
) -> ConfigDict:
    """The settings of a finished run, with other ones of `measure`.

    Args:
        root: the work directory.
        kinds: studies that take other judges -> the dataclass that declares their settings; what is
            newer than the run has its default.
        given: names in `measure` -> texts. Judge models come beside those that are there; one of
            the same name takes the place of the other.

    Raises:
        UserError: the run was never finished, is of another study or kept no replies, or a text is
            no value.
    """
    _check_finished(root)
    told = workdir.read_object(root / "config.json")
    if told.get("study") not in kinds:
        raise UserError(
            f"{root}: it holds the study {told.get('study')!r}; only {' and '.join(kinds)} take "
            "other judges afterwards"
        )
    kind = kinds[told["study"]]
    if told.get("replies") != "keep":
        raise UserError(
            f"{root}: the run kept no replies (config.replies={told.get('replies')}), so there is "
            "nothing to judge; run it with --config.replies=keep"
        )
    config = config_of(kind())
    _fill(config, told)
    before = tuple(config.measure.moderators)
    for name, text in given.items():
        overrides.override(config, kind, f"measure.{name}", text)
    if "moderators" in given:
        added = tuple(config.measure.moderators)
        names = {judge_name(named) for named in added}
        kept = tuple(named for named in before if judge_name(named) not in names)
        with config.measure.unlocked():
            config.measure.moderators = (*kept, *added)
            if served.endpoints(added) and "send_replies" not in given:
                config.measure.send_replies = False  # what was allowed was for another endpoint
    return config


def _check_finished(root: pathlib.Path) -> None:
    """Refuse a run without results; one whose judging was stopped has those of before."""
    manifest = workdir.read_object(root / "manifest.json")
    if manifest.get("finished") is not False or not (root / "results.json").is_file():
        runs.read(root)


def _fill(config: ConfigDict, told: Mapping[str, Any]) -> None:
    """Set what a config.json says."""
    for name, value in told.items():
        if isinstance(value, Mapping) and isinstance(config.get(name), ConfigDict):
            _fill(config[name], value)
        else:
            with config.unlocked(), config.ignore_type():
                config[name] = tuple(value) if isinstance(value, list) else value


def check(root: pathlib.Path, stages: Sequence[Stage]) -> None:
    """Refuse if anything but judgements would be computed.

    Args:
        root: the work directory.
        stages: all of the study.

    Raises:
        UserError: says what, and why the first of it.
    """
    wrong = distributed.first(lambda: _anew(root, stages), "what is there")
    if wrong:
        raise UserError(f"{root}: {wrong}")


def _anew(root: pathlib.Path, stages: Sequence[Stage]) -> str:
    """What would be computed beside judgements, and what to do, on a line; "" for nothing."""
    needed = [stage for stage in stages if stage.kind not in JUDGING]
    absent = [stage for stage in needed if not stage.folder.is_dir()]
    # All that is there is read: what is damaged would be computed anew too.
    damaged = {
        stage.id: wrong
        for stage in needed
        if stage.folder.is_dir() and (wrong := sums.damage(stage.folder, {}))
    }
    lost = [stage for stage in needed if stage in absent or stage.id in damaged]
    if not lost:
        return ""
    counts = collections.Counter(stage.kind for stage in lost)
    what = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if not workdir.read_object(root / "manifest.json").get("finished"):
        return f"the run is not finished ({what} are not there); {runs.AGAIN}"
    first = lost[0]
    why = damaged.get(first.id) or _why(first)
    return (
        f"not only judgements would be computed, but {what}, because of {first.kind} "
        f"{first.label}: {why}; allow it, --recompute, or judge with the code, libraries, devices "
        "and data that it was run with"
    )


def _why(stage: Stage) -> str:
    """What of a stage's name is other than of the stage of that kind and label that is there."""
    pattern = f"{glob.escape(stage.id.rpartition('-')[0])}-*/{sums.RECORD}"
    records = [workdir.read_object(path) for path in (stage.root / "stages").glob(pattern)]
    now = _named(stage.inputs, provenance.identity())
    then = [_named(one.get("inputs"), one.get("computed_by")) for one in records]
    if not then:
        return "it was not computed"
    # Of several, the one most like it.
    other = min(
        (sorted(n for n in now.keys() | one.keys() if now.get(n) != one.get(n)) for one in then),
        key=len,
    )
    more = f" and {len(other) - 3} more" if len(other) > 3 else ""
    return f"{', '.join(other[:3])}{more} changed"


def _named(inputs: Any, computed_by: Any) -> dict[str, str]:
    """What decides a stage, by dotted names."""
    return dict(flat({"inputs": inputs, "computed_by": computed_by}))


@contextlib.contextmanager
def as_it_was(root: pathlib.Path) -> Iterator[None]:
    """Let a run that is judged anew, and not to the end, stay the finished one it was.

    Its manifest and config are put back, unless its results are other ones already.
    """
    before = {name: (root / name).read_bytes() for name in _FILES}
    results = (root / "results.json").stat().st_mtime_ns
    try:
        yield
    except BaseException:
        if (root / "results.json").stat().st_mtime_ns == results:
            for name, content in before.items():
                workdir.write_bytes(root / name, content)
        raise
