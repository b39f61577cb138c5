"""Masks on disk: one safetensors file, eight weights a byte, with where the mask came from."""

from __future__ import annotations

import json
import math
import operator
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxattack import distributed, sharding, tree, workdir
from jaxattack.errors import UserError
from jaxattack.localize import masks
from jaxattack.tree import Tree

FORMAT = "jaxattack-mask-1"


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
    packed = {name: np.packbits(sharding.to_host(leaf)) for name, leaf in named.items()}
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
        like: parameters the mask must fit, if given.

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
    with safe_open(path, framework="numpy") as file:
        packed = {name: file.get_tensor(name) for name in shapes}
    return tree.unflatten({n: _unpacked(packed[n], shape) for n, shape in shapes.items()}), info


def _shaped(shapes: dict[str, tuple[int, ...]]) -> Tree:
    return tree.unflatten({n: jax.ShapeDtypeStruct(shape, bool) for n, shape in shapes.items()})


def _unpacked(packed: np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(np.unpackbits(packed, count=math.prod(shape)).reshape(shape).astype(bool))


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
