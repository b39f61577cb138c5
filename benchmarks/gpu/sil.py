"""SIL's gradients of the 8B shape: the mean of their sizes over pairs of 200 tokens."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu import bench
from benchmarks.gpu.bench import Bench, Case, Row
from jaxattack import sharding
from jaxattack.localize import batched, scores
from jaxattack.models.transformer import Transformer
from jaxattack.tree import Tree

WARMUP, REPEATS = 1, 5
LENGTH, ANSWER = 200, 100


@dataclasses.dataclass(frozen=True)
class Pass:
    """The sums of some examples' gradients, to be added to, as `scores.gradient_moments` does."""

    model: Transformer
    rows: int
    length: int
    answer: int

    @functools.cached_property
    def mesh(self) -> Any:
        """One device."""
        return bench.mesh_here()

    def batch(self) -> Tree:
        """Random tokens; the last ones of each row are its answer."""
        rng = np.random.default_rng(0)
        shape = self.rows, self.length
        loss_mask = np.zeros(shape, np.float32)
        loss_mask[:, -self.answer :] = 1
        tokens = rng.integers(0, self.model.config.vocab_size, shape, dtype=np.int32)
        segments = np.ones(shape, np.int32)
        batch = {"tokens": tokens, "loss_mask": loss_mask, "segment_ids": segments}
        return sharding.place_batch(batch, self.mesh)

    def lowered(self) -> Any:
        """The pass of shapes; nothing is allocated but a batch."""
        params = bench.shapes_of(self.model, self.mesh)
        totals = {"abs": bench.shapes_of(self.model, self.mesh, jnp.float32)}
        most = -(-self.answer // 8) * 8
        return batched.accumulate.lower(self.model, self.mesh, most, totals, params, self.batch())

    def zeros(self) -> dict[str, Tree]:
        """Sums of nothing."""
        shapes = bench.shapes_of(self.model, self.mesh, jnp.float32)
        return {"abs": jax.tree.map(lambda a: jnp.zeros(a.shape, device=a.sharding), shapes)}


def measure(about: Bench, rows: int, attention: str = "auto") -> Row:
    """Figures of the passes, and of the product with an attack vector, leaf by leaf."""
    length, answer = (24, 12) if about.small else (LENGTH, ANSWER)
    model = Transformer(about.config("8B"), remat="full", attention=attention)
    one = Pass(model, rows, length, answer)
    program, found = bench.compiled(one.lowered)
    params, totals, batch = bench.random_weights(one.model, one.mesh), one.zeros(), one.batch()
    before = bench.peak_bytes()

    def once() -> jax.Array:
        nonlocal totals
        totals = program(totals, params, batch)
        return totals["abs"]["final_norm"]

    seconds = bench.median_seconds(once, WARMUP, REPEATS)
    sums = np.asarray(totals["abs"]["final_norm"])
    assert np.all(np.isfinite(sums)), sums
    assert np.max(sums) > 0, sums
    return found | {
        "rows": rows,
        "attention": bench.kernel_of(model, length, packed=True),
        "s for 100 pairs": seconds * 100 / rows,
        "peak GB": bench.risen(before),
        "plan GB": bench.planned(one.model, "score", rows, length),
        "product s": product_seconds(params, totals.pop("abs")),
    }


def product_seconds(params: Tree, totals: Tree) -> float:
    """Seconds of SIL's product, in the place of what it is made of, leaf by leaf."""
    product = jax.jit(
        lambda total, before, after: scores.size_of_product(
            scores.attack_vector(after, before), total
        ),
        donate_argnums=0,
    )
    before, sums = jax.tree.leaves(params), jax.tree.leaves(totals)
    del params, totals

    def all_leaves() -> list[jax.Array]:
        found = []
        for leaf in before:
            found.append(product(sums.pop(0), leaf, leaf))
        sums.extend(found)
        return found

    return bench.median_seconds(all_leaves, 1, 2)


def cases(about: Bench) -> list[Case]:
    """With fewer examples at a time if they do not fit, and without cuDNN if that fails."""
    tries: list[Mapping[str, Any]] = [{"rows": 2 if about.small else 16}]
    if not about.small:
        tries += [{"rows": 8}, {"rows": 8, "attention": "xla"}]
    run = functools.partial(measure, about)
    return [Case("sil", f"8B, pairs of {LENGTH} tokens", 60, run, tries)]
