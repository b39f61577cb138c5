"""Processes that take one lease again and again, and are killed; counts what they did.

    python lease_processes.py FOLDER SECONDS

Prints how many were killed, how often the lease was taken, and how often by two at once.
"""

import os
import pathlib
import random
import signal
import sys
import time

from jaxattack import leases


def work(folder: pathlib.Path, seed: int) -> None:
    """Take the lease, and be alone in the folder while it is ours."""
    rng, target = random.Random(seed), folder / "stage"
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    inside = folder / "inside"
    while True:
        lease = leases.take(target)
        if lease is None:
            time.sleep(rng.random() * 1e-3)
            continue
        others = inside.read_text() if inside.exists() else ""
        # Who was killed in there is no other; who is alive has the lease too.
        os.write(log, b"two\n" if others and runs(int(others)) else b"one\n")
        inside.write_text(str(os.getpid()))
        time.sleep(rng.random() * 2e-3)
        inside.write_text("")
        leases.give_back(target, lease)


def runs(pid: int) -> bool:
    """Whether a process lives."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def main(folder: pathlib.Path, seconds: float) -> None:
    """Keep four at work, and kill one after the other."""
    rng, children, killed = random.Random(0), [], 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while len(children) < 4:
            child = os.fork()
            if not child:
                work(folder, os.getpid())
            children.append(child)
        time.sleep(rng.random() * 0.05)
        gone = children.pop(rng.randrange(4))
        os.kill(gone, signal.SIGKILL)
        os.waitpid(gone, 0)
        killed += 1
    for child in children:
        os.kill(child, signal.SIGKILL)
    lines = (folder / "log").read_text().split()
    print(killed, len(lines), lines.count("two"))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))
