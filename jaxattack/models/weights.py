"""Safetensors in and out, by the weight table; a process reads only the slices it holds."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import ml_dtypes
import numpy as np
from jax.experimental import multihost_utils
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxattack import distributed, sharding, tree
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig
from jaxattack.models.folder import INDEX, POINTER, SINGLE, not_here, read_json
from jaxattack.models.table import Row, from_ours, hf_shape, model_prefix, rows, to_ours

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
    """Which file holds which tensor; a single file is taken before an index, as by transformers.

    Raises:
        UserError: no safetensors here, a file that the index names is absent or lies elsewhere, or
            one that is truncated.
    """
    if (directory / SINGLE).is_file():
        files = [SINGLE]
    elif (directory / INDEX).is_file():
        files = _indexed(directory)
    else:
        raise not_here(directory, f"neither {SINGLE} nor {INDEX} is here")
    found: dict[str, pathlib.Path] = {}
    for name in files:
        path = directory / name
        try:
            with safe_open(path, framework="numpy") as file:
                keys = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: {_not_safetensors(path, error)}") from error
        twice = sorted(set(keys) & set(found))
        if twice:
            raise UserError(f"{path}: tensors that {found[twice[0]]} has too: {_some(twice)}")
        found |= dict.fromkeys(keys, path)
    return found


def _indexed(directory: pathlib.Path) -> list[str]:
    """The files that the index names: all there, and within the folder or the hub's cache."""
    index = directory / INDEX
    try:
        files = sorted(set(read_json(index)["weight_map"].values()))
        paths = [directory / name for name in files]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: not a safetensors index ({error!r})") from error
    except UserError as error:
        raise UserError(f"{index}: not a safetensors index ({error})") from error
    home = directory.resolve()
    for name, path in zip(files, paths, strict=True):
        target = path.resolve()
        # A snapshot of the hub's cache has links to files named by their hash, two folders up.
        cached = path.is_symlink() and target.parent == home.parent.parent / "blobs"
        if "\0" in name or not (target.is_relative_to(home) or cached):
            raise UserError(f"{index}: names {name!r}, which lies outside of the folder")
    absent = [name for name, path in zip(files, paths, strict=True) if not path.is_file()]
    if absent:
        raise UserError(f"{index} names files that are not there: {_some(absent)}")
    return files


def _not_safetensors(path: pathlib.Path, error: Exception) -> str:
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            return "a pointer to a file that Git LFS has not fetched; run `git lfs pull` there"
    return f"truncated or not safetensors ({error})"


# How the text model's names begin in a model around it, as the hub has it and as transformers does.
_WRAPPERS = ("language_model.model.", "model.language_model.")
_AROUND = ("vision_tower.", "multi_modal_projector.")


def rows_for(config: ModelConfig, files: Mapping[str, Any]) -> list[Row]:
    """The weight table, with the names that these files have.

    Those may be the names of a bare model (BLOOM's are published so) or of a Gemma 3 within its
    multimodal model. Of a tied pair the file may have either.
    """
    prefix, table = model_prefix(config), rows(config)

    def renamed(old: str, new: str) -> list[Row]:
        return [dataclasses.replace(row, name=re.sub(f"^{re.escape(old)}", new, row.name))
                for row in table]  # fmt: skip

    wrappers = _WRAPPERS if config.family == "gemma3_text" else ()
    for around in wrappers:
        if any(name.startswith(around) for name in files):
            table = renamed(prefix, around)
    if any(row.name.format(0) in files for row in renamed(prefix, "") if row.path != "head"):
        table = renamed(prefix, "")
    if "language_model.lm_head.weight" in files:
        table = renamed("lm_head", "language_model.lm_head")
    if config.tied and table[0].name not in files and _heads(files):
        table[0] = dataclasses.replace(table[0], name=_heads(files)[0])
    return table


def _heads(files: Mapping[str, Any]) -> list[str]:
    return [name for name in ("lm_head.weight", "language_model.lm_head.weight") if name in files]


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
    problems = []
    missing = sorted(set(expected) - set(files))
    unused = sorted(name for name in set(files) - set(expected) if not _harmless(name, expected))
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
        raise UserError(
            f"{directory}: weights do not fit config.json; {_hint(missing, unused)}"
            + "; ".join(problems)
        )


def _harmless(name: str, expected: Mapping) -> bool:
    """Whether nothing reads a tensor that some checkpoints carry."""
    if name.endswith("rotary_emb.inv_freq"):
        return True
    if name.endswith("lm_head.weight"):  # of a tied model; `_check_tied` compares them
        return "lm_head.weight" not in expected and f"language_model.{name}" not in expected
    within = any(other.startswith(_WRAPPERS) for other in expected)
    return within and name.removeprefix("model.").startswith(_AROUND)


def _hint(missing: Sequence[str], unused: Sequence[str]) -> str:
    """What a misfit of this kind comes from and what to do about it, if that can be told."""
    if any("lora_" in name for name in unused):
        return "a LoRA adapter's are among them: merge it (peft: merge_and_unload) and save; "
    if any(name.endswith(_QUANTISED) for name in unused):
        return "they are quantised: give the checkpoint they were made from; "
    if missing and any("language_model." in name for name in unused):
        return "a text model within another, as of gemma3 only: save its language model alone; "
    first = {re.sub(r"(model|transformer|lm_head)\..*", "", name) for name in unused}
    prefix = next(iter(first)) if len(first) == 1 else ""
    if missing and prefix and not set(unused) & set(missing):
        by = {"_orig_mod.": ", as torch.compile names them", "module.": ", as wrappers name them"}
        return (
            f"all names begin with {prefix!r}{by.get(prefix, '')}: save the model inside, or "
            "rename them; "
        )
    if list(missing) == ["lm_head.weight"]:
        return "without a head a model writes no text: give the causal language model; "
    return ""


_QUANTISED = (
    ".qweight", ".qzeros", ".scales", ".g_idx", ".absmax", ".quant_map", ".weight_scale",
    ".weight_scale_inv", ".weight_packed", ".SCB",
)  # fmt: skip


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


def check_directory(
    directory: pathlib.Path, config: ModelConfig, abstract: tree.Tree
) -> tuple[dict[str, pathlib.Path], list[Row]]:
    """Compare the files' headers with the config; returns which file has what, and the table.

    Raises:
        UserError: as `locate` and `check`.
    """
    files = locate(directory)
    shapes = {name: leaf.shape for name, leaf in tree.named_leaves(abstract).items()}
    table = rows_for(config, files)
    check(directory, table, shapes, files)
    return files, table


def _check_tied(
    directory: pathlib.Path, config: ModelConfig, table: Sequence[Row], views: Mapping
) -> None:
    """Refuse a tied model whose file has a head of its own: transformers would not tie it."""
    embedding = table[0].name
    for head in _heads(views) if config.tied else ():
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
        where = _some(list(unsound)) or "what another process reads"
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
    needed |= set(_heads(files))
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
