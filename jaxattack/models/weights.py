"""Safetensors in and out: one table of weights, used in both directions.

A row says which Hugging Face tensor is behind one of our leaves. Ours stack the layers and split
merged axes, so `layers/attention/q` `[L, D, H, K]` is L tensors `[H*K, D]`, seen as `[H, K, D]`
and transposed. Loading asks the files only for the slices a process holds.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of ours and its tensors over there.

    `factors` groups the axes as the Hugging Face tensor merges them, in its order, each an axis
    of our leaf (without the layer axis): `((1, 2), (0,))` means `[H*K, D]` for our `[D, H, K]`.
    """

    path: str
    name: str  # with {} for the layer number if the leaf is stacked
    factors: tuple[tuple[int, ...], ...]

    @property
    def stacked(self) -> bool:
        """Whether our leaf has a leading layer axis."""
        return "{}" in self.name


# Our names of norms and theirs, by layout; a family has those its config asks for.
_NORMS = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
}
_SANDWICH_NORMS = {
    "attention_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "post_mlp_norm": "post_feedforward_layernorm",
}
_NAMES = {
    "model": "model.",
    "layer": "model.layers.{}.",
    "embed": "model.embed_tokens",
    "final_norm": "model.norm",
    "attention": "self_attn.",
    "o": "o_proj",
    "up": "up_proj",
    "down": "down_proj",
}
_BLOOM_NAMES = {
    "model": "transformer.",
    "layer": "transformer.h.{}.",
    "embed": "transformer.word_embeddings",
    "final_norm": "transformer.ln_f",
    "attention": "self_attention.",
    "o": "dense",
    "up": "dense_h_to_4h",
    "down": "dense_4h_to_h",
}


def rows(config: ModelConfig) -> list[Row]:
    """The weight table of a decoder."""
    theirs = _BLOOM_NAMES if config.family == "bloom" else _NAMES
    layer = theirs["layer"]
    attention, mlp = layer + theirs["attention"], layer + "mlp."
    table = [Row("embed", theirs["embed"] + ".weight", ((0,), (1,)))]

    def add(path: str, name: str, factors: tuple[tuple[int, ...], ...], bias: bool = False):
        """A kernel, and perhaps its bias, which has the kernel's first group of axes."""
        table.append(Row(path, name + ".weight", factors))
        if bias:
            outputs = tuple(range(len(factors[0])))
            table.append(Row(f"{path}_bias", name + ".bias", (outputs,)))

    biased = config.norm == "layer"
    add("final_norm", theirs["final_norm"], ((0,),), biased)
    if config.embed_norm:
        add("embed_norm", theirs["embed"] + "_layernorm", ((0,),), biased)
    norms = _SANDWICH_NORMS if config.post_norms else _NORMS
    for path, name in norms.items():
        add(f"layers/{path}", layer + name, ((0,),), biased)
    if config.fused_qkv:
        qkv = ((1, 2, 3), (0,))
        add("layers/attention/qkv", attention + "query_key_value", qkv, config.qkv_bias)
    else:
        for part in "qkv":
            name = f"{attention}{part}_proj"
            add(f"layers/attention/{part}", name, ((1, 2), (0,)), config.qkv_bias)
    if config.qk_norm:
        for part in "qk":
            add(f"layers/attention/{part}_norm", f"{attention}{part}_norm", ((0,),))
    add("layers/attention/o", attention + theirs["o"], ((2,), (0, 1)), config.o_bias)
    if config.gated:
        add("layers/mlp/gate", mlp + "gate_proj", ((1,), (0,)), config.mlp_bias)
    add("layers/mlp/up", mlp + theirs["up"], ((1,), (0,)), config.mlp_bias)
    add("layers/mlp/down", mlp + theirs["down"], ((1,), (0,)), config.mlp_bias)
    if not config.tied:
        table.append(Row("head", "lm_head.weight", ((0,), (1,))))
    return table


def hf_shape(row: Row, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of a row's tensors, given our leaf's shape."""
    ours = shape[1:] if row.stacked else shape
    return tuple(math.prod(ours[axis] for axis in group) for group in row.factors)


def to_ours(row: Row, tensor: np.ndarray, ours: Sequence[int]) -> np.ndarray:
    """One tensor in our axes; `ours` is our shape without the layer axis."""
    order = [axis for group in row.factors for axis in group]
    return tensor.reshape([ours[axis] for axis in order]).transpose(np.argsort(order))


def from_ours(row: Row, leaf: np.ndarray) -> np.ndarray:
    """One of our leaves (without the layer axis) as the tensor it came from."""
    order = [axis for group in row.factors for axis in group]
    return np.ascontiguousarray(leaf.transpose(order)).reshape(
        [math.prod(leaf.shape[axis] for axis in group) for group in row.factors]
    )


# --- Reading ------------------------------------------------------------------------------------


def locate(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Which file holds which tensor.

    Raises:
        UserError: no safetensors here, a file that the index names is absent, or one that is
            truncated.
    """
    index = directory / INDEX
    if index.is_file():
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = sorted(set(weight_map.values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index}: not a safetensors index ({error})") from error
        absent = [name for name in files if not (directory / name).is_file()]
        if absent:
            raise UserError(f"{index} names files that are not there: {', '.join(absent)}")
    elif (directory / SINGLE).is_file():
        files = [SINGLE]
    else:
        raise UserError(f"{directory}: neither {SINGLE} nor {INDEX} is here")
    found: dict[str, pathlib.Path] = {}
    for name in files:
        path = directory / name
        try:
            with safe_open(path, framework="numpy") as file:
                keys = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: truncated or not safetensors ({error})") from error
        twice = sorted(set(keys) & set(found))
        if twice:
            raise UserError(f"{path}: tensors that {found[twice[0]]} has too: {', '.join(twice)}")
        found |= dict.fromkeys(keys, path)
    return found


def rows_for(config: ModelConfig, files: Mapping[str, pathlib.Path]) -> list[Row]:
    """The weight table, with the names of a bare model (BLOOM's are published so) if need be."""
    prefix = (_BLOOM_NAMES if config.family == "bloom" else _NAMES)["model"]
    if any(name.startswith(prefix) for name in files):
        return rows(config)
    return [dataclasses.replace(row, name=row.name.removeprefix(prefix)) for row in rows(config)]


def check(directory: pathlib.Path, table: Sequence[Row], shapes: Mapping, files: Mapping) -> None:
    """Compare the table with the files both ways.

    Raises:
        UserError: lists weights that are missing, unused or of another shape.
    """
    expected = {}
    for row in table:
        layers = range(shapes[row.path][0]) if row.stacked else [None]
        for layer in layers:
            expected[row.name.format(layer)] = hf_shape(row, shapes[row.path])
    # Some checkpoints carry these, and nothing reads them.
    harmless = {name for name in files if name.endswith("rotary_emb.inv_freq")}
    if "lm_head.weight" not in expected:
        harmless.add("lm_head.weight")
    problems = []
    missing = sorted(set(expected) - set(files))
    unused = sorted(set(files) - set(expected) - harmless)
    if missing:
        problems.append(f"missing: {_some(missing)}")
    if unused:
        problems.append(f"unused: {_some(unused)}")
    wrong = []
    for path in sorted(set(files.values())):
        with safe_open(path, framework="numpy") as file:
            for name in sorted(n for n in set(expected) & set(files) if files[n] == path):
                shape = tuple(file.get_slice(name).get_shape())
                if shape != expected[name]:
                    wrong.append(f"{name} is {shape}, not {expected[name]}")
    if wrong:
        problems.append(f"wrong shape: {_some(wrong)}")
    if problems:
        raise UserError(f"{directory}: weights do not fit config.json; " + "; ".join(problems))


def _some(items: list[str], most: int = 6) -> str:
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest


def load(
    directory: pathlib.Path,
    config: ModelConfig,
    abstract: tree.Tree,
    shardings: tree.Tree,
    dtype: str,
) -> tree.Tree:
    """Read a checkpoint straight into sharded arrays.

    Args:
        directory: holds safetensors files.
        config: of the model.
        abstract: our parameter tree, as shapes.
        shardings: where each leaf goes.
        dtype: of the result, a key of `DTYPES`.

    Raises:
        UserError: files that are absent or damaged, weights that do not fit.
    """
    files = locate(directory)
    shapes = {name: leaf.shape for name, leaf in tree.named_leaves(abstract).items()}
    table = rows_for(config, files)
    check(directory, table, shapes, files)
    places = tree.named_leaves(shardings)
    leaves = {}
    for row in table:
        read = _reader(row, shapes[row.path], files, DTYPES[dtype])
        leaves[row.path] = jax.make_array_from_callback(
            shapes[row.path], places[row.path], cast(Any, read)
        )
    return tree.unflatten(leaves)


def _reader(
    row: Row, shape: tuple[int, ...], files: Mapping[str, pathlib.Path], dtype: type
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """A function from an index into our leaf to its values, reading no more rows than needed."""

    def read_one(out: np.ndarray, name: str, index: tuple[slice, ...]) -> None:
        # A slice of a group's first axis is a range of the merged axis; the others are cut after.
        ours = shape[1:] if row.stacked else shape
        spans, kept = [], list(index)
        sizes = list(ours)
        for group in row.factors:
            first, inner = group[0], math.prod(ours[axis] for axis in group[1:])
            start, stop, _ = index[first].indices(ours[first])
            spans.append(slice(start * inner, stop * inner))
            sizes[first], kept[first] = stop - start, slice(None)
        with safe_open(files[name], framework="numpy") as file:
            tensor = file.get_slice(name)[tuple(spans)]
        if len(row.factors) == 2 and row.factors[0][0] != 0 and out.size == tensor.size:
            _transpose(out.reshape(tensor.shape[::-1]), tensor)
        else:
            out[...] = to_ours(row, tensor, sizes)[tuple(kept)]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        sizes = [len(range(*cut.indices(size))) for cut, size in zip(index, shape, strict=True)]
        # Filled in place: np.stack would hold everything twice.
        whole = _aligned(sizes, dtype)
        if not row.stacked:
            read_one(whole, row.name, index)
            return whole
        layers = range(*index[0].indices(shape[0]))
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            names = [row.name.format(layer) for layer in layers]
            for _ in pool.map(lambda out, name: read_one(out, name, index[1:]), whole, names):
                pass
        return whole

    return read


_READERS = 4  # threads; copying frees the interpreter


def _transpose(out: np.ndarray, matrix: np.ndarray, rows: int = 64) -> None:
    """`out[...] = matrix.T` by blocks of rows that stay in cache: five times numpy's speed."""
    for start in range(0, len(matrix), rows):
        out[:, start : start + rows] = matrix[start : start + rows].T


def _aligned(shape: Sequence[int], dtype: type) -> np.ndarray:
    """An empty array at a multiple of 64 bytes, which jax on a CPU takes over without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size].view(dtype).reshape(shape)


# --- Writing ------------------------------------------------------------------------------------


def save(directory: pathlib.Path, config: ModelConfig, params: tree.Tree, max_bytes: int) -> None:
    """Write `params` as safetensors, in several files with an index above `max_bytes`."""
    leaves = tree.named_leaves(params)
    shards: list[dict[str, np.ndarray]] = [{}]
    size = total = 0
    for row in rows(config):
        leaf = np.asarray(leaves[row.path])
        parts = enumerate(leaf) if row.stacked else [(0, leaf)]
        for layer, part in parts:
            tensor = from_ours(row, part)
            if size and size + tensor.nbytes > max_bytes:
                shards.append({})
                size = 0
            shards[-1][row.name.format(layer)] = tensor
            size += tensor.nbytes
            total += tensor.nbytes
    metadata = {"format": "pt"}  # transformers asks for it; the layout is the same
    if len(shards) == 1:
        save_file(shards[0], directory / SINGLE, metadata)
        return
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards):
        name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, directory / name, metadata)
        weight_map |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")
