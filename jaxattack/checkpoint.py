"""Trees of arrays on disk, through orbax; its API is touched nowhere else."""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from jaxattack import sharding, tree
from jaxattack.tree import Tree


def save(path: pathlib.Path, state: Tree) -> None:
    """Write a tree of arrays; every process takes part.

    Leaves are stored by name, so containers such as optax's named tuples need not be known to
    orbax.
    """
    with _raised_once():
        ocp.save(path.absolute(), _stored(state))


def save_async(path: pathlib.Path, state: Tree) -> Any:
    """As `save`, in the background: what is written is the state as it is now, even if a step
    takes its memory. The `result()` of what is returned waits until it is on disk.
    """
    with _raised_once():
        return ocp.save_async(path.absolute(), _stored(state))


def load(path: pathlib.Path, like: Tree, mesh: Mesh) -> Tree:
    """Read a tree back onto a mesh, whatever mesh it was written from.

    Args:
        path: written by `save`.
        like: a tree of the same structure with the shapes and dtypes to expect.
        mesh: where the leaves go, by the sharding rules.
    """
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        like,
        sharding.shardings(like, mesh),
    )
    with _raised_once():
        loaded = tree.named_leaves(ocp.load(path.absolute(), _stored(abstract)))
    leaves = [
        loaded[name] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
        for name, leaf in tree.named_leaves(abstract).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _stored(state: Tree) -> Tree:
    """The leaves by name; orbax writes none without entries."""
    return tree.unflatten({k: leaf for k, leaf in tree.named_leaves(state).items() if leaf.size})


@contextlib.contextmanager
def _raised_once() -> Iterator[None]:
    """Keep orbax's threads from printing the traces of errors that are then raised here."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
