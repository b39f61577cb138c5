"""Processes that run one study's stages, and are killed; each stage only writes and waits.

    python worker_processes.py FOLDER leases|shares KILLS

Prints how many were killed, how many stages there are, and how often one was computed again though
nobody who was at it had been killed.
"""

import collections
import os
import pathlib
import random
import signal
import sys
import time

from jaxattack import leases, stages, workdir
from jaxattack.experiments import agenda

WORKERS = 3


def study(root: pathlib.Path, log: pathlib.Path) -> list[stages.Stage]:
    """Three trainings, what is asked of each, and what rests on all, in the order of a study."""

    def stage(kind: str, label: str, *needs: stages.Stage) -> stages.Stage:
        def write(folder: pathlib.Path) -> None:
            with log.open("a") as lines:
                lines.write(f"{made.id} {os.getpid()}\n")
            said = [need.run().joinpath("said").read_text() for need in needs]
            time.sleep(0.2)  # so long that all kills come before the end, also on a busy machine
            (folder / "said").write_text(" ".join([label, *said]))

        made = stages.Stage(root, kind, label, {}, write, needs)
        return made

    attacks = [stage("attack", str(number)) for number in range(3)]
    asked = [stage("ask", f"{a.label}-{n}", a) for a in attacks for n in range(3)]
    judged = [stage("judge", a.label, a) for a in asked]
    return stages.in_order([*judged, stage("table", "all", *judged)])


def start(root: pathlib.Path, log: pathlib.Path, share: agenda.Share | None) -> int:
    """A worker, as a child of this process."""
    child = os.fork()
    if child:
        return child
    sys.stderr = (log.parent / "said").open("a")
    leases.SHORTEST, leases.LONGEST = 0.02, 0.1
    agenda.run(study(workdir.open_workdir(root), log), share)
    os._exit(0)


def main(folder: pathlib.Path, mode: str, kills: int) -> None:
    """Start workers, kill so many one after the other, and start others in their places."""
    rng, root, log = random.Random(kills), folder / "run", folder / "log"
    workdir.open_workdir(root)
    shares = [(number, WORKERS) if mode == "shares" else None for number in range(WORKERS)]
    workers = {number: start(root, log, shares[number]) for number in range(WORKERS)}
    killed = set()
    while len(killed) < kills:
        begun = len(log.read_text().split()) if log.exists() else 0
        while not log.exists() or len(log.read_text().split()) == begun:  # one is at work
            if os.waitpid(-1, os.WNOHANG) != (0, 0):
                sys.exit("they came to the end")
            time.sleep(0.01)
        number = rng.randrange(WORKERS)
        time.sleep(0.1 * rng.random())
        os.kill(workers[number], signal.SIGKILL)
        os.waitpid(workers[number], 0)
        killed.add(workers[number])
        workers[number] = start(root, log, shares[number])
    ended = [os.waitpid(worker, 0)[1] for worker in workers.values()]
    assert ended == [0] * WORKERS, ended
    at = collections.defaultdict(list)
    for line in log.read_text().splitlines():
        name, pid = line.split()
        at[name].append(int(pid))
    twice = sum(pid not in killed for pids in at.values() for pid in pids[:-1])
    print(len(killed), len(at), twice)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
