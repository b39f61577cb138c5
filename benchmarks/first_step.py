"""From a process's start to the end of its first training step, with compiled programs kept or not.

The step is that of quickstart's first attack, on the organism. A run keeps what was compiled for
the next one (`jaxattack.distributed.initialize`); here the next one has a work directory of its
own, so that nothing but those programs is kept.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.row import FailedError, Measured, Row, near


def started(cache: pathlib.Path) -> Measured:
    """Time a process of its own, which keeps compiled programs in `cache`."""
    environment = os.environ | {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "XDG_CACHE_HOME": str(cache),
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory(prefix="jaxattack-bench-") as work:
        command = [sys.executable, "-m", "benchmarks.first_step", work]
        start = time.time()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise FailedError(done.stderr[-3000:])
    said = json.loads(done.stdout.splitlines()[-1])
    kept = sum(1 for path in cache.rglob("*-cache"))
    losses = np.array([said["loss"]])
    return Measured(said["ended"] - start, {"losses": losses}, {"programs kept": kept})


def warm(directory: pathlib.Path) -> Measured:
    """An earlier process compiled the same."""
    return started(directory / "cache")


def cold(directory: pathlib.Path) -> Measured:
    """No other process was there before."""
    with tempfile.TemporaryDirectory(prefix="jaxattack-bench-") as cache:
        return started(pathlib.Path(cache))


def main(work: str) -> None:
    """Begin quickstart's first attack; says when its first step ended, and ends then."""
    from jaxattack import commandline, distributed, meter, workdir
    from jaxattack.experiments.fragility import study

    def ended(stride: meter.Stride) -> None:
        print(json.dumps({"ended": time.time(), "loss": stride.loss}), flush=True)
        os._exit(0)

    settings = study.read(commandline.load_config("quickstart"))
    distributed.initialize()
    setup, _ = study.prepare(settings, workdir.open_workdir(work))
    attack = next(stage for stage in study.sections(setup).stages if stage.kind == "attack")
    with meter.watched_by(ended):
        attack.run()


ROWS = {
    "first_step": Row(
        work="from the start of a process to the end of the first step of quickstart's attack",
        sides={"programs kept": warm, "none kept": cold},
        disagreement=near(1e-6),
        prepare=lambda directory: started(directory / "cache"),
    )
}

if __name__ == "__main__":
    main(sys.argv[1])
