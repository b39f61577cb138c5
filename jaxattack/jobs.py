"""Several workers at one study on this machine: `jaxattack --jobs=N`.

Each is the same command in a process of its own, with a share of the devices; who computes what
they settle by leases. They write logs, the launcher says how far they are, and none outlives it.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxattack.errors import UserError, printable
from jaxattack.signals import PARENT

LOGS = "logs"  # in the work directory
MOST = 1024  # workers
LAST = 20  # lines of a log that are shown of a worker that failed
PATIENCE = 120.0  # seconds that workers have to end in: one that trains saves first

_STEP = re.compile(r"^\[\d+/(\d+)\] (.*)$", re.M)
_REPORT = re.compile(r"^report: .*$", re.M)


class Worker(NamedTuple):
    """A process, and where its output goes."""

    number: int
    process: subprocess.Popen
    log: pathlib.Path


def run(arguments: Sequence[str], count: int, root: pathlib.Path) -> int:
    """Run so many workers to their end; returns 0 if one of them finished the study.

    Args:
        arguments: of each, after the program's name.
        count: how many.
        root: the work directory.

    Raises:
        UserError: the devices cannot be shared, or something else is where the logs go.
    """
    environments = shares(count, os.environ)
    workers: list[Worker] = []
    try:
        for number, environment in enumerate(environments):
            log = _log(root, number)
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command(arguments),
                    env={**os.environ, **environment, PARENT: str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # an interrupt is the launcher's, which passes it on
                )
            workers.append(Worker(number, process, log))
        said = f"jaxattack: {count} workers, which write {root / LOGS}/worker-*.log"
        print(printable(said), file=sys.stderr, flush=True)
        return _watch(workers)
    finally:
        stop(workers)


def command(arguments: Sequence[str]) -> list[str]:
    """What runs a worker; of the folder it is started in Python imports nothing but us."""
    here = pathlib.Path(__file__).resolve().parents[1]
    safe = [] if pathlib.Path.cwd().resolve() == here else ["-P"]
    return [sys.executable, *safe, "-m", "jaxattack.run", *arguments]


def work(words: Sequence[str]) -> None:
    """Run a worker's command to its end; what schedulers call on their machines.

    Raises:
        CalledProcessError: it failed.
    """
    subprocess.run(words, check=True, env={**os.environ, PARENT: str(os.getpid())})


def numbered(arguments: Sequence[str], index: str, count: int) -> list[str]:
    """The arguments of one of several workers: `{index}` and `{workers}` in them are numbers."""
    return [
        argument.replace("{index}", index).replace("{workers}", str(count))
        for argument in arguments
    ]


def stop(workers: Sequence[Worker]) -> None:
    """End those that still run: asked to, and if they do not in time, killed."""
    running = [worker.process for worker in workers if worker.process.poll() is None]
    for process in running:
        process.terminate()
    end = time.monotonic() + PATIENCE
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
    for process in running:
        process.kill()
        process.wait()


def _watch(workers: Sequence[Worker]) -> int:
    """Wait for the end of all; what they end with, as one code."""
    codes: dict[int, int] = {}
    shown = ""
    while len(codes) < len(workers):
        time.sleep(0.3)
        for number, process, log in workers:
            code = process.poll()
            if code is not None and number not in codes:
                codes[number] = code
                if code:
                    shown = _draw("", shown)
                    _show_end(number, code, log)
        running = len(workers) - len(codes)
        shown = _draw(_so_far(workers, running) if running else "", shown)
    if 0 not in codes.values():
        first = next(iter(codes.values()))
        return 128 - first if first < 0 else first
    reports = [found for worker in workers for found in _REPORT.findall(_text(worker.log))]
    print(reports[-1] if reports else "", flush=True)
    return 0


def _so_far(workers: Sequence[Worker], running: int) -> str:
    """How many steps any worker has seen done."""
    found = [step for worker in workers for step in _STEP.findall(_text(worker.log))]
    done, total = len({label for _, label in found}), max((int(n) for n, _ in found), default=0)
    return f"{min(done, total)} of {total} steps, {running} workers" if total else ""


def _draw(line: str, last: str) -> str:
    """Show a line: on a terminal in place of the last, in a log if it is new."""
    if line != last:
        ending = f"\r\x1b[K{line}" if sys.stderr.isatty() else f"jaxattack: {line}\n" * bool(line)
        print(end=ending, file=sys.stderr, flush=True)
    return line


def _show_end(number: int, code: int, log: pathlib.Path) -> None:
    """Say what a worker ended with, and the last it said."""
    lines = [f"jaxattack: worker {number} ended with {code}; the end of {log}:"]
    lines += [f"  {line}" for line in _text(log).splitlines()[-LAST:]]
    print(*map(printable, lines), sep="\n", file=sys.stderr, flush=True)


def _text(log: pathlib.Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _log(root: pathlib.Path, number: int) -> pathlib.Path:
    """Where a worker writes; nothing that is not ours is replaced.

    Raises:
        UserError: something else is there.
    """
    from jaxattack.workdir import check_replaceable

    folder = root / LOGS
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder of logs; move it away")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"worker-{number}.log"
    check_replaceable(path)
    return path


# --- Devices ------------------------------------------------------------------------------------


def shares(count: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of each of so many workers: its GPUs or TPU chips.

    Every worker has as many, for the number of devices is in the steps' names; where there are
    more workers than GPUs, as many share each, and its memory. On a CPU each has all cores'
    threads, as a lone process has: their number decides the order of some sums, and what one does
    not use another does.

    Raises:
        UserError: they cannot be shared out.
    """
    platforms = environment.get("JAX_PLATFORMS", "").lower()
    for words, name, there in (
        (("tpu",), "TPU_VISIBLE_CHIPS", _chips),
        (("cuda", "gpu"), "CUDA_VISIBLE_DEVICES", _gpus),
    ):
        if platforms and not any(word in platforms for word in words):
            continue
        named = [part.strip() for part in environment.get(name, "").split(",")]
        found = [part for part in named if part and part != "-1"]
        found = found if name in environment else there()
        if found:
            more = _BOUNDS if name.startswith("TPU") else _memory(found, count, environment)
            return [{name: ",".join(own), **more} for own in _dealt(found, count, name)]
    return [{}] * count


# One chip is a TPU of its own; how several hang together differs between kinds of TPU.
_BOUNDS = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}


USED = 0.9  # of a GPU's memory by the arrays of those that share it; libraries have theirs beside
_FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # now and formerly


def _memory(gpus: list[str], count: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What part of a GPU's memory each of the workers that share it takes, if nobody said."""
    if count <= len(gpus) or any(environment.get(name) for name in _FRACTIONS):
        return {}
    return {_FRACTIONS[0]: f"{USED * len(gpus) / count:.4f}"}


def _dealt(devices: list[str], count: int, name: str) -> list[list[str]]:
    if name.startswith("TPU") and count != len(devices):
        raise UserError(f"--jobs={count}: take {len(devices)}, a worker for each TPU chip")
    if max(count, len(devices)) % min(count, len(devices)):
        raise UserError(
            f"--jobs={count}: {name} has {len(devices)} devices, and each worker has to have as "
            "many, or each device as many workers"
        )
    if count > len(devices):
        return [[devices[number * len(devices) // count]] for number in range(count)]
    each = len(devices) // count
    return [devices[number * each : (number + 1) * each] for number in range(count)]


def _gpus() -> list[str]:
    """Numbers of the GPUs that NVIDIA's tool lists, if jax can use them."""
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU (\d+):", listed.stdout, re.M) if not listed.returncode else []


def _chips() -> list[str]:
    """Numbers of this host's TPU chips, if jax can use them."""
    if not importlib.util.find_spec("libtpu"):
        return []
    found = glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*")
    return [str(number) for number in range(len(found))]
