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

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxattack import distributed, host, report, workdir
from jaxattack.errors import UserError
from jaxattack.experiments import fragility, organism
from jaxattack.experiments.backdoor import study as backdoor

PACKAGES = ("jaxattack", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
            "safetensors", "tokenizers", "transformers")  # fmt: skip

# Programs with `read`, `source_lines`, `plan_lines`, `prepare` and `run`.
STUDIES: dict[Any, Any] = {"fragility": fragility, "backdoor": backdoor}

HELP = ("--help", "-h", "--helpfull")


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
        config, root, dry_run = parse(argv)
        if config is None:
            return 0
        if dry_run:
            print(plan(config, pathlib.Path(root).expanduser()))
            return 0
        report = study(config, workdir.open_workdir(root))
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


def parse(argv: Sequence[str]) -> tuple[ConfigDict | None, str, bool]:
    """The resolved config, the work directory, and whether only the plan is asked for.

    No config if help was asked for.

    Raises:
        UserError: a flag or config key that does not exist, or a value of the wrong type.
    """
    wants_help = len(argv) < 2 or any(arg in HELP for arg in argv[1:])
    arguments = [arg for arg in argv if arg not in HELP]
    values = flags.FlagValues()
    config_flag = config_flags.DEFINE_config_file(
        "config", None, "Config file of the study.", flag_values=values, sys_argv=arguments
    )
    workdir_flag = flags.DEFINE_string(
        "workdir", None, "Directory for results, report and finished stages.", flag_values=values
    )
    dry_run_flag = flags.DEFINE_boolean(
        "dry_run", False, "Print what would be loaded, computed and written.", flag_values=values
    )
    try:
        rest = values(arguments)
    except FileNotFoundError as error:
        raise UserError(f"--config: no such file {error.filename or error}") from error
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise UserError(f"{reason}; see jaxattack --help") from error
    except (OSError, ImportError, SyntaxError) as error:
        raise UserError(f"--config: {error}") from error
    if wants_help:
        print(help_text(config_flag.value))
        return None, "", False
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}; flags look like --name=value")
    if config_flag.value is None:
        raise UserError("--config=FILE is missing, for example --config=configs/quickstart.py")
    if not isinstance(config_flag.value, ConfigDict):  # it keeps what went wrong to itself
        path = next(arg for arg in arguments if arg.startswith("--config"))
        raise UserError(f"{path}: the file is missing or get_config() failed")
    if not workdir_flag.value:
        raise UserError("--workdir=DIR is missing, for example --workdir=runs/quickstart")
    return config_flag.value, workdir_flag.value, dry_run_flag.value


def help_text(config: ConfigDict | None) -> str:
    """What --help prints: usage, and the settings of the config file if one was given."""
    lines = [__doc__ or "", "flags:", "  --config=FILE     a Python file with get_config()"]
    lines += ["  --workdir=DIR     results, report, finished stages"]
    lines += ["  --dry_run         print what would be loaded, computed and written", ""]
    if config is None:
        lines.append("Add --config=FILE to list its settings.")
    else:
        lines.append("settings and their values (tuples are written in quotes):")
        lines += [f"  --{name}={value!r}" for name, value in _flatten("config", config)]
    return "\n".join(lines)


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, ConfigDict):
        for key in value:
            yield from _flatten(f"{name}.{key}", value[key])
    else:
        yield name, value


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
