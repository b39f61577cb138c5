"""A line for every training that ends: loss, speed, memory, on the terminal and in a file.

They are of the machine and the moment: no result, in no step's folder, and nothing reads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax

from jaxattack import distributed, meter, provenance, workdir
from jaxattack.errors import printable
from jaxattack.experiments.devices import DEVICES, KINDS
from jaxattack.experiments.plan import duration, size
from jaxattack.meter import Pace

NAME = "progress.jsonl"
SHOWN = 2.0  # seconds of a training that a terminal hears of


@contextlib.contextmanager
def opened(root: pathlib.Path) -> Iterator[None]:
    """Keep a line of every training in this context in `root/progress.jsonl`."""
    workdir.check_replaceable(root / NAME)

    def note(pace: Pace) -> None:
        found = facts(pace)
        if not distributed.is_first():
            return
        line = json.dumps(found, ensure_ascii=False) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with contextlib.suppress(OSError), open(os.open(root / NAME, flags, 0o644), "w") as file:
            file.write(line)
        if pace.seconds > SHOWN:
            print(printable(f"jaxattack: {words(found)}"), file=sys.stderr, flush=True)

    with meter.heard_by(note):
        yield


def facts(pace: Pace) -> dict[str, Any]:
    """What is kept of a training; rates are of the steps after the first, which is compiled."""
    device = jax.devices()[0].device_kind
    found: dict[str, Any] = {
        "training": pace.label,
        "steps": pace.steps,
        "losses": [round(loss, 6) for loss in pace.losses],
        "seconds": round(pace.seconds, 3),
        "device": device,
        "devices": pace.devices,
        "ended": provenance.now(),
        **meter.memory(),
    }
    if pace.timed and pace.tokens:
        found |= speeds(pace.tokens / pace.seconds, pace.weights, pace.devices)
    return found


def speeds(speed: float, weights: int, devices: int) -> dict[str, float]:
    """Tokens a second; and the share of the peak where that is known, 6 FLOPs a weight and token.

    Args:
        speed: tokens a second, on all devices.
        weights: of the model.
        devices: how many.
    """
    found, device = {"tokens_per_second": round(speed, 1)}, jax.devices()[0].device_kind
    if device in KINDS:
        peak = DEVICES[KINDS[device]][0] * devices
        found["mfu"] = round(6 * weights * speed / peak, 4)
    return found


def words(found: dict[str, Any]) -> str:
    """The same as a line to read."""
    first, last = found["losses"]
    parts = [
        f"{found['training']}: {found['steps']} steps in {duration(found['seconds'])}",
        f"loss {first:.3g} to {last:.3g}",
    ]
    if "tokens_per_second" in found:
        parts.append(f"{found['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in found:
        parts.append(f"{100 * found['mfu']:.0f} % of the peak")
    for name, where in (("device_bytes", "a device so far"), ("host_bytes", "the host")):
        if name in found:
            parts.append(f"at most {size(found[name])} on {where}")
    return ", ".join(parts)
