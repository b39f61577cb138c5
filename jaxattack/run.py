"""Run a study: a config file, overrides, a work directory.

    jaxattack --config=configs/quickstart.py --workdir=runs/quickstart
    jaxattack --config=configs/quickstart.py --workdir=runs/two \\
        --config.attack.languages="('en','th')" --config.seeds="(0,1,2)"

Finished stages are kept in the work directory: the same command goes on where it was stopped.
"""

# Nothing heavy is imported here: who interrupts the program while it loads gets a line too.
from __future__ import annotations

import contextlib
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

from jaxattack.errors import UserError, printable, system_error
from jaxattack.paths import expand
from jaxattack.signals import INTERRUPTED, Terminated, loading, silence, stopped_by_sigterm


def main() -> None:
    """Entry point of the `jaxattack` command."""
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
    path = None
    try:
        with loading():
            from jaxattack import commandline, distributed, studies
        with stopped_by_sigterm(distributed.several):
            flags = commandline.read_flags(argv[1:])
            if flags.wants_help:
                print((__doc__ or "").strip(), "", *commandline.USAGE, "", sep="\n")
                print(*map(printable, settings_of(flags)), sep="\n", flush=True)
                return 0
            config, _ = commandline.resolve(flags, studies.KINDS)
            if not flags.workdir:
                raise UserError("--workdir=DIR is missing, for example --workdir=runs/quickstart")
            path = flags.workdir
            if flags.dry_run:
                lines = studies.plan(config, workdir_path(path))
                print(*map(printable, lines), sep="\n", flush=True)
                return 0
            report = studies.study(config, path)
            if distributed.is_first():
                print(printable(f"report: {report}"), flush=True)
            return 0
    except UserError as error:
        print(f"jaxattack: {error}", file=sys.stderr)
        return 2
    except Terminated:
        print(INTERRUPTED.replace("interrupted", "stopped"), file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print(f"\n{INTERRUPTED}", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `| head`: nobody reads what would be printed
        silence()
        return 128 + signal.SIGPIPE
    except Exception as error:
        reason = system_error(error)
        if reason is None:
            raise
        at = printable(f"{path}: ") if path else ""
        print(f"jaxattack: {at}{reason}", file=sys.stderr)
        return 2


def settings_of(flags: Any) -> list[str]:
    """What --help says of the settings, if a config file was given."""
    from jaxattack import studies

    if flags.config is None:
        return ["Add --config=FILE to list its settings."]
    return ["settings and their values (tuples in quotes):", *studies.settings_help(flags)]


def workdir_path(path: str) -> pathlib.Path:
    """The work directory, not yet made.

    Raises:
        UserError: `~` of nobody.
    """
    return expand(path, f"--workdir={path}")


if __name__ == "__main__":
    main()
