"""From a config to a report: the studies there are, their plans, one run of one of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from ml_collections import ConfigDict

from jaxattack import (
    commandline,
    distributed,
    mirror,
    ours,
    provenance,
    report,
    sums,
    trackers,
    workdir,
)
from jaxattack.errors import UserError, printable
from jaxattack.experiments import declared, inputs, logbook, tracking
from jaxattack.experiments.agenda import Outcome, Share
from jaxattack.experiments.backdoor import study as backdoor
from jaxattack.experiments.cell import COLUMNS, trial_columns
from jaxattack.experiments.durability import study as durability
from jaxattack.experiments.fragility import study as fragility
from jaxattack.experiments.grow import settings as grow_settings
from jaxattack.experiments.grow import study as grow
from jaxattack.experiments.organism import study as organism
from jaxattack.experiments.settings import Study
from jaxattack.report.table import parquet


@dataclasses.dataclass(frozen=True)
class Program:
    """A study: what a command needs of it.

    Attributes:
        settings: the dataclass that declares them.
        read: checks a config and freezes it.
        plan_lines: what `--dry_run` prints.
        prepare: loads model and data; also what the manifest says of them.
        run: runs all stages, or a share of them.
        package: where its page lies.
    """

    settings: type
    read: Callable[[Mapping[str, Any]], Any]
    plan_lines: Callable[[Any, pathlib.Path], list[str]]
    prepare: Callable[[Any, pathlib.Path], tuple[Any, dict[str, Any]]]
    run: Callable[[Any, Share | None], Outcome]
    package: str


STUDIES = {
    "fragility": Program(
        fragility.Settings,
        fragility.read,
        fragility.plan_lines,
        fragility.prepare,
        fragility.run,
        "jaxattack.experiments.fragility",
    ),
    "backdoor": Program(
        backdoor.Settings,
        backdoor.read,
        backdoor.plan_lines,
        backdoor.prepare,
        backdoor.run,
        "jaxattack.experiments.backdoor",
    ),
    "durability": Program(
        durability.Settings,
        durability.read,
        durability.plan_lines,
        durability.prepare,
        durability.run,
        "jaxattack.experiments.durability",
    ),
}


@dataclasses.dataclass(frozen=True)
class Build:
    """What makes checkpoints, and no report.

    Attributes:
        settings: the dataclass that declares them.
        read: checks a config and freezes it.
        plan_lines: what `--dry_run` prints.
        main: makes them; returns where the acceptance table is.
    """

    settings: type
    read: Callable[[Mapping[str, Any]], Any]
    plan_lines: Callable[[Any, pathlib.Path], list[str]]
    main: Callable[[Any, pathlib.Path], pathlib.Path]


BUILDS = {
    "organism": Build(organism.Settings, organism.read, organism.plan_lines, organism.main),
    "grow": Build(grow_settings.Settings, grow_settings.read, grow.plan_lines, grow.main),
}
PROGRAMS: dict[str, Program | Build] = {**STUDIES, **BUILDS}
KINDS: dict[str, type] = {name: program.settings for name, program in PROGRAMS.items()}


def settings_help(flags: commandline.Flags) -> list[str]:
    """A line for each setting of the config file.

    Raises:
        UserError: as `commandline.resolve`.
    """
    return declared.help_lines(*commandline.resolve(flags, KINDS))


def plan(
    config: ConfigDict,
    root: pathlib.Path,
    mirror_url: str | None = None,
    track: Sequence[str] = (),
) -> list[str]:
    """What a study would load, compute and write, in lines; what it would send goes to stderr.

    What only the mirror has counts as not done. The arguments are those of `study`.

    Raises:
        UserError: whatever the run itself would refuse before its first step.
    """
    program = PROGRAMS[config.study]
    settings = program.read(config)
    workdir.check_place(root)
    ours.claim(root, config.study)
    distributed.check_environment()
    distributed.check_devices()
    show_terms(settings, mirror_url, track)
    with quiet_libraries():
        return program.plan_lines(settings, root)


def study(
    config: ConfigDict,
    path: str,
    share: Share | None = None,
    mirror_url: str | None = None,
    track: Sequence[str] = (),
) -> pathlib.Path:
    """Run the study that a config describes; returns the path of its report.

    Args:
        config: the study, and its settings.
        path: the work directory.
        share: what of the stages is computed here, others being waited for; None: what no other
            run computes.
        mirror_url: of a store that has a copy of the stages (see `mirror`); None: none.
        track: names of trackers that hear how it goes (see `trackers`).

    Raises:
        UserError: see `experiments`, `mirror` and `trackers`.
    """
    program = PROGRAMS[config.study]
    settings = program.read(config)
    if share is not None and isinstance(program, Build):
        raise UserError(f"--share: config.study={config.study} has no shares; leave it out")
    distributed.initialize()
    root = workdir.open_workdir(path)
    ours.claim(root, config.study)
    show_terms(settings, mirror_url, track)
    with (
        mirror.opened(mirror_url, config.study),
        logbook.opened(root),
        tracking.opened(track, root, config.to_dict()),
    ):
        shown = _study(config, settings, root, share)
        distributed.first(lambda: mirror.push_files(root, ours.files(root, shown)), "mirror")
    return shown


def _study(
    config: ConfigDict, settings: Any, root: pathlib.Path, share: Share | None
) -> pathlib.Path:
    start = time.time()
    resolved = json.loads(json.dumps(config.to_dict()))
    program = PROGRAMS[config.study]
    if isinstance(program, Build):
        with quiet_libraries():
            accepted = program.main(settings, root)
        manifest = {"study": config.study, "finished": True, **provenance.environment()}
        workdir.write_json(root / "manifest.json", manifest)
        workdir.write_json(root / "config.json", resolved)
        return accepted
    with quiet_libraries():
        setup, facts = program.prepare(settings, root)
        manifest = {
            "study": config.study,
            "seeds": list(settings.seeds),
            "finished": False,
            **facts,
            **provenance.environment(),
        }
        workdir.write_json(root / "manifest.json", manifest)
        workdir.write_json(root / "config.json", resolved)
        found = program.run(setup, share)
        results, times = found.results, found.times
        manifest |= {"finished": True, "wall_seconds": round(time.time() - start, 1), **times}
        shows = bool(results.get("replies"))  # to the owner alone
        workdir.write_text(root / "results.json", sums.render(results), private=shows)
        for name, rows, columns in (
            ("results", results["rows"], COLUMNS),
            ("trials", found.trials, trial_columns(found.trials)),
        ):
            workdir.write_bytes(root / f"{name}.parquet", parquet(rows, columns))
        workdir.write_json(root / "manifest.json", manifest)
        tracking.finish(results)
        page = resources.files(program.package) / "page.html.j2"
        return pathlib.Path(
            distributed.first(
                # Times are no result: they differ between runs that find the same.
                lambda: str(report.write_report(root, results | times, manifest, resolved, page)),
                "report",
            )
        )


def show_terms(settings: Any, mirror_url: str | None = None, track: Sequence[str] = ()) -> None:
    """Say on what terms public data are had, and what is sent where, before anything is loaded."""
    if not distributed.is_first():
        return
    lines: list[str] = []
    if isinstance(settings, Study):
        lines = [*inputs.source_lines(settings, public_only=True), *settings.leaving()]
    if mirror_url:
        lines.append(mirror.leaving(mirror_url))
    for line in (*lines, *trackers.sends(track)):
        print(printable(line), file=sys.stderr)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep libraries' chatter off the terminal; warnings still come through."""
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.WARNING)
    try:
        yield
    finally:
        logging.getLogger().setLevel(before)
