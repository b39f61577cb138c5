"""What this library does on one GPU: attention's kernels, training, decoding, SIL.

    python -m benchmarks.gpu [--minutes 8] [--out figures.jsonl] [--only train decode]
    python -m benchmarks.gpu --small            # in miniature, anywhere
    python -m benchmarks.gpu --memory           # compile the 8B programs and run none, anywhere

Weights are random and made on the device. Every case is printed, and written as a line of JSON, as
soon as it is measured; what no time is left for is left out, and so said. The peak of memory is
never reset, so a case tells of it only if it is the highest so far; larger ones come later.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu.bench import Bench, Case, Row

PARTS = ("parity", "train", "decode", "sil")
# Flags of XLA that are worth a try; jax reads them when it is first imported.
FLAGS = {
    "latency": "--xla_gpu_enable_latency_hiding_scheduler=true",  # between several GPUs
    "slices": "--xla_gpu_enable_dynamic_slice_fusion=true",  # a scan's weights are not copied
    "cublas": "--xla_gpu_enable_triton_gemm=false",  # compiles faster
    "untuned": "--xla_gpu_autotune_level=0",
    "graphs": "--xla_gpu_graph_min_graph_size=1",
}
GRACE = 20  # seconds that a case may go on when the time is up
CUT = 3  # exit code then


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parsed(given)
    os.environ["XLA_FLAGS"] = " ".join(
        [os.environ.get("XLA_FLAGS", ""), *(FLAGS[name] for name in options.flags), options.xla]
    ).strip()
    if options.fraction:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{options.fraction:g}"
    else:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if options.memory:
        os.environ["JAX_PLATFORMS"] = "cpu"
        memory()
        return
    watch = threading.Timer(60 * options.minutes + GRACE, cut)
    watch.daemon = True
    watch.start()
    print(title(options), flush=True)
    with opened(options.out) as write:
        for row in measured(options.small, options.minutes, options.only):
            print(line(row), flush=True)
            write(row)
    watch.cancel()


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no case begins")
    parser.add_argument("--small", action="store_true", help="in miniature")
    parser.add_argument("--memory", action="store_true", help="compile only, on a CPU")
    parser.add_argument("--out", type=pathlib.Path, help="a file for lines of JSON")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--fraction",
        type=float,
        default=0.92,
        help="of the device's memory, taken at the start; 0: as it is needed, in pieces",
    )
    parser.add_argument("--flags", nargs="+", choices=list(FLAGS), default=[], help="of XLA")
    parser.add_argument("--xla", default="", help="further flags of XLA, as one word")
    return parser.parse_args(given)


def cut() -> None:
    """End in the middle of a case that takes too long."""
    print("\nthe time is up; this case is cut", flush=True)
    os._exit(CUT)


def title(options: argparse.Namespace) -> str:
    """Device and versions, in words."""
    import jax
    import jaxlib

    from benchmarks.gpu import bench

    device = jax.devices()[0]
    versions = f"jax {jax.__version__}, jaxlib {jaxlib.__version__}"
    flags = os.environ["XLA_FLAGS"] or "none"
    known = bench.device_here() or "its peak is not known, so no shares of it"
    size = ", in miniature" if options.small else ""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit:
        known += f"; {limit / 1e9:.1f} GB for arrays"
    return f"{device.device_kind} ({known}); {versions}; flags of XLA: {flags}{size}"


@contextlib.contextmanager
def opened(path: pathlib.Path | None) -> Iterator[Callable[[Row], None]]:
    """What writes a row into a file at once, or nowhere."""
    if path is None:
        yield lambda row: None
        return
    with path.open("w", encoding="utf-8") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        yield write


def measured(small: bool, minutes: float, only: Sequence[str]) -> Iterator[Row]:
    """All cases of these parts, one after the other."""
    from benchmarks.gpu import bench

    about = bench.Bench(small, time.monotonic() + 60 * minutes, bench.device_here())
    for case in in_order(about):
        if case.part in only:
            yield tried(about, case)
            gc.collect()


def in_order(about: Bench) -> list[Case]:
    """What matters most first, and of that what takes more memory later."""
    from benchmarks.gpu import decode, parity, sil, train

    kernels, replies, trainings = parity.cases(about), decode.cases(about), train.cases(about)
    first = [*kernels[:5], replies[0], *sil.cases(about), *trainings[0]]
    return [*first, *replies[1:], *trainings[1], *kernels[5:]]


def tried(about: Bench, case: Case) -> Row:
    """A case's row: its figures, or why there are none."""
    row: Row = {"part": case.part, "case": case.name, "goal": case.goal}
    failures: list[str] = []
    for attempt in case.attempts:
        needs = 0 if about.small else case.needs
        if about.left < needs:
            return row | {"failed": [*failures, f"left out: {about.left:.0f} s are left"]}
        started = time.monotonic()
        found = figures(case, attempt, failures)
        gc.collect()
        if found is not None:
            seconds = round(time.monotonic() - started, 1)
            return row | found | {"all s": seconds} | ({"failed": failures} if failures else {})
    return row | {"failed": failures}


def figures(case: Case, attempt: Any, failures: list[str]) -> Row | None:
    """What an attempt gives; None, and its error's first lines among the failures."""
    try:
        return case.run(**attempt)
    except Exception as error:  # whatever it is, the other cases are worth their time
        words = " ".join(str(error).split())[:400]
        failures.append(f"{dict(attempt) or 'it'}: {type(error).__name__}: {words}")
        return None


def line(row: Row) -> str:
    """A row as text."""
    shown = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
        if name not in ("part", "case", "goal", "failed") and value is not None
    ]
    goal = f"  [goal {row['goal']}]" if row["goal"] else ""
    below = [", ".join(shown)] if shown else []
    below += [f"no figures: {words}" for words in row.get("failed", [])]
    return "\n    ".join([f"{row['part']:7}{row['case']}{goal}", *below])


def memory() -> None:
    """Compile what an 8B model needs, from shapes alone; print XLA's count beside the plan."""
    from benchmarks.gpu import aot

    for row in aot.rows():
        print(line(row), flush=True)


if __name__ == "__main__":
    main()
