"""The kernels of attention beside XLA's plain program in float32, forward and backward.

As the library uses them: grouped heads, causal within packed segments, left-padded prompts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu import bench
from benchmarks.gpu.bench import Bench, Case, Row
from jaxattack.models import attention, kernels
from jaxattack.models.transformer import Transformer
from jaxattack.train import losses
from jaxattack.tree import Tree

# Largest difference, as a share of the reference's largest entry: bfloat16 has 8 bits, and float32
# products go through 10 bits (TF32) where nothing else is asked for.
BOUNDS = {"bfloat16": 2e-2, "float32": 5e-3}
MODEL_BOUND = 5e-2  # of a gradient as a whole, through two layers in bfloat16
WARMUP, REPEATS = 2, 7

Inputs = tuple[jax.Array, jax.Array, jax.Array]  # q [B, T, H, D], k and v [B, K, T, D]
Attend = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class Seen:
    """Who sees whom, and what of it counts.

    Attributes:
        mask: bool `[B, T, T]`.
        real: bool `[B, T]`; other queries are padding.
        lengths: of the rows, if all of them are one segment and padding behind it.
    """

    mask: jax.Array
    real: jax.Array
    lengths: jax.Array | None = None


jax.tree_util.register_dataclass(Seen)


def packed(rows: int, length: int) -> Seen:
    """Three segments a row, of other lengths in each, and padding behind them."""
    ends = jnp.array([0.2, 0.5, 0.9]) * length
    ends = ends - jnp.arange(rows)[:, None] % 8
    places = jnp.arange(length)[None, :, None]
    segments = jnp.sum(places < ends[:, None], axis=2)  # 3, 2, 1, then 0
    return Seen(attention.causal_mask(segments), segments > 0)


def padded_right(rows: int, length: int) -> Seen:
    """One segment a row and padding behind it."""
    lengths = (length - jnp.arange(rows) * length // (2 * rows)).astype(jnp.int32)
    real = jnp.arange(length) < lengths[:, None]
    return Seen(attention.causal_mask(real.astype(jnp.int32)), real, lengths)


def padded_left(rows: int, length: int) -> Seen:
    """As `decoding.forward` reads prompts: a padded query sees itself alone."""
    starts = jnp.arange(rows) * length // (2 * rows)
    here = jnp.arange(length)
    seen = (here >= starts[:, None])[:, None] | (here == here[:, None])[None]
    return Seen(seen & (here <= here[:, None])[None], here >= starts[:, None])


PLACES = {
    "packed segments": packed,
    "padding on the right": padded_right,
    "padding on the left": padded_left,
}


def plain(q: jax.Array, k: jax.Array, v: jax.Array, seen: Seen, scale: float) -> jax.Array:
    """`attention.attend`."""
    return attention.attend(q, k, v, seen.mask, scale)


def fused(
    q: jax.Array, k: jax.Array, v: jax.Array, seen: Seen, scale: float, implementation: Any
) -> jax.Array:
    """The library's way to cuDNN: a mask."""
    return kernels.by_dot_product_attention(q, k, v, seen.mask, scale, implementation)


def by_lengths(
    q: jax.Array, k: jax.Array, v: jax.Array, seen: Seen, scale: float, implementation: Any
) -> jax.Array:
    """Causal and lengths in place of a mask, which the library does not do."""
    return jax.nn.dot_product_attention(
        q,
        k.transpose(0, 2, 1, 3),
        v.transpose(0, 2, 1, 3),
        scale=scale,
        is_causal=True,
        query_seq_lengths=seen.lengths,
        key_value_seq_lengths=seen.lengths,
        implementation=implementation,
    )


def inputs(rows: int, length: int, heads: int, kv_heads: int, size: int) -> tuple[Inputs, Any]:
    """Random q, k and v in bfloat16, and a gradient by the output."""
    shapes = [(rows, length, heads, size), *[(rows, kv_heads, length, size)] * 2]
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (
        jax.random.normal(key, shape, jnp.bfloat16)
        for key, shape in zip(keys, shapes, strict=False)
    )
    return (q, k, v), jax.random.normal(keys[3], shapes[0], jnp.bfloat16)


def both_ways(attend: Attend, scale: float, dtype: str) -> Callable[..., Any]:
    """A compiled function of places, inputs, a gradient: outputs and gradients by q, k, v."""

    @jax.jit
    def run(seen: Seen, given: Inputs, cotangent: jax.Array) -> tuple[jax.Array, Inputs]:
        def real(*given):
            out = attend(*given, seen, scale)
            return jnp.where(seen.real[:, :, None, None], out, 0)

        given = jax.tree.map(lambda a: a.astype(dtype), given)
        out, back = jax.vjp(real, *given)
        return out, back(cotangent.astype(dtype))

    return run


def furthest(found: Tree, reference: Tree) -> float:
    """Largest difference of two trees, as a share of the largest entry of its leaf."""

    def of_leaf(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))

    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(reference), strict=True)
    shares = [float(of_leaf(*pair)) for pair in leaves]
    return max(share if share == share else float("inf") for share in shares)


def measure(where: str, shape: tuple[int, int, int, int, int], attend: Attend, dtype: str) -> Row:
    """How far a kernel is from the reference, and how long both ways take."""
    seen, scale = PLACES[where](*shape[:2]), shape[-1] ** -0.5
    given = inputs(*shape)
    with jax.default_matmul_precision("highest"):
        exact = both_ways(plain, scale, "float32")(seen, *given)
    run = both_ways(attend, scale, dtype)
    out, gradients = run(seen, *given)
    forward, gradient = furthest(out, exact[0]), furthest(gradients, exact[1])
    return {
        "forward off by": forward,
        "gradient off by": gradient,
        "ok": max(forward, gradient) <= BOUNDS[dtype],
        "both ways ms": 1e3 * bench.median_seconds(lambda: run(seen, *given), WARMUP, REPEATS),
    }


def measure_model(about: Bench, kernel: str) -> Row:
    """Loss and gradient of two layers of the 8B shape with a kernel, and with XLA's program."""
    config = dataclasses.replace(about.config("8B"), num_layers=2)
    mesh = bench.mesh_here()
    params = bench.random_weights(Transformer(config), mesh)
    rows, length = (2, 32) if about.small else (4, 512)
    tokens = jax.random.randint(jax.random.key(1), (rows, length), 0, config.vocab_size)
    segments = jnp.where(jnp.arange(length) < length // 3, 1, 2) * jnp.ones((rows, 1), jnp.int32)
    batch = {"tokens": tokens, "loss_mask": jnp.ones((rows, length)), "segment_ids": segments}

    def found(attention: str) -> tuple[jax.Array, Tree]:
        model = Transformer(config, remat="full", attention=attention)
        loss = jax.jit(jax.value_and_grad(functools.partial(losses.answer_loss, model)))
        return loss(params, batch)

    (loss, gradient), (other, reference) = found(kernel), found("xla")
    off = max(
        float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel()))
        for a, b in zip(
            jax.tree.leaves(jax.tree.map(lambda a: a.astype(jnp.float32), gradient)),
            jax.tree.leaves(jax.tree.map(lambda a: a.astype(jnp.float32), reference)),
            strict=True,
        )
    )
    forward = abs(float(loss) / float(other) - 1)
    ok = forward <= BOUNDS["bfloat16"] and off <= MODEL_BOUND
    return {"forward off by": forward, "gradient off by": off, "ok": ok}


def cases(about: Bench) -> list[Case]:
    """Every kernel wherever the library uses it."""
    there = jax.default_backend() == "gpu"
    kernel: Any = "cudnn" if there else "xla"
    sizes = {"8B heads": (16, 512, 32, 8, 128), "1B heads": (16, 512, 32, 8, 64)}
    long = {"8B heads, 2048": (4, 2048, 32, 8, 128)}
    if about.small:
        sizes, long = {"8B heads": (2, 32, 4, 2, 16)}, {}
    way = functools.partial(fused, implementation=kernel)
    ways: list[tuple[str, Attend, str]] = [
        (f"{kernel} by a mask", way, "bfloat16"),
        ("plain", plain, "bfloat16"),
        ("plain", plain, "float32"),
    ]
    lengths = functools.partial(by_lengths, implementation=kernel)

    def made(where: str, size: str, shape: Any, name: str, attend: Attend, dtype: str) -> Case:
        run = functools.partial(measure, where, shape, attend, dtype)
        goal = f"<= {BOUNDS[dtype]:g}"
        return Case("parity", f"{where}, {size}: {name}, {dtype}", 10, run, goal=goal)

    first, second = "packed segments", "padding on the right"
    found = [
        Case("parity", "two layers: " + kernel, 20, functools.partial(measure_model, about, kernel))
    ]
    found += [made(first, "8B heads", sizes["8B heads"], *each) for each in ways]
    found += [made("padding on the left", "8B heads", sizes["8B heads"], *ways[0])]
    found += [made(first, size, shape, *ways[0]) for size, shape in list(sizes.items())[1:]]
    for size, shape in long.items():
        found += [made(first, size, shape, *each) for each in ways[:2]]
        found += [made(second, size, shape, f"{kernel} by lengths", lengths, "bfloat16")]
    return [*found, made(second, "8B heads", sizes["8B heads"], "by lengths", lengths, "bfloat16")]
