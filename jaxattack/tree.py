"""Names, counts and checks on parameter trees: plain nested dicts of arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxattack.errors import UserError

Tree = Any  # a nested dict of arrays; jax has no narrower name for it


def named_leaves(tree: Tree) -> dict[str, Any]:
    """Map "layers/attention/q" style names to leaves, in the tree's own order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def map_named(function, tree: Tree, *rest: Tree) -> Tree:
    """`jax.tree.map` whose function also gets each leaf's name first."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(
            jax.tree_util.keystr(path, simple=True, separator="/"), *leaves
        ),
        tree,
        *rest,
    )


def unflatten(named: dict[str, Any]) -> Tree:
    """Inverse of `named_leaves` for nested dicts."""
    tree: dict[str, Any] = {}
    for name, leaf in named.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def cast(tree: Tree, dtype: Any) -> Tree:
    """The tree with all leaves in one number type; those that are stay the arrays they are."""
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == dtype else leaf.astype(dtype), tree)


def size(tree: Tree) -> int:
    """Number of scalar entries in all leaves."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def nbytes(tree: Tree) -> int:
    """Bytes of all leaves."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def check_same_shapes(what: str, tree: Tree, other_what: str, other: Tree) -> None:
    """Refuse two trees that do not have the same leaves of the same shapes.

    Raises:
        UserError: names the first differences.
    """
    ours = {name: tuple(leaf.shape) for name, leaf in named_leaves(tree).items()}
    theirs = {name: tuple(leaf.shape) for name, leaf in named_leaves(other).items()}
    wrong = [
        f"{name}: {ours.get(name, 'absent')} against {theirs.get(name, 'absent')}"
        for name in sorted(ours | theirs)
        if ours.get(name) != theirs.get(name)
    ]
    if wrong:
        shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise UserError(f"{what} does not fit {other_what}: {shown}")


def check_alike(trees: Mapping[str, Tree]) -> None:
    """Refuse trees that cannot be computed with leaf by leaf.

    Args:
        trees: by what they are called; the last is the one that the others should fit.

    Raises:
        UserError: as `check_same_shapes` and `check_same_devices`.
    """
    *others, (last, like) = trees.items()
    for what, tree in others:
        check_same_shapes(what, tree, last, like)
    check_same_devices(trees)


def check_same_devices(trees: Mapping[str, Tree]) -> None:
    """Refuse trees whose arrays do not all lie on the same devices in the same order.

    What is on the host, or was never placed, goes where the others are.

    Args:
        trees: by what they are called.

    Raises:
        UserError: names the first two arrays that lie apart.
    """
    first: tuple[str, tuple[Any, ...]] = "", ()
    for what, tree in trees.items():
        for name, leaf in named_leaves(tree).items():
            devices = _devices(leaf)
            first = first if first[1] else (f"{name} of {what}", devices)
            if devices and devices != first[1]:
                raise UserError(
                    f"{first[0]} lies on {_shown(first[1])}, and {name} of {what} on "
                    f"{_shown(devices)}; load all onto one mesh, or move some by sharding.place"
                )


def _devices(leaf: Any) -> tuple[Any, ...]:
    """Where an array has to stay, in the order of its mesh; () for one that may go anywhere."""
    if isinstance(leaf, jax.core.Tracer) or not getattr(leaf, "committed", False):
        return ()
    return tuple(leaf.sharding.devices_indices_map(leaf.shape))


def _shown(devices: tuple[Any, ...]) -> str:
    more = f" and {len(devices) - 3} more" if len(devices) > 3 else ""
    return ", ".join(map(str, devices[:3])) + more


def pattern(text: str, what: str) -> re.Pattern[str]:
    """A regular expression to be searched in names of leaves.

    Raises:
        UserError: it is none.
    """
    try:
        return re.compile(text)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"{what} is {text!r}, which is no regular expression: {error}") from error
