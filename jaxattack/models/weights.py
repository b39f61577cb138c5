"""Safetensors in and out, by the weight table; a process reads only the slices it holds."""

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

from jaxattack import distributed, sharding, tree
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig
from jaxattack.models.table import Row, from_ours, hf_shape, model_prefix, rows, to_ours

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
# As safetensors spells them.
FILE_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
}


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
    prefix = model_prefix(config)
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
    views = _views(files)
    leaves = {}
    for row in table:
        read = _reader(row, shapes[row.path], views, DTYPES[dtype])
        leaves[row.path] = jax.make_array_from_callback(
            shapes[row.path], places[row.path], cast(Any, read)
        )
    return tree.unflatten(leaves)


def _views(files: Mapping[str, pathlib.Path]) -> dict[str, np.ndarray]:
    """Every tensor where it lies in its mapped file; a slice of safetensors' would be a copy.

    Raises:
        UserError: a tensor's values are no floating-point numbers that we read.
    """
    found = {}
    for path in sorted(set(files.values())):
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        for name, about in header.items():
            if about["dtype"] not in FILE_DTYPES:
                raise UserError(
                    f"{path}: {name} holds {about['dtype']}; only {', '.join(FILE_DTYPES)} are read"
                )
            first, last = about["data_offsets"]
            values = data[start + first : start + last].view(FILE_DTYPES[about["dtype"]])
            found[name] = values.reshape(about["shape"])
    return found


def _reader(
    row: Row, shape: tuple[int, ...], views: Mapping[str, np.ndarray], dtype: type
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
        tensor = views[name][tuple(spans)]
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
    """`out[...] = matrix.T`, several times as fast as numpy.

    A few rows at a time, from a copy with 64 bytes between them: rows a power of two apart, as
    most are, would push each other out of the cache.
    """
    width = matrix.shape[1]
    block = np.empty((rows, width + 64 // out.itemsize), out.dtype)
    for start in range(0, len(matrix), rows):
        part = matrix[start : start + rows]
        block[: len(part), :width] = part
        out[:, start : start + rows] = block[: len(part), :width].T


def _aligned(shape: Sequence[int], dtype: type) -> np.ndarray:
    """An empty array at a multiple of 64 bytes, which jax on a CPU takes over without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size].view(dtype).reshape(shape)


# --- Writing ------------------------------------------------------------------------------------


def save(directory: pathlib.Path, config: ModelConfig, params: tree.Tree, max_bytes: int) -> None:
    """Write `params` as safetensors, in several files with an index above `max_bytes`.

    One file's tensors are on the host at a time. Of several processes all have to call it, and
    the first one writes.
    """
    leaves = tree.named_leaves(params)
    files = _plan(rows(config), leaves, max_bytes)
    names = [SINGLE]
    if len(files) > 1:
        names = [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    weight_map: dict[str, str] = {}
    total = 0
    for name, members in zip(names, files, strict=True):
        tensors = {}
        for row, layer in members:
            leaf = leaves[row.path]
            part = sharding.to_host(leaf[layer] if row.stacked else leaf)
            tensors[row.name.format(layer)] = from_ours(row, part)
        if distributed.is_first():
            # transformers asks for this word; the layout is the same
            save_file(tensors, directory / name, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(files) > 1 and distributed.is_first():
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True)
        (directory / INDEX).write_text(text, encoding="utf-8")


def _plan(
    table: Sequence[Row], leaves: Mapping[str, Any], max_bytes: int
) -> list[list[tuple[Row, int]]]:
    """Which rows' layers go into which file, none larger than `max_bytes` if it can be helped."""
    files: list[list[tuple[Row, int]]] = [[]]
    size = 0
    for row in table:
        leaf = leaves[row.path]
        layers = leaf.shape[0] if row.stacked else 1
        nbytes = math.prod(leaf.shape) * leaf.dtype.itemsize // layers
        for layer in range(layers):
            if size and size + nbytes > max_bytes:
                files.append([])
                size = 0
            files[-1].append((row, layer))
            size += nbytes
    return files
