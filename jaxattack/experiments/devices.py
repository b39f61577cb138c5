"""What accelerators can do at most, for plans, the log of trainings and benchmarks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

# Dense bf16 FLOP/s and bytes/s of one device, from the makers' data sheets.
DEVICES = {
    "A100 80GB": (312e12, 2.04e12),
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.8e12),
    "TPU v5e": (197e12, 0.82e12),
    "TPU v5p": (459e12, 2.77e12),
    "TPU v6e": (918e12, 1.64e12),
}
# Which of them jax's name of a device's kind means.
KINDS = {
    "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA A100 80GB PCIe": "A100 80GB",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H200": "H200",
    "TPU v5 lite": "TPU v5e",
    "TPU v5": "TPU v5p",
    "TPU v6 lite": "TPU v6e",
}


def this_cpu() -> tuple[str, tuple[float, float]]:
    """What this machine's cores are called, and can do: float32 FLOP/s and bytes/s.

    Of a product and of a copy, measured in some 50 ms, as busy as the machine is.
    """
    matrix, row = np.ones((1024, 1024), np.float32), np.ones(1 << 23, np.float32)
    copied = np.empty_like(row)
    product = 2 * len(matrix) ** 3 / _shortest(lambda: matrix @ matrix)
    copy = 2 * row.nbytes / _shortest(lambda: np.copyto(copied, row))
    return f"this machine's {os.cpu_count()} CPU cores", (product, copy)


def _shortest(work: Callable[[], object]) -> float:
    """Seconds, the least of a few times."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
