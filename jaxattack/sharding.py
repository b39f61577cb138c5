"""Where arrays live: one mesh, one ordered strict table of rules from leaf names to axes."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import re
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxattack import tree
from jaxattack.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))

# First match wins; a leaf that no rule names is an error. Masks, scores and optimiser moments
# carry the parameters' names at the end of theirs, so this table places them too.
RULES: tuple[tuple[str, P], ...] = (
    (r"(embed|head)$", P("tensor", "fsdp")),
    (r"attention/(q|k|v)$", P(None, "fsdp", "tensor", None)),
    (r"attention/qkv$", P(None, "fsdp", "tensor", None, None)),
    (r"attention/(q|k|v|qkv)_bias$", P(None, "tensor")),
    (r"attention/o$", P(None, "tensor", None, "fsdp")),
    (r"mlp/(gate|up)$", P(None, "fsdp", "tensor")),
    (r"mlp/(gate|up)_bias$", P(None, "tensor")),
    (r"mlp/down$", P(None, "tensor", "fsdp")),
    # Of a LoRA adapter, `a` lies like its matrix's inputs and `b` like its outputs, so that their
    # product is made where it is added.
    (r"(attention/(q|k|v|qkv)|mlp/(gate|up))/a$", P(None, "fsdp")),
    (r"(attention/(q|k|v|qkv)|mlp/(gate|up))/b$", P(None, None, "tensor")),
    (r"(attention/o|mlp/down)/a$", P(None, "tensor")),
    (r"(attention/o|mlp/down)/b$", P(None, None, "fsdp")),
    (r"(norm|norm_bias|o_bias|down_bias|count|step|ns_coeffs)$", P()),
    # Further of optimisers: a counter, a key, and SM3's vectors, one for each axis.
    (r"(^|/)(t|rng_key|\d+)$", P()),
)


def make_mesh(shape: Sequence[int] = (1, -1, 1), devices: Sequence | None = None) -> Mesh:
    """Arrange the devices as data x fsdp x tensor; one `-1` takes what is left.

    Without a `-1` a shape may use only the first of the devices.

    Raises:
        UserError: the shape needs more devices than there are, or does not divide them, or
            leaves a process without any.
    """
    devices = list(jax.devices() if devices is None else devices)
    free = sum(size == -1 for size in shape)
    if len(shape) != 3 or free > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(
            f"mesh {tuple(shape)}: give three sizes (data, fsdp, tensor), one may be -1"
        )
    known = math.prod(size for size in shape if size != -1)
    filled = tuple(len(devices) // known if size == -1 else size for size in shape)
    used = math.prod(filled)
    if used > len(devices) or (free and used < len(devices)):
        raise UserError(f"mesh {tuple(shape)} does not fit {len(devices)} devices")
    idle = {device.process_index for device in devices[used:]}
    if idle - {device.process_index for device in devices[:used]}:
        raise UserError(
            f"mesh {tuple(shape)} leaves some processes without a device; there are "
            f"{len(devices)} devices"
        )
    # Auto axes: under Explicit ones gathers and top-k on sharded weights are refused.
    return Mesh(np.array(devices[:used]).reshape(filled), AXES, axis_types=(AxisType.Auto,) * 3)


def planned_mesh(shape: Sequence[int]) -> AbstractMesh:
    """A mesh of devices that need not be there, for plans; a `-1` takes the devices there are.

    Raises:
        UserError: the shape makes no sense.
    """
    if -1 in shape:
        made = make_mesh(shape)
        return made.abstract_mesh
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"mesh {tuple(shape)}: give three sizes (data, fsdp, tensor)")
    return AbstractMesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * 3)


def spec_for(name: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    """The rule's axes for one leaf, without those that do not divide its sizes."""
    spec = next((spec for pattern, spec in RULES if re.search(pattern, name)), None)
    if spec is None:
        raise ValueError(f"no sharding rule matches {name!r}")
    if len(spec) > len(shape):  # a factored moment has fewer axes than its parameter
        return P()
    fitted = fit(spec, shape, mesh)
    for axis in set(spec) - set(fitted):
        logging.info("%s %s does not divide by axis %r, so it is copied", name, shape, axis)
    return fitted


def fit(spec: P, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    """A spec without the axes that do not divide the sizes they would split."""
    axes = [
        axis if size % _ways(mesh, axis) == 0 else None
        for size, axis in zip(shape, spec, strict=False)
    ]
    while axes and axes[-1] is None:  # as jit spells it, so that its cache sees the same
        axes.pop()
    return P(*axes)


def _ways(mesh: Mesh | AbstractMesh, axes: str | tuple[str, ...] | None) -> int:
    return math.prod(mesh.shape[name] for name in _names(axes))


def _names(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()


def shardings(abstract: tree.Tree, mesh: Mesh) -> tree.Tree:
    """A tree of `NamedSharding` for a tree of arrays or shapes."""
    return tree.map_named(
        lambda name, leaf: NamedSharding(mesh, spec_for(name, leaf.shape, mesh)), abstract
    )


def place(params: tree.Tree, mesh: Mesh) -> tree.Tree:
    """Put a tree on the mesh by the rules; every process has the whole tree, or its shards."""
    return _put(params, shardings(params, mesh), mesh)


def _put(arrays: tree.Tree, places: tree.Tree, mesh: Mesh) -> tree.Tree:
    if not mesh.is_multi_process:
        return jax.device_put(arrays, places)

    def put(array, place):
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return jax.device_put(array, place)
        # device_put would have the processes compare their copies, value by value.
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, place, lambda index: whole[index])

    return jax.tree.map(put, arrays, places)


def has_room(beside: tree.Tree, times: int) -> bool:
    """Whether every device on which a tree lies here could hold so many more of it.

    Devices that do not say how much memory they have, as a CPU, have none to spare.
    """
    needed: dict[jax.Device, int] = {}
    for leaf in jax.tree.leaves(beside):
        for shard in leaf.addressable_shards:
            needed[shard.device] = needed.get(shard.device, 0) + shard.data.nbytes
    enough = all(times * nbytes <= _spare(device) for device, nbytes in needed.items())
    if jax.process_count() > 1:  # what one of them keeps, none of them may read again
        enough = bool(np.min(multihost_utils.process_allgather(np.int32(enough))))
    return enough


def _spare(device: jax.Device) -> int:
    said = device.memory_stats() or {}
    return said.get("bytes_limit", 0) - said.get("bytes_in_use", 0)


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """The whole array in every process; all of them have to ask for it."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def within(mesh: Mesh):
    """Inside jit: the context in which `constrain` and `current_mesh` know this mesh."""
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def current_mesh() -> AbstractMesh | None:
    """The mesh of the surrounding `within`; None outside, and for a single device."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


_TAKEN: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("taken", default=())


@contextlib.contextmanager
def each_alone() -> Iterator[None]:
    """Inside jit: what is under a vmap over rows that lie on `BATCH`'s axes splits nothing by them.

    Each row's computation is whole where the row is.
    """
    before = _TAKEN.set(BATCH[0])
    try:
        yield
    finally:
        _TAKEN.reset(before)


def fitted(spec: P, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    """`fit`, also without the axes that rows under a vmap have taken (see `each_alone`)."""
    taken = set(_TAKEN.get())
    return fit(P(*(None if taken & {*_names(axes)} else axes for axes in spec)), shape, mesh)


def constrain(x: jax.Array, spec: P) -> jax.Array:
    """Split an activation by `spec` on the current mesh, as far as its sizes divide.

    The compiler would else be free to move the activations to the weights, where fully sharded
    training wants the weights gathered to the activations.
    """
    mesh = current_mesh()
    return x if mesh is None else jax.lax.with_sharding_constraint(x, fitted(spec, x.shape, mesh))


def keep(params: tree.Tree, mesh: Mesh) -> tree.Tree:
    """Inside jit: let a result lie where the rules put it, so that the next call fits it."""
    return jax.lax.with_sharding_constraint(params, shardings(params, mesh))


def mesh_of(params: tree.Tree) -> Mesh:
    """The mesh a tree lives on; a 1x1x1 mesh of its device if it was never placed."""
    leaf = jax.tree.leaves(params)[0]
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
        return sharding.mesh
    return make_mesh((1, 1, 1), [jax.local_devices()[0]])


def parts(spec: P, mesh: Mesh | AbstractMesh) -> int:
    """Into how many parts a spec splits an array."""
    return math.prod(_ways(mesh, axis) for axis in spec)


def ways(mesh: Mesh | AbstractMesh) -> int:
    """Into how many parts a batch's rows are split."""
    return _ways(mesh, BATCH[0])


def filled_rows(count: int, mesh: Mesh | AbstractMesh, parts: int = 1) -> int:
    """So many rows, and those that make them divide into parts that each split over the mesh."""
    ways_of_all = ways(mesh) * parts
    return -(-count // ways_of_all) * ways_of_all


def place_filled(batch: tree.Tree, mesh: Mesh, parts: int = 1) -> tree.Tree:
    """`place_batch` with rows of zeros at the end, so that no row is on several devices.

    Args:
        batch: arrays `[B, ...]` on the host, whose rows of zeros count for nothing: a segment of
            0 is padding, a loss mask of 0 asks nothing.
        mesh: where they go.
        parts: in which a batch is worked off one after the other.
    """

    def fill(rows: np.ndarray) -> np.ndarray:
        more = filled_rows(len(rows), mesh, parts) - len(rows) if np.ndim(rows) else 0
        return np.pad(rows, [(0, more)] + [(0, 0)] * (rows.ndim - 1)) if more else rows

    return place_batch(jax.tree.map(fill, batch), mesh)


def place_batch(batch: tree.Tree, mesh: Mesh) -> tree.Tree:
    """Split the leading axis of every array over data and fsdp (copy it if it does not divide)."""

    def place_of(array):
        spec = BATCH if array.shape and array.shape[0] % ways(mesh) == 0 else P()
        return NamedSharding(mesh, spec)

    return _put(batch, jax.tree.map(place_of, batch), mesh)
