"""What the parts of the GPU benchmark share: shapes, weights made in place, clocks, memory."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.experiments.devices import DEVICES, KINDS
from jaxattack.models import kernels
from jaxattack.models.config import ModelConfig
from jaxattack.models.families import from_hf
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.tree import Tree

Row = dict[str, Any]

LLAMA = {
    "model_type": "llama",
    "vocab_size": 128256,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
}
ROPE = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHAPES: dict[str, dict[str, Any]] = {  # of Llama 3.2 1B and Llama 3.1 8B
    "1B": LLAMA
    | {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "tie_word_embeddings": True,
        "rope_scaling": ROPE | {"factor": 32.0},
    },
    "8B": LLAMA
    | {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "tie_word_embeddings": False,
        "rope_scaling": ROPE | {"factor": 8.0},
    },
}
SMALL = {  # instead of these sizes
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
STD = 0.02  # of random weights


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where and how large everything is.

    Attributes:
        small: in miniature, for a CPU.
        ends: when the time is up, on `time.monotonic`.
        device: a name in `DEVICES`, or None.
    """

    small: bool
    ends: float
    device: str | None

    @property
    def peak(self) -> float | None:
        """Dense bf16 FLOP/s of the device."""
        return DEVICES[self.device][0] if self.device else None

    @property
    def bandwidth(self) -> float | None:
        """Bytes/s of the device's memory."""
        return DEVICES[self.device][1] if self.device else None

    @property
    def left(self) -> float:
        """Seconds until the time is up."""
        return self.ends - time.monotonic()

    def config(self, shape: str) -> ModelConfig:
        """The shape "1B" or "8B", or its miniature."""
        return from_hf(SHAPES[shape] | (SMALL if self.small else {}))


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        part: of the benchmark, for `--only`.
        name: of the case.
        needs: seconds without which it is not begun, on an H100.
        run: gives the figures; takes what an attempt says.
        attempts: what is tried one after the other until one does not fail.
        goal: in words.
    """

    part: str
    name: str
    needs: float
    run: Callable[..., Row]
    attempts: Sequence[Mapping[str, Any]] = ({},)
    goal: str = ""


def device_here() -> str | None:
    """The name in `DEVICES` of what jax runs on; None if its peak is not known."""
    return KINDS.get(jax.devices()[0].device_kind)


def mesh_here() -> Mesh:
    """One device."""
    return sharding.make_mesh((1, 1, 1), jax.devices()[:1])


def placed(abstract: Tree, mesh: Mesh) -> Tree:
    """Shapes that know where they will be, to compile for."""
    return jax.tree.map(
        lambda like, place: jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=place),
        abstract,
        sharding.shardings(abstract, mesh),
    )


def shapes_of(model: Transformer, mesh: Mesh, dtype: Any = jnp.bfloat16) -> Tree:
    """The parameters' shapes in a type, placed."""
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), abstract_params(model))
    return placed(like, mesh)


def random_weights(model: Transformer, mesh: Mesh, seed: int = 0) -> Tree:
    """Normal weights in bfloat16, norms at 1; made on the device, a leaf after the other."""
    shapes = tree.named_leaves(shapes_of(model, mesh))
    keys = jax.random.split(jax.random.key(seed, impl="rbg"), len(shapes))

    def made(name: str, like: Any, key: jax.Array) -> jax.Array:
        def draw(key):
            if "norm" in name:
                return jnp.ones(like.shape, like.dtype)
            return jax.random.normal(key, like.shape, like.dtype) * STD

        return jax.jit(draw, out_shardings=like.sharding)(key)

    pairs = zip(shapes.items(), keys, strict=True)
    return tree.unflatten({name: made(name, like, key) for (name, like), key in pairs})


def compiled(lower: Callable[[], Any]) -> tuple[Any, Row]:
    """A program, the seconds its compilation took and the bytes that it holds."""
    start = time.perf_counter()
    program = lower().compile()
    seconds = time.perf_counter() - start
    return program, {"compile s": seconds, "compiled GB": held_bytes(program) / 1e9}


def held_bytes(program: Any) -> int:
    """Bytes of a program's arguments, results and everything between, by XLA's own count."""
    memory = program.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return kept - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def median_seconds(step: Callable[[], Any], warmup: int, repeats: int) -> float:
    """Median seconds of a step and of what it returns."""
    return statistics.median([timed(step)[0] for _ in range(warmup + repeats)][warmup:])


def timed(step: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a step until all that it returns is there, and that."""
    start = time.perf_counter()
    found = jax.block_until_ready(step())
    return time.perf_counter() - start, found


def peak_bytes() -> int:
    """Most bytes that were ever in use on the device; 0 where jax does not say (a CPU)."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", 0)


def risen(before: int) -> float | None:
    """Peak in GB if it has risen since it was `before`; else None, for it is never reset."""
    after = peak_bytes()
    return after / 1e9 if after > before else None


def kernel_of(model: Transformer, length: int, packed: bool) -> str:
    """The kernel that reads rows of a length in bfloat16."""
    if model.attention != "auto":
        return model.attention
    backend = jax.default_backend()
    return kernels.choose(backend, model.config, jnp.dtype("bfloat16"), length, length, packed)


def share(value: float, most: float | None) -> float | None:
    """`value` of `most`, or None if that is not known."""
    return None if most is None else value / most


def planned(
    model: Transformer, sort: str, rows: int, length: int, reply: int = 1, **training: Any
) -> float | None:
    """GB that `footprint.memory` counts for a sort of stage; None if its packages are not here.

    Args:
        model: the decoder.
        sort: of stage, a key of `footprint.HELD`.
        rows: trained on, scored or asked at once.
        length: of a row or prompt in tokens.
        reply: tokens of a longest one.
        training: `weights`, `optimizer` and `rank` of `footprint.Shape`.
    """
    try:
        from jaxattack.experiments import footprint
    except ModuleNotFoundError:
        return None
    mesh = sharding.planned_mesh((1, 1, 1))
    abstract = abstract_params(model)
    shape = footprint.Shape(model.config, abstract, mesh, "bfloat16", model.remat, **training)
    found = footprint.memory(shape, footprint.Tokens(length, length, reply), rows, rows, rows)
    return sum(found[sort].values()) / 1e9
