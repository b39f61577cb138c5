"""Masks on disk: one safetensors file, eight weights a byte, with where the mask came from."""

from __future__ import annotations

import json
import math
import operator
import pathlib
from collections.abc import Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxattack import distributed, sharding, tree, workdir
from jaxattack.errors import UserError
from jaxattack.localize import masks
from jaxattack.tree import Tree

FORMAT = "jaxattack-mask-1"
AT_ONCE = 1 << 26  # weights that are packed or unpacked together, if one row of a leaf has fewer


def save_mask(path: str | pathlib.Path, mask: Tree, info: dict[str, Any]) -> None:
    """Write a mask and its provenance; the file appears whole or not at all.

    Of several processes all have to call it, and the first one writes.

    Args:
        path: file to write; an older mask there is replaced, and nothing else.
        mask: bool tree.
        info: JSON values: method, fraction, model, data, seed, ...

    Raises:
        UserError: the mask is not of bools, or something that is no mask stands at the path.

    Example:
        >>> mask = {"final_norm": np.array([True, False])}
        >>> ja.save_mask(folder / "mask.safetensors", mask, {"method": "by hand", "seed": 0})
    """
    path = pathlib.Path(path)
    masks.check_mask(mask)
    workdir.check_replaceable(path)
    if path.exists():
        _described(path)
    named = tree.named_leaves(mask)
    packed = {name: _packed(leaf) for name, leaf in named.items()}
    shapes = {name: list(leaf.shape) for name, leaf in named.items()}
    # One entry, since safetensors writes several in no order of ours.
    metadata = {FORMAT: json.dumps({"shapes": shapes, "info": info}, sort_keys=True)}

    def write() -> None:
        try:
            workdir.write_bytes(path, save(packed, metadata))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error

    distributed.first(write, f"save {path.name}")  # the others wait for it


def load_mask(path: str | pathlib.Path, like: Tree | None = None) -> tuple[Tree, dict[str, Any]]:
    """Read a mask and its provenance.

    Args:
        path: file written by `save_mask`.
        like: parameters the mask must fit, and beside which it is placed, if given.

    Raises:
        UserError: no such file, not a mask, truncated, or a mask of another model.

    Example:
        >>> ja.save_mask(folder / "kept.safetensors", {"w": np.array([True, False])}, {"seed": 0})
        >>> mask, info = ja.load_mask(folder / "kept.safetensors")
        >>> mask["w"].tolist(), info["seed"]
        ([True, False], 0)
    """
    path = pathlib.Path(path)
    shapes, info = _described(path)
    if like is not None:  # before memory is taken for it
        tree.check_same_shapes(f"the mask {path}", _shaped(shapes), "the model", like)
    mesh = None if like is None else sharding.mesh_of(like)
    places: dict[str, NamedSharding] = {}
    if mesh is not None and mesh.size > 1:
        places = tree.named_leaves(sharding.shardings(_shaped(shapes), mesh))
    with safe_open(path, framework="numpy") as file:
        leaves = {
            name: _unpacked(file.get_slice(name), shape, places.get(name))
            for name, shape in shapes.items()
        }
    return tree.unflatten(leaves), info


def _shaped(shapes: dict[str, tuple[int, ...]]) -> Tree:
    return tree.unflatten({n: jax.ShapeDtypeStruct(shape, bool) for n, shape in shapes.items()})


def _packed(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """The bits of a leaf, of which some rows of its first axis at a time are on the host."""
    leaf = leaf.reshape(1) if leaf.ndim == 0 else leaf
    found, left = [], np.zeros(0, bool)
    for first, count in _spans(leaf.shape):
        if isinstance(leaf, jax.Array):  # the start is traced: one program for all
            rows = sharding.to_host(jax.lax.dynamic_slice_in_dim(leaf, first, count))
        else:
            rows = leaf[first : first + count]
        bits = np.concatenate([left, rows.reshape(-1)])
        whole = len(bits) - len(bits) % 8
        found.append(np.packbits(bits[:whole]))
        left = bits[whole:]
    return np.concatenate([*found, np.packbits(left)])


def _unpacked(packed: Any, shape: tuple[int, ...], place: NamedSharding | None) -> jax.Array:
    """A leaf from its bits, of each part what is on devices of this process."""
    if place is None:
        rows = [part for _, part in _rows(packed, shape or (1,))]
        return jnp.asarray(np.concatenate([np.zeros((0, *shape[1:]), bool), *rows]).reshape(shape))
    indices = place.addressable_devices_indices_map(shape).values()
    spans = {_span(index, shape) for index in indices if index is not None}
    parts = {span: np.empty([stop - start for start, stop in span], bool) for span in spans}
    for first, some in _rows(packed, shape):
        for ((start, stop), *others), part in parts.items():
            low, high = max(start, first), min(stop, first + len(some))
            if low < high:
                columns = tuple(slice(*span) for span in others)
                part[low - start : high - start] = some[low - first : high - first][:, *columns]

    def part_at(index: tuple[slice, ...] | None) -> np.ndarray:
        return parts[_span(cast(tuple[slice, ...], index), shape)]

    return jax.make_array_from_callback(shape, place, part_at)


def _span(index: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def _rows(packed: Any, shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of a leaf's first axis, bool `[n, ...]`, and the number of the first of them."""
    each = math.prod(shape[1:])
    for first, count in _spans(shape):
        start, stop = first * each, (first + count) * each
        bits = np.unpackbits(packed[start // 8 : -(-stop // 8)])[start % 8 :][: stop - start]
        yield first, bits.view(bool).reshape(count, *shape[1:])


def _spans(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """First rows of the first axis, and how many, of parts to be worked off one by one."""
    step = max(1, AT_ONCE // max(1, math.prod(shape[1:])))
    for first in range(0, shape[0], step):
        yield first, min(step, shape[0] - first)


def _described(path: pathlib.Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes and provenance of a mask's file, which holds as many bits as they say.

    Raises:
        UserError: no such file, or it is no mask.
    """
    if not path.is_file():
        raise UserError(f"{path}: {'not a mask' if path.exists() else 'no such mask file'}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise UserError(f"{path}: not a mask of this program (no {FORMAT} in its metadata)")
            described = json.loads(metadata[FORMAT])
            shapes = {n: tuple(map(operator.index, s)) for n, s in described["shapes"].items()}
            found = {}
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                found[name] = (part.get_dtype(), part.get_shape())
            info = dict(described["info"])
            _shaped(shapes)  # one leaf's name may be the start of another's
    except (
        SafetensorError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise UserError(f"{path}: truncated or not a mask ({error})") from error
    wanted = {name: ("U8", [-(-math.prod(shape) // 8)]) for name, shape in shapes.items()}
    if found != wanted or any(size < 0 for shape in shapes.values() for size in shape):
        wrong = sorted(n for n in found | wanted if found.get(n) != wanted.get(n))
        raise UserError(f"{path}: not a mask: its bits do not fit its shapes ({wrong[:1]})")
    return shapes, info
