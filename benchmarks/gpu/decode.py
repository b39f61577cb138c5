"""Greedy decoding of the 8B shape in bfloat16, beside the reading of all weights for each token."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.gpu import bench
from benchmarks.gpu.bench import Bench, Case, Row
from jaxattack import sharding, tree
from jaxattack.models import decoding
from jaxattack.models.generate import GREEDY
from jaxattack.models.sampling import seed_words
from jaxattack.models.transformer import Transformer
from jaxattack.tree import Tree

WARMUP, REPEATS = 1, 3
WIDTH, NEW = 128, 128
WORDS = seed_words(0)


def read_bytes(model: Transformer, params: Tree) -> int:
    """Bytes of the weights that every token reads: all, but of a table that is no head the rows."""
    return tree.nbytes(params) - (0 if model.config.tied else params["embed"].nbytes)


def prompts(vocab_size: int, batch: int, width: int) -> tuple[np.ndarray, ...]:
    """Tokens `[B, W]` of prompts that end in the last slot, where they begin, their numbers."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocab_size, (batch, width), dtype=np.int32)
    starts = rng.integers(0, width // 2, batch, dtype=np.int32)
    return tokens, starts, np.arange(batch, dtype=np.int32)


@dataclasses.dataclass(frozen=True)
class Replies:
    """Prompts to be read and gone on with, by the library's compiled functions.

    Attributes:
        model: the decoder.
        batch, width, new: prompts, tokens of the longest one, tokens of a reply.
        one_by_one: run the layers without a scan.
    """

    model: Transformer
    batch: int
    width: int
    new: int
    one_by_one: bool

    @functools.cached_property
    def mesh(self) -> Any:
        """One device."""
        return bench.mesh_here()

    @property
    def decoder(self) -> decoding.Decoder:
        """Greedy, and without a token that ends a reply."""
        return decoding.Decoder(self.model, self.mesh, GREEDY, (), self.one_by_one)

    @functools.cached_property
    def given(self) -> tuple[Any, ...]:
        """The prompts, on the device."""
        made = prompts(self.model.config.vocab_size, self.batch, self.width)
        return sharding.place_batch(made, self.mesh)

    def reader(self) -> Any:
        """`decoding.prefill` of shapes."""
        shapes = bench.shapes_of(self.model, self.mesh)
        return decoding.prefill.lower(self.decoder, shapes, *self.given, WORDS)

    def writer(self) -> Any:
        """`decoding.decode` of shapes."""
        shapes = bench.shapes_of(self.model, self.mesh)
        part = jax.eval_shape(
            functools.partial(decoding.prefill, self.decoder), shapes, *self.given, WORDS
        )
        rows = jax.eval_shape(self.started, part)
        return decoding.decode.lower(self.decoder, shapes, rows, 1, 0, WORDS)

    def started(self, part: Any) -> decoding.Rows:
        """Replies of one token, of what was read."""
        return decoding.gather(self.decoder, self.new, (self.batch,), [part], *self.given[1:])


def replies(about: Bench, batch: int, one_by_one: bool, attention: str = "auto") -> Replies:
    """The prompts of a case."""
    width, new = (16, 8) if about.small else (WIDTH, NEW)
    model = Transformer(about.config("8B"), attention=attention)
    return Replies(model, batch, width, new, one_by_one)


def measure(about: Bench, batch: int, one_by_one: bool, attention: str = "auto") -> Row:
    """Figures of reading prompts, and of going on until every reply has all its tokens."""
    to_do = replies(about, batch, one_by_one, attention)
    reader, reading = bench.compiled(to_do.reader)
    writer, writing = bench.compiled(to_do.writer)
    params = bench.random_weights(to_do.model, to_do.mesh)
    before = bench.peak_bytes()

    def read() -> Any:
        return reader(params, *to_do.given, WORDS)

    prefill = bench.median_seconds(read, WARMUP, REPEATS)
    seconds = decoded(writer, params, lambda: to_do.started(read()))
    steps = to_do.new - 1  # the first token is the prefill's
    bound = bench.share(read_bytes(to_do.model, params), about.bandwidth)  # seconds a token
    return {
        "prefill by": bench.kernel_of(to_do.model, to_do.width, packed=False),
        "prefill s": prefill,
        "prefill tokens/s": batch * to_do.width / prefill,
        "tokens/s": batch * steps / seconds,
        "token ms": 1e3 * seconds / steps,
        "of the bandwidth": bound and bound * steps / seconds,
        "compile s": reading["compile s"] + writing["compile s"],
        "compiled GB": max(reading["compiled GB"], writing["compiled GB"]),
        "peak GB": bench.risen(before),
        "plan GB": bench.planned(to_do.model, "ask", batch, to_do.width, to_do.new),
    }


def decoded(writer: Any, params: Tree, start: Callable[[], decoding.Rows]) -> float:
    """Median seconds of going on from the first token to the last."""
    found = []
    for _ in range(WARMUP + REPEATS):
        rows = jax.block_until_ready(start())
        seconds, (step, rows) = bench.timed(functools.partial(writer, params, rows, 1, 0, WORDS))
        assert int(step) == rows.tokens.shape[1], step
        assert np.all(np.asarray(rows.tokens) >= 0), "the logits are not finite"
        found.append(seconds)
    return statistics.median(found[WARMUP:])


def cases(about: Bench) -> list[Case]:
    """Many prompts and one; layers in a scan, as on a GPU, and one by one, as on a CPU."""

    def made(batch: int, one_by_one: bool, needs: float, goal: str = "") -> Case:
        how = "layers one by one" if one_by_one else "layers in a scan"
        run = functools.partial(measure, about, min(batch, 4) if about.small else batch, one_by_one)
        tries: list[Mapping[str, Any]] = [{}] if about.small else [{}, {"attention": "xla"}]
        return Case("decode", f"8B, prompts {batch}, {how}", needs, run, tries, goal)

    goal = ">= 60 % of the bandwidth"
    return [made(64, False, 40, goal), made(64, True, 60, goal), made(1, False, 40)]
