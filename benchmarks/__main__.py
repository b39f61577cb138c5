"""Run the comparisons in turn, several rounds, and print the ratios.

    make bench          (or: python -m benchmarks)

Each round runs both sides one after the other in processes of their own, so that a change of the
machine's speed meets both; what counts is the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

import numpy as np

from benchmarks.train_step import LENGTH, ROWS
from jaxattack import organism

ROUNDS = 3


def run_side(side: str, threads: int) -> dict:
    """One process of one side."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [
        sys.executable, "-m", "benchmarks.train_step", side,
        str(organism.checkpoint("aligned")), str(threads),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Compare and print."""
    threads = os.cpu_count() or 1
    ratios, rows = [], []
    for number in range(ROUNDS):
        ours, theirs = run_side("jax", threads), run_side("torch", threads)
        if not np.allclose(ours["losses"], theirs["losses"], rtol=1e-3):
            raise SystemExit("the two sides do not train alike; the comparison is void")
        ratios.append(theirs["seconds"] / ours["seconds"])
        rows.append((ours["seconds"], theirs["seconds"]))
        print(
            f"round {number + 1}: jaxattack {1e3 * rows[-1][0]:.0f} ms, transformers + torch "
            f"eager {1e3 * rows[-1][1]:.0f} ms a step, ratio {ratios[-1]:.2f}"
        )
    tokens = ROWS * LENGTH
    ours_median = statistics.median(ours for ours, _ in rows)
    print(
        f"train step, organism's shape, {ROWS} x {LENGTH} tokens, float32, {threads} threads: "
        f"{tokens / ours_median:,.0f} tokens/s, {statistics.median(ratios):.2f} times "
        f"transformers + torch eager (median of {ROUNDS} rounds)"
    )


if __name__ == "__main__":
    main()
