"""Safetensors in and out, by the weight table; a process reads only the slices it holds."""

from __future__ import annotations

import concurrent.futures
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import ml_dtypes
import numpy as np
from jax.experimental import multihost_utils
from safetensors.numpy import save_file

from jaxattack import distributed, sharding, tree
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig
from jaxattack.models.folder import INDEX, SINGLE
from jaxattack.models.layout import check_directory, heads, some
from jaxattack.models.table import Row, from_ours, rows, to_ours

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
# As safetensors spells them.
FILE_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
}


# --- Reading ------------------------------------------------------------------------------------


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
    files, table = check_directory(directory, config, abstract)
    shapes = {name: leaf.shape for name, leaf in tree.named_leaves(abstract).items()}
    places = tree.named_leaves(shardings)
    views = _views(files, table)
    _check_tied(directory, config, table, views)
    leaves = {}
    unsound: list[str] = []
    for row in table:
        read = _reader(row, shapes[row.path], views, DTYPES[dtype], unsound)
        leaves[row.path] = jax.make_array_from_callback(
            shapes[row.path], places[row.path], cast(Any, read)
        )
    _refuse_together(directory, sorted(unsound), dtype)
    return tree.unflatten(leaves)


def _check_tied(
    directory: pathlib.Path, config: ModelConfig, table: Sequence[Row], views: Mapping
) -> None:
    """Refuse a tied model whose file has a head of its own: transformers would not tie it."""
    embedding = table[0].name
    for head in heads(views) if config.tied else ():
        if head != embedding and not _same(views[head], views[embedding]):
            raise UserError(
                f"{directory}: tie_word_embeddings is true, but {head} is not {embedding}; if the "
                "head is a trained one, set it to false in config.json"
            )


def _same(a: np.ndarray, b: np.ndarray, rows: int = 1024) -> bool:
    """Whether two matrices have the same numbers, whatever they are stored as."""
    return a.shape == b.shape and all(
        np.array_equal(a[i : i + rows], b[i : i + rows]) for i in range(0, len(a), rows)
    )


def _refuse_together(directory: pathlib.Path, unsound: Sequence[str], dtype: str) -> None:
    """Refuse weights that are NaN or infinite, in all processes if one has read such."""
    found = len(unsound)
    if distributed.several():
        found = int(np.max(multihost_utils.process_allgather(np.int32(found))))
    if found:
        where = some(list(unsound)) or "what another process reads"
        raise UserError(
            f"{directory}: NaN or infinity in {where}, read as {dtype}; the checkpoint is "
            "damaged, or its training has diverged"
        )


def _views(files: Mapping[str, pathlib.Path], table: Sequence[Row]) -> dict[str, np.ndarray]:
    """Tensors where they lie in their mapped files; a slice of safetensors' would be a copy.

    Raises:
        UserError: a tensor's values are no floating-point numbers that we read.
    """
    found = {}
    layers = range(len(files))
    needed = {row.name.format(i) for row in table for i in (layers if row.stacked else [0])}
    needed |= set(heads(files))
    for path in sorted(set(files.values())):
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        for name, about in header.items():
            if name not in needed:
                continue
            if about["dtype"] not in FILE_DTYPES:
                raise UserError(
                    f"{path}: {name} holds {about['dtype']}; only {', '.join(FILE_DTYPES)} are read"
                )
            first, last = about["data_offsets"]
            values = data[start + first : start + last].view(FILE_DTYPES[about["dtype"]])
            found[name] = values.reshape(about["shape"])
    return found


def _reader(
    row: Row,
    shape: tuple[int, ...],
    views: Mapping[str, np.ndarray],
    dtype: type,
    unsound: list[str],
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """A function from an index into our leaf to its values, reading no more rows than needed.

    Names of tensors that are not finite go into `unsound`.
    """

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
        with np.errstate(over="ignore", invalid="ignore"):  # it is seen below
            if len(row.factors) == 2 and row.factors[0][0] != 0 and out.size == tensor.size:
                _transpose(out.reshape(tensor.shape[::-1]), tensor)
            else:
                out[...] = to_ours(row, tensor, sizes)[tuple(kept)]
        if not _finite(out):
            unsound.append(name)

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
_CHUNK = 1 << 18  # entries that are looked at together: they stay in the cache
_EXPONENTS = {"bfloat16": np.uint16(0x7F80), "float16": np.uint16(0x7C00)}


def _finite(values: np.ndarray) -> bool:
    """Whether no entry is NaN or infinite; half precision has all bits of its exponent set then."""
    flat = values.reshape(-1)
    exponent = _EXPONENTS.get(values.dtype.name)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        if exponent is None:
            sound = np.isfinite(part).all()
        else:
            sound = ((part.view(np.uint16) & exponent) != exponent).all()
        if not sound:
            return False
    return True


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
