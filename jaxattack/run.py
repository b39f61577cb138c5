"""Run a study: a config file, overrides, a work directory.

    jaxattack --config=configs/quickstart.py --workdir=runs/quickstart
    jaxattack --config=configs/quickstart.py --workdir=runs/two \
        --config.attack.languages="('en','th')" --config.seeds="(0,1,2)"

Finished stages are kept in the work directory: the same command goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from ml_collections import ConfigDict

from jaxattack import commandline, distributed, host, report, workdir
from jaxattack.errors import UserError
from jaxattack.experiments import declared, fragility, organism
from jaxattack.experiments.backdoor import study as backdoor

PACKAGES = ("jaxattack", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
            "safetensors", "tokenizers", "transformers")  # fmt: skip

# Programs with `read`, `source_lines`, `plan_lines`, `prepare` and `run`.
STUDIES: dict[Any, Any] = {"fragility": fragility, "backdoor": backdoor}
KINDS = {name: program.Settings for name, program in STUDIES.items()}
KINDS["organism"] = organism.Settings


def main() -> None:
    """Entry point of the `jaxattack` command."""
    code = 1
    try:
        code = run(sys.argv)
    finally:
        if code:
            distributed.leave(code)
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv`; returns the exit code (2 for a mistake of the user's)."""
    try:
        flags = commandline.read_flags(argv[1:])
        if flags.wants_help:
            print(help_text(flags))
            return 0
        config, _ = commandline.resolve(flags, KINDS)
        if not flags.workdir:
            raise UserError("--workdir=DIR is missing, for example --workdir=runs/quickstart")
        if flags.dry_run:
            print(plan(config, pathlib.Path(flags.workdir).expanduser()))
            return 0
        report = study(config, workdir.open_workdir(flags.workdir))
    except UserError as error:
        print(f"jaxattack: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\njaxattack: interrupted; finished stages are kept, the same command goes on from "
            "there",
            file=sys.stderr,
        )
        return 130
    if distributed.is_first():
        print(f"report: {report}")
    return 0


def help_text(flags: commandline.Flags) -> str:
    """What --help prints: usage, and the settings of the config file if one was given.

    Raises:
        UserError: as `commandline.resolve`.
    """
    lines = [__doc__ or "", *commandline.USAGE, ""]
    if flags.config is None:
        lines.append("Add --config=FILE to list its settings.")
    else:
        lines.append("settings and their values (tuples are written in quotes):")
        lines += declared.help_lines(*commandline.resolve(flags, KINDS))
    return "\n".join(lines)


def plan(config: ConfigDict, root: pathlib.Path) -> str:
    """What a study would load, compute and write.

    Raises:
        UserError: see `experiments`.
    """
    program = STUDIES.get(config.get("study"))
    if program is None:
        raise UserError(f"--dry_run: not for config.study={config.get('study')!r}")
    settings = program.read(config)
    show_terms(program, settings)
    with quiet_libraries():
        return "\n".join(program.plan_lines(settings, root))


def show_terms(program: Any, settings: Any) -> None:
    """Say on what terms public data are had, before any is loaded."""
    if distributed.is_first():
        for line in program.source_lines(settings, public_only=True):
            print(line, file=sys.stderr)


def study(config: ConfigDict, root: pathlib.Path) -> pathlib.Path:
    """Run the study that a config describes; returns the path of its report.

    Raises:
        UserError: see `experiments`.
    """
    host.keep_freed_memory()
    resolved = json.loads(json.dumps(config.to_dict()))
    if config.get("study") == "organism":
        distributed.initialize()
        if distributed.several():
            raise UserError("config.study=organism: the organism is built by one process")
        return organism.main(config, root)
    program = STUDIES.get(config.get("study"))
    if program is None:
        there = ", ".join((*STUDIES, "organism"))
        raise UserError(f"config.study is {config.get('study')!r}; there are: {there}")
    settings = program.read(config)
    distributed.initialize()
    start = time.time()
    show_terms(program, settings)
    with quiet_libraries():
        setup, facts = program.prepare(settings, root)
        manifest = {**facts, "seeds": list(settings.seeds), **environment()}
        workdir.write_json(root / "config.json", resolved)
        workdir.write_json(root / "manifest.json", {**manifest, "finished": False})
        results, times = program.run(setup)
        manifest |= {"finished": True, "wall_seconds": round(time.time() - start, 1)}
        manifest |= times
        workdir.write_json(root / "results.json", results)
        workdir.write_json(root / "manifest.json", manifest)
        return pathlib.Path(
            distributed.first(
                # Times are no result: they differ between runs that find the same.
                lambda: str(report.write_report(root, results | times, manifest, resolved)),
                "report",
            )
        )


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


def environment() -> dict[str, Any]:
    """Versions, the commit this code is from, and how XLA was told to run."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "versions": versions,
        "python": sys.version.split()[0],
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "code": workdir.code_hash(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the package's own checkout; None where there is none."""
    here = pathlib.Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    main()
