"""What each defence of the durability study takes beside the tuning: seconds and memory.

    python -m benchmarks.defences [--config=FILE] [--defences=sil,lox] [--config.name=value ...]

FILE is a config of the durability study, by default `configs/durability.py`. Every defence is a
process of its own; the attack and what others share (the defender's gradients) are kept in a work
directory and not counted. Before a tuning: the hardened weights, or the mask that is held. In it:
the tuning, less a plain one. After it: the repair; once with what has to be compiled, once again.
Memory is the peak of the process less what it held when the study was open.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "durability.py"


def main() -> None:
    """Measure each and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defences", description=__doc__)
    parser.add_argument("--config", default=str(CONFIG))
    parser.add_argument("--defences", default="", help="names, with commas between them; all")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--workdir", type=pathlib.Path, help="kept; by default a temporary one")
    own, overrides = parser.parse_known_args()
    if own.one:
        print(json.dumps(measured(own.config, overrides, own.workdir, own.one)))
        return
    from jaxattack.experiments.durability.registry import DEFENCES

    names = own.defences.split(",") if own.defences else list(DEFENCES)
    unknown = [name for name in names if name not in DEFENCES]
    if unknown:
        parser.error(f"no defence {unknown[0]!r}; there are: {', '.join(DEFENCES)}")
    print(f"load before {os.getloadavg()[0]:.1f}; gradients that attacks share are not counted")
    print(f"{'defence':12}{'stage':8}{'first s':>9}{'again s':>9}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory(prefix="jaxattack-bench-") as scratch:
        workdir = own.workdir or pathlib.Path(scratch)
        plain = in_process(own.config, overrides, workdir, "undefended")
        for name in names:
            found = in_process(own.config, overrides, workdir, name)
            less = plain if DEFENCES[name].stage == "during" else {"first": 0.0, "again": 0.0}
            first, again = (found[key] - less[key] for key in ("first", "again"))
            print(
                f"{name:12}{DEFENCES[name].stage:8}{first:9.2f}{again:9.2f}{found['peak']:10.0f}",
                flush=True,
            )


def in_process(
    config: str, overrides: list[str], workdir: pathlib.Path, name: str
) -> dict[str, float]:
    """One defence, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.defences", f"--config={config}"]
    command += [f"--workdir={workdir}", f"--one={name}", *overrides]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(
    config: str, overrides: list[str], workdir: pathlib.Path, name: str
) -> dict[str, float]:
    """Seconds, with and without compiling, and MiB of a defence, or of the plain tuning."""
    from jaxattack import workdir as place
    from jaxattack.experiments import opening
    from jaxattack.experiments.durability import study
    from jaxattack.experiments.durability.attacks import attacked
    from jaxattack.experiments.durability.shield import Shield
    from jaxattack.experiments.durability.sweeping import made_by
    from jaxattack.experiments.step import steps_in

    settings = study.read(read_config(config, overrides))
    setup, _ = study.open_study(settings, place.open_workdir(str(workdir)), opening.loaded)
    seed = settings.seeds[0]
    plain, made = attacked(setup, "full", seed), made_by(setup, name, seed)
    assert plain is not None
    if made.repair is not None:
        step = made.repair(plain)
    elif made.shield.guard is not None or made.shield == Shield():
        guarded = attacked(setup, "full", seed, made.shield)
        assert guarded is not None
        step = guarded
    else:
        hardened = made.shield.start or made.shield.frozen
        assert hardened is not None
        step = hardened
    for part in steps_in(step.arguments):  # what it shares with others is computed before
        for stage in part.needs:
            stage.run()
    for part in step.arguments.get("parts", ()):
        jax.block_until_ready(setup.bench.values.of(part))
    held = peak()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        found = step.compute()
        jax.block_until_ready(getattr(found, "params", found))
        times.append(time.perf_counter() - start)
        del found
    return {"first": times[0], "again": times[1], "peak": peak() - held}


def read_config(path: str, overrides: list[str]) -> Any:
    """A config file with overrides, as the command line reads it."""
    from jaxattack import commandline, studies

    flags = commandline.read_flags([f"--config={path}", *overrides])
    return commandline.resolve(flags, studies.KINDS)[0]


def peak() -> float:
    """The most memory this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
