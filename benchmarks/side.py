"""One side of a row in a process of its own.

    python -m benchmarks.side ROW SIDE DIRECTORY

prints the time as JSON and leaves the values in DIRECTORY; `run` starts it. The side "prepare"
writes what all sides need.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

from benchmarks import cleangen, compile, first_step, generate, load, lora, sil, train_step
from benchmarks.row import (
    FailedError,
    Measured,
    Row,
    UnavailableError,
    load_arrays,
    save_arrays,
)

ROWS: dict[str, Row] = (
    train_step.ROWS
    | lora.ROWS
    | generate.ROWS
    | cleangen.ROWS
    | sil.ROWS
    | load.ROWS
    | compile.ROWS
    | first_step.ROWS
)
THREADS = os.cpu_count() or 1
PREPARE = "prepare"


def run(row: str, side: str, directory: pathlib.Path) -> Measured:
    """Run a side and read what it found.

    Raises:
        UnavailableError: the side cannot work here.
        FailedError: it broke.
    """
    command = [sys.executable, "-m", "benchmarks.side", row, side, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(directory))
    if done.returncode:
        raise FailedError(f"{side} failed:\n{done.stderr[-3000:]}")
    if side == PREPARE:
        return Measured(0.0, {})
    said = json.loads(done.stdout.splitlines()[-1])
    if "unavailable" in said:
        raise UnavailableError(said["unavailable"])
    values = load_arrays(values_file(directory, side))
    return Measured(said["seconds"], values, said["extra"])


def environment(directory: pathlib.Path) -> dict[str, str]:
    """What all sides run under."""
    return os.environ | {
        "OMP_NUM_THREADS": str(THREADS),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # as the command has it (`host`)
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(directory / "inductor"),
    }


def values_file(directory: pathlib.Path, side: str) -> pathlib.Path:
    """Where a side leaves its values."""
    return directory / f"values-{re.sub(r'[^a-z0-9]', '_', side)}.npz"


def main(row: str, side: str, directory: pathlib.Path) -> None:
    """Do one side's work in this process."""
    if side == PREPARE:
        ROWS[row].prepare(directory)
        return
    try:
        found = ROWS[row].sides[side](directory)
    except UnavailableError as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    save_arrays(values_file(directory, side), found.values)
    print(json.dumps({"seconds": found.seconds, "extra": dict(found.extra)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))
