"""The plan's memory against what XLA takes for the compiled programs of published models.

Compiled for virtual devices in a process of its own, in float32 (on a CPU XLA widens bfloat16).
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from published_configs import LLAMA_8B, LLAMA_70B

SCRIPT = pathlib.Path(__file__).with_name("compile_stages.py")
# Plan by XLA; measured are 0.93 to 1.13.
LEAST, MOST = 0.9, 1.15
PLANNED = ["train", "score", "stitch", "read", "ask"]
UNPLANNED = ["choose", "draw", "inputs"]


def compiled(config, mesh, stages, rows=16, length=512):
    """By stage what the script says of it."""
    devices = mesh[0] * mesh[1] * mesh[2]
    said = {"config": config, "mesh": mesh, "devices": devices, "stages": stages}
    said |= {"rows": rows, "length": length, "new": 128}
    unset = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_NUM_CPU_DEVICES")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    root = str(SCRIPT.parents[2])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(said)],
        env=environment | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["stage"]: row for row in found}


def check(config, mesh, stages, **options):
    """The plan is right, and no device is sent a whole embedding, head or leaf of all layers."""
    found = compiled(config, mesh, stages, **options)
    assert list(found) == stages
    head = config["vocab_size"] * config["hidden_size"] // mesh[2]
    for name, row in found.items():
        if row["plan"] is not None:
            print(f"{name}: plan {row['plan'] / 1e9:.1f} GB, XLA {row['xla'] / 1e9:.1f} GB")
            assert LEAST < row["plan"] / row["xla"] < MOST, (name, row)
        if mesh[1] > 1:
            assert row["exchanged"] < head, (name, row)
    return found


def test_eight_devices_hold_what_the_plan_says_and_nothing_whole():
    stages = ["train", "score", "ask", "draw", "inputs"]
    found = check(LLAMA_8B, (1, 8, 1), stages)
    weights = found["train"]["weights"]
    assert found["draw"]["xla"] < 3 * weights  # keys and masks are made in parts
    assert found["inputs"]["xla"] < 1.5 * weights  # no layer's inputs are kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "mesh", "options"),
    [
        (LLAMA_8B, (1, 8, 1), {}),
        (LLAMA_8B, (1, 8, 1), {"rows": 10}),  # do not divide
        (LLAMA_8B, (1, 8, 1), {"rows": 8, "length": 2048}),
        (LLAMA_8B, (1, 4, 2), {}),
        (LLAMA_8B, (2, 2, 2), {}),
        (LLAMA_8B, (1, 1, 1), {}),
        (LLAMA_70B, (1, 64, 1), {"rows": 64}),
        (LLAMA_70B, (1, 8, 8), {"rows": 64}),
    ],
)
def test_published_models_on_meshes_hold_what_the_plan_says(config, mesh, options):
    check(config, mesh, PLANNED + UNPLANNED, **options)
