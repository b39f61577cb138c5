"""Masks on disk: one safetensors file, eight weights a byte, with where the mask came from."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxattack import distributed, sharding, tree
from jaxattack.errors import UserError
from jaxattack.tree import Tree

FORMAT = "jaxattack-mask-1"


def save_mask(path: str | pathlib.Path, mask: Tree, info: dict[str, Any]) -> None:
    """Write a mask and its provenance; the file appears whole or not at all.

    Of several processes all have to call it, and the first one writes.

    Args:
        path: file to write.
        mask: bool tree.
        info: JSON values: method, fraction, model, data, seed, ...
    """
    path = pathlib.Path(path)
    named = tree.named_leaves(mask)
    packed = {name: np.packbits(sharding.to_host(leaf)) for name, leaf in named.items()}
    shapes = {name: list(leaf.shape) for name, leaf in named.items()}
    # One entry, since safetensors writes several in no order of ours.
    metadata = {FORMAT: json.dumps({"shapes": shapes, "info": info}, sort_keys=True)}

    def write() -> None:
        partial = path.with_name(f".{path.name}.partial")
        save_file(packed, partial, metadata)
        os.replace(partial, path)

    distributed.first(write, f"save {path.name}")


def load_mask(path: str | pathlib.Path, like: Tree | None = None) -> tuple[Tree, dict[str, Any]]:
    """Read a mask and its provenance.

    Args:
        path: file written by `save_mask`.
        like: parameters the mask must fit, if given.

    Raises:
        UserError: no such file, not a mask, truncated, or a mask of another model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such mask file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: truncated or not a mask ({error})") from error
    if FORMAT not in metadata:
        raise UserError(f"{path}: not a mask of this program (no {FORMAT} in its metadata)")
    described = json.loads(metadata[FORMAT])
    mask = tree.unflatten(
        {
            name: jnp.asarray(
                np.unpackbits(packed[name], count=int(np.prod(shape))).reshape(shape).astype(bool)
            )
            for name, shape in described["shapes"].items()
        }
    )
    if like is not None:
        tree.check_same_shapes(f"the mask {path}", mask, "the model", like)
    return mask, described["info"]
