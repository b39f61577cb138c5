"""Loading a sharded checkpoint: time until every weight was read, and the memory it takes."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import checkpoints
from benchmarks.row import Measured, Row, near

EVERY = 0.005  # seconds between two looks at the memory


def anonymous_bytes() -> int:
    """Memory of this process that is not a file's; what is mapped from a file can be dropped."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


@contextlib.contextmanager
def watch() -> Iterator[list[int]]:
    """Collect looks at the memory while the block runs; the first is from before."""
    seen, over = [anonymous_bytes()], threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            seen.append(anonymous_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        seen.append(anonymous_bytes())


def measure(
    load: Callable[[pathlib.Path], Any],
    tensors: Callable[[Any], list[np.ndarray]],
    directory: pathlib.Path,
) -> tuple[float, dict[str, float], Any]:
    """Time `load` and a look at every weight; a small checkpoint first, for the imports."""
    load(checkpoints.organism("aligned"))
    with watch() as seen:
        start = time.perf_counter()
        loaded = load(directory)
        for tensor in tensors(loaded):
            tensor.sum()
        seconds = time.perf_counter() - start
    size = sum(tensor.nbytes for tensor in tensors(loaded))
    return seconds, {"peak memory / weights": (max(seen) - seen[0]) / size}, loaded


def probe(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A hundred entries of every tensor, which also shows a transposed one."""
    return {
        name: tensor.reshape(-1)[:: max(1, tensor.size // 100)].astype(np.float64)
        for name, tensor in named.items()
    }


def jax_side(directory: pathlib.Path) -> Measured:
    """This library."""
    import jax

    from jaxattack import load_pretrained

    def tensors(loaded: Any) -> list[np.ndarray]:
        return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.block_until_ready(loaded[1]))]

    seconds, extra, loaded = measure(load_pretrained, tensors, directory)
    named = checkpoints.by_hf_name(loaded[0].config, loaded[1])
    return Measured(seconds, probe(named), extra)


def torch_side(directory: pathlib.Path) -> Measured:
    """Transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def load(path: pathlib.Path) -> Any:
        AutoTokenizer.from_pretrained(path)  # the other side reads it too
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    def tensors(model: Any) -> list[np.ndarray]:
        return [weight.detach().numpy() for weight in model.parameters()]

    seconds, extra, model = measure(load, tensors, directory)
    named = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    return Measured(seconds, probe(named), extra)


def row(work: str, dtype: str) -> Row:
    """The comparison for files of one dtype."""
    return Row(
        work=f"load {work}, several files, as float32, and read every weight",
        sides={"jaxattack": jax_side, "transformers": torch_side},
        disagreement=near(0.0),
        prepare=functools.partial(checkpoints.write, shape="126m", dtype=dtype),
    )


ROWS = {
    "load": row("500 MB of float32", "float32"),
    "load_bf16": row("250 MB of bfloat16", "bfloat16"),
}
