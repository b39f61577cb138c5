"""Run a study: a config file, overrides, a work directory.

    jaxattack --config=quickstart --workdir=runs/quickstart
    jaxattack --config=quickstart --workdir=runs/two \\
        --config.attack.languages="('en','th')" --config.seeds="(0,1,2)"
    jaxattack --config=quickstart --workdir=runs/quickstart --jobs=4

Finished stages are kept in the work directory: the same command goes on where it was stopped. It
may be started any number of times, on any machines that share the directory: each computes what no
other does.
"""

# Nothing heavy is imported here: who interrupts the program while it loads gets a line too.
from __future__ import annotations

import contextlib
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from jaxattack import host
from jaxattack.errors import UserError, printable, system_error
from jaxattack.paths import expand
from jaxattack.signals import KEPT, end_with_parent, exit_code, loading, stopped_by_sigterm


def main() -> None:
    """Entry point of the `jaxattack` command."""
    host.ask_for_huge_pages()
    end_with_parent()
    for stream in (sys.stdout, sys.stderr):  # terminals that cannot show every letter
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with loading():
        from jaxattack import distributed
    code = 1
    try:
        code = run(sys.argv)
    finally:
        if code:
            distributed.leave(code)
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv`; returns the exit code (2 for a mistake of the user's)."""
    return exit_code("jaxattack", KEPT, lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    with loading():
        from jaxattack import commandline, distributed, meter, savepoint, studies, trackers
    with stopped_by_sigterm(distributed.several):
        flags = commandline.read_flags(argv[1:])
        if flags.wants_help:
            print((__doc__ or "").strip(), "", *commandline.usage(), "", sep="\n")
            print(*map(printable, settings_of(flags)), sep="\n", flush=True)
            return 0
        config, _ = commandline.resolve(flags, studies.KINDS)
        if not flags.workdir:
            raise UserError("--workdir=DIR is missing, for example --workdir=runs/quickstart")
        try:
            check_mirror(flags, config)
            root = workdir_path(flags.workdir)
            trackers.check(flags.track, root)
            traced = profile_path(flags.profile) if flags.profile else None
            if flags.dry_run:
                with savepoint.every(flags.save_minutes):
                    lines = studies.plan(config, root, flags.mirror, flags.track)
                print(*map(printable, lines), sep="\n", flush=True)
                return 0
            if flags.jobs > 1:
                return with_workers(argv[1:], flags, config)
            with savepoint.every(flags.save_minutes), meter.profiling(traced):
                report = studies.study(
                    config, flags.workdir, flags.share, flags.mirror, flags.track
                )
        except Exception as error:  # what the system refuses it refuses there
            reason = None if isinstance(error, UserError) else system_error(error)
            if reason is None:
                raise
            raise UserError(f"{flags.workdir}: {reason}") from error
        if distributed.is_first():
            print(printable(f"report: {report}"), flush=True)
        return 0


def with_workers(arguments: Sequence[str], flags: Any, config: Any) -> int:
    """Let several processes run the command, each without `--jobs`; see `jobs.run`.

    Raises:
        UserError: what every one of them would refuse at once.
    """
    from jaxattack import commandline, distributed, jobs, ours, studies, workdir

    if distributed.check_environment()[0]:
        raise UserError(
            f"--jobs={flags.jobs} and {distributed.SWITCH}=1 are both set; workers of --jobs are "
            "programs of their own, processes of the other are one program"
        )
    studies.show_terms(studies.PROGRAMS[config.study].read(config), flags.mirror, flags.track)
    root = workdir.open_workdir(flags.workdir)
    ours.claim(root, config.study)
    return jobs.run(commandline.without(arguments, "jobs"), flags.jobs, root)


def settings_of(flags: Any) -> list[str]:
    """What --help says of the settings, if a config file was given."""
    from jaxattack import studies

    if flags.config is None:
        return ["Add --config=FILE to list its settings."]
    return ["settings and their values (tuples in quotes):", *studies.settings_help(flags)]


def check_mirror(flags: Any, config: Any) -> None:
    """See that a mirror could be kept, and that it may have what the study shows.

    Raises:
        UserError: it could not, or may not.
    """
    from jaxattack import mirror

    if flags.mirror is None:
        return
    mirror.check(flags.mirror, config.study, workdir_path(flags.workdir))
    if config.get("report", {}).get("replies") and not flags.mirror_replies:
        raise UserError(
            f"--mirror={flags.mirror}: config.report.replies shows the text of replies to you "
            "alone, and a store has readers of its own; allow it by --mirror_replies, or leave the "
            "text out"
        )


def profile_path(named: str) -> pathlib.Path:
    """Where traces go, a folder that need not be there.

    Raises:
        UserError: something else is.
    """
    path = expand(named, "--profile")
    place = path.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UserError(f"--profile={named}: {place} is not a directory")
    return path


def workdir_path(path: str) -> pathlib.Path:
    """The work directory, not yet made.

    Raises:
        UserError: `~` of nobody.
    """
    return expand(path, f"--workdir={path}")


if __name__ == "__main__":
    main()
