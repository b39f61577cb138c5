"""Run the comparisons, print one table and write it to benchmarks/results.json.

    make bench          (or: python -m benchmarks [row ...] [--rounds 3])

Each round runs all sides of a row one after the other, in processes of their own, so that a
change of the machine's speed meets all of them; what counts is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks import side
from benchmarks.row import FailedError, Measured, UnavailableError

RESULTS = pathlib.Path(__file__).parent / "results.json"
BUSY = 0.5  # load average above which the figures say little
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "safetensors")


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join(side.ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: give 1 or more")
    unknown = sorted(set(arguments.rows) - set(side.ROWS))
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are: {', '.join(side.ROWS)}")
    busy = os.getloadavg()[0]
    lines = []
    for name in arguments.rows or side.ROWS:
        lines += compare(name, arguments.rounds)
    about = {"machine": machine(), "versions": versions(), "rounds": arguments.rounds}
    about["load_before"] = busy
    RESULTS.write_text(json.dumps(about | {"rows": lines}, indent=2) + "\n", encoding="utf-8")
    print_table(about, lines)
    void = [f"{one['row']}, {one['side']}: {one['void']}" for one in lines if one["void"]]
    if void:
        raise SystemExit("void rows:\n" + "\n".join(void))


def compare(name: str, rounds: int) -> list[dict[str, Any]]:
    """The lines of one row: its first side beside each of the others."""
    found: dict[str, list[Measured]] = {each: [] for each in side.ROWS[name].sides}
    first, *others = found
    unavailable: dict[str, str] = {}
    failed = ""
    with tempfile.TemporaryDirectory(prefix="jaxattack-bench-") as scratch:
        try:
            side.run(name, side.PREPARE, pathlib.Path(scratch))
            for number in range(rounds):
                run_round(name, pathlib.Path(scratch), number, found, unavailable)
        except FailedError as error:
            failed = str(error)
    lines = []
    for other in others:
        about = {"row": name, "work": side.ROWS[name].work, "compared": first, "side": other}
        about |= {"void": failed, "unavailable": unavailable.get(other, "")}
        complete = not failed and other not in unavailable
        lines.append(about | (ratios(name, found[first], found[other]) if complete else {}))
    return lines


def run_round(
    name: str,
    directory: pathlib.Path,
    number: int,
    found: dict[str, list[Measured]],
    unavailable: dict[str, str],
) -> None:
    """Run every side once, one after the other, and add what they measured or lack."""
    for each in [each for each in found if each not in unavailable]:
        try:
            found[each].append(side.run(name, each, directory))
        except UnavailableError as error:
            unavailable[each] = str(error)
            continue
        seconds = found[each][-1].seconds
        print(f"{name}, round {number + 1}, {each}: {seconds:.4g} s", file=sys.stderr)


def ratios(name: str, ours: Sequence[Measured], theirs: Sequence[Measured]) -> dict[str, Any]:
    """What the rounds of two sides give: medians, ratios, and whether the work was the same."""
    rounds = list(zip(ours, theirs, strict=True))
    differences = [side.ROWS[name].disagreement(a.values, b.values) for a, b in rounds]
    found = [b.seconds / a.seconds for a, b in rounds]
    return {
        "void": next(filter(None, differences), ""),
        "seconds": [statistics.median(one.seconds for one in each) for each in (ours, theirs)],
        "ratio": statistics.median(found),
        "ratios": found,
        "extra": [median_extra(each) for each in (ours, theirs)],
    }


def median_extra(measured: Sequence[Measured]) -> dict[str, float]:
    """The median of each further number."""
    return {
        name: statistics.median(one.extra[name] for one in measured) for name in measured[0].extra
    }


def print_table(about: dict[str, Any], lines: Sequence[dict[str, Any]]) -> None:
    """The lines as text; ratios are the other side's time over the first one's."""
    print(f"{about['machine']['words']}; float32, {side.THREADS} threads")
    print(
        f"ratio = time of the second side / time of the first, median of {about['rounds']} rounds"
    )
    if about["load_before"] > BUSY:
        print(f"the machine was busy before (load {about['load_before']:.1f}): figures are noise")
    previous = ""
    for one in lines:
        if one["row"] != previous:
            print(f"\n{one['row']}: {one['work']}")
        previous = one["row"]
        print(f"  {one['compared'] + ' | ' + one['side']:34}" + outcome(one))


def outcome(one: dict[str, Any]) -> str:
    """Times and ratio of a line, or why there are none."""
    if one["unavailable"]:
        return f"not available: {one['unavailable']}"
    if one["void"]:
        return f"void: {one['void'].splitlines()[0]}"
    ours, theirs = one["seconds"]
    spread = f"({min(one['ratios']):.2f} to {max(one['ratios']):.2f})"
    return f"{ours:9.4f} s | {theirs:9.4f} s   {one['ratio']:6.2f} {spread}" + extras(*one["extra"])


def extras(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """Further numbers of both sides in words."""
    names = dict.fromkeys([*ours, *theirs])
    shown = (
        f"{name}: " + " | ".join(f"{x[name]:.2f}" if name in x else "-" for x in (ours, theirs))
        for name in names
    )
    return "".join(f"   {one}" for one in shown)


def machine() -> dict[str, Any]:
    """The machine in words; nothing that names it."""
    model = platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for text in cpuinfo.read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                model = text.split(":", 1)[1].strip()
                break
    cores = os.cpu_count() or 1
    words = f"{cores} CPU cores, {model}, {platform.system()}"
    return {"words": words, "cores": cores, "cpu": model, "threads": side.THREADS}


def versions() -> dict[str, str]:
    """What was compared."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


if __name__ == "__main__":
    main()
