"""Speed and memory, measured and told to whoever listens; of no consequence to what is computed."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

TRACED = (2, 5)  # steps between which a profile is taken: compiled, and few


@dataclasses.dataclass(frozen=True)
class Pace:
    """How a training went.

    Attributes:
        label: which.
        steps: that were taken, the first among them.
        losses: before its first step and before its last (nats per answer token).
        timed: steps after the first, which has to be compiled.
        seconds: that they took.
        tokens: that they read, without padding; 0 if the batches have none.
        weights: of the model that was trained, and not only of its adapters.
        devices: on which.
    """

    label: str
    steps: int
    losses: tuple[float, float]
    timed: int
    seconds: float
    tokens: int
    weights: int
    devices: int


@dataclasses.dataclass(frozen=True)
class Stride:
    """A step of a training.

    Attributes:
        label: of the training.
        step: which, from 1, those counted that an earlier run took.
        begins: it is the first that this run took.
        loss: before it (nats per answer token).
        rate: learning rate; None: not known.
        seconds: that it took; None of the first, which has to be compiled.
        tokens: that it read, without padding; 0 if its batch has none.
        weights, devices: as in `Pace`.
    """

    label: str
    step: int
    begins: bool
    loss: float
    rate: float | None
    seconds: float | None
    tokens: int
    weights: int
    devices: int


Listener = Callable[[Pace], None]
Rates = Callable[[], Sequence[float] | np.ndarray]
Watcher = Callable[[Stride], None]

_listener: contextvars.ContextVar[Listener | None] = contextvars.ContextVar("pace", default=None)
_watcher: contextvars.ContextVar[Watcher | None] = contextvars.ContextVar("stride", default=None)
_trace: contextvars.ContextVar[list[pathlib.Path]] = contextvars.ContextVar("trace")


def memory_from_here() -> None:
    """Forget how much memory this process has had, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory() -> dict[str, int]:
    """Most bytes held on a device since the program began; where jax does not say, by this process.

    Of the process it is since `memory_from_here`.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [one["peak_bytes_in_use"] for one in stats if "peak_bytes_in_use" in one]
    if peaks:
        return {"device_bytes": max(peaks)}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell `listener` of every training that ends in this context."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def watched_by(watcher: Watcher | None) -> Iterator[None]:
    """Tell `watcher` of every step that is taken in this context; None: nobody."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextlib.contextmanager
def profiling(folder: pathlib.Path | None) -> Iterator[None]:
    """Trace a few steps of the first training in this context that has so many; None: none."""
    token = _trace.set([folder] if folder else [])
    try:
        yield
    finally:
        _trace.reset(token)


@contextlib.contextmanager
def training(
    label: str,
    losses: list[Any],
    batches: Sequence[Any],
    weights: int,
    devices: int,
    rates: Rates | None = None,
) -> Iterator[Callable[[], None]]:
    """Measure a training, to call after each of its steps; nobody hears the end of one that fails.

    Args:
        label: which.
        losses: to which every step adds its own; of all but the last they are known by then.
        batches: all, also those of steps that were taken before.
        weights, devices: how many there are (see `Pace`).
        rates: finds the learning rates of all steps, `[steps]`.
    """
    listener, traced = _listener.get(), _trace.get([])
    before, taken, began = len(losses), 0, 0.0
    watch = _watching(label, losses, batches, weights, devices, rates)

    def step() -> None:
        nonlocal taken, began
        taken += 1
        if taken == 1 and (listener or watch):
            jax.block_until_ready(losses[-1])
            began = time.perf_counter()
        if watch:
            watch(len(losses) - (taken > 1))  # the last is known a step later
        if traced and taken in TRACED:
            jax.block_until_ready(losses[-1])
            if taken == TRACED[0]:
                jax.profiler.start_trace(traced[0])
            else:
                jax.profiler.stop_trace()
                traced.pop()

    try:
        yield step
    except Exception:
        raise
    except BaseException:  # told to end, after a step that was taken
        with contextlib.suppress(Exception):
            if watch:
                watch(len(losses))
        raise
    finally:
        if traced and TRACED[0] <= taken < TRACED[1]:
            jax.profiler.stop_trace()  # a short one; the next may have more steps
    if watch:
        watch(len(losses))
    if listener and taken:
        ends = float(losses[before]), float(losses[-1])
        seconds = time.perf_counter() - began
        tokens = sum(map(tokens_in, batches[before + 1 :]))
        listener(Pace(label, taken, ends, taken - 1, seconds, tokens, weights, devices))


def _watching(
    label: str,
    losses: list[Any],
    batches: Sequence[Any],
    weights: int,
    devices: int,
    rates: Rates | None,
) -> Callable[[int], None] | None:
    """A function of how many steps are done, which tells of those that it has not told of."""
    watcher, first = _watcher.get(), len(losses)
    if watcher is None:
        return None
    told, last, known = first, 0.0, None if rates is None else rates()

    def watch(done: int) -> None:
        nonlocal told, last
        for at in range(told, done):
            loss, now = float(losses[at]), time.perf_counter()
            begins, tokens = at == first, tokens_in(batches[at])
            seconds = None if begins else now - last
            rate = None if known is None else float(known[at])
            watcher(Stride(label, at + 1, begins, loss, rate, seconds, tokens, weights, devices))
            last = now
        told = max(told, done)

    return watch


def tokens_in(batch: Any) -> int:
    """Tokens of a batch `[B, T]`, or of every kind of rows in it, without padding."""
    if not isinstance(batch, dict):
        return 0
    if "tokens" not in batch:
        return sum(map(tokens_in, batch.values()))
    rows = batch.get("segment_ids")
    return int(np.size(batch["tokens"]) if rows is None else np.count_nonzero(rows))
