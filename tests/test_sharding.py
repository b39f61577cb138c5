"""Meshes and the table of rules that says where a leaf lives."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.sharding import (
    AXES,
    each_alone,
    fitted,
    has_room,
    make_mesh,
    mesh_of,
    place,
    place_batch,
    place_filled,
    shardings,
    spec_for,
)
from jaxattack.tree import named_leaves

# Every leaf a model can have, all its sizes divisible by 8.
CONFIG = ModelConfig(
    vocab_size=64,
    hidden_size=16,
    num_layers=2,
    num_heads=8,
    num_kv_heads=8,
    head_dim=2,
    mlp_size=32,
    norm_eps=1e-5,
    rope=Rope(),
    tied=False,
    qkv_bias=True,
    o_bias=True,
    mlp_bias=True,
)
ABSTRACT = abstract_params(Transformer(CONFIG))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, -1, 1), (1, 8, 1)),
        ((-1, 2, 2), (2, 2, 2)),
        ((2, 2, -1), (2, 2, 2)),
        ((8, 1, 1), (8, 1, 1)),
        ((4, -1, 2), (4, 1, 2)),
    ],
)
def test_a_mesh_is_filled_up(shape, expected):
    mesh = make_mesh(shape)
    assert tuple(mesh.shape[axis] for axis in AXES) == expected
    assert mesh.axis_types == (AxisType.Auto,) * 3
    assert sorted(device.id for device in mesh.devices.flat) == list(range(8))


def test_a_mesh_of_some_devices():
    assert make_mesh((1, -1, 1), jax.devices()[:3]).shape["fsdp"] == 3


@pytest.mark.parametrize(
    "shape",
    [
        (3, -1, 1),
        (16, 1, 1),
        (1, 8),
        (2, 2, 2, 1),
        (),
        (-1, -1, 1),
        (0, -1, 1),
        (1, 0, 8),
        (-2, -4, 1),
        (16, -1, 1),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(shape):
    with pytest.raises(UserError, match="mesh "):
        make_mesh(shape)


def test_every_leaf_has_a_rule_and_every_matrix_is_split_both_ways(mesh8):
    for name, leaf in named_leaves(ABSTRACT).items():
        spec = spec_for(name, leaf.shape, mesh8)
        used = [axis for axis in spec if axis is not None]
        assert len(set(used)) == len(used)
        if "norm" in name or name.endswith(("o_bias", "down_bias")):
            assert used == [], name
        elif name.endswith("bias"):
            assert used == ["tensor"], name
        else:
            assert sorted(used) == ["fsdp", "tensor"], name
            assert spec[0] is None or not name.startswith("layers/"), name


def test_what_meets_in_a_product_is_split_alike(mesh8):
    named = named_leaves(ABSTRACT)

    def axes(name):
        return tuple(spec_for(name, named[name].shape, mesh8))

    heads = {axes(f"layers/attention/{part}")[2] for part in "qkv"}
    assert heads == {axes("layers/attention/o")[1]} == {"tensor"}
    assert axes("layers/mlp/up")[2] == axes("layers/mlp/down")[1] == "tensor"
    for part in "qkv":
        assert axes(f"layers/attention/{part}_bias")[1] == "tensor"


@pytest.mark.parametrize("make", [optax.adamw, lambda rate: optax.sgd(rate, momentum=0.9)])
def test_moments_live_where_their_weights_do(make, mesh8):
    state = named_leaves(shardings(jax.eval_shape(make(0.1).init, ABSTRACT), mesh8))
    weights = named_leaves(shardings(ABSTRACT, mesh8))
    moments = {name for name in state if not name.endswith("count")}
    assert len(moments) in (len(weights), 2 * len(weights))
    for name in moments:
        (own,) = (weight for weight in weights if name.endswith("/" + weight))
        assert state[name] == weights[own]


def test_a_size_that_does_not_divide_is_copied(mesh8):
    assert spec_for("embed", (611, 32), mesh8) == P(None, "fsdp")
    assert spec_for("layers/attention/k", (2, 32, 1, 8), mesh8) == P(None, "fsdp")
    assert spec_for("layers/mlp/up", (2, 31, 47), mesh8) == P()


@pytest.mark.parametrize("name", ["layers/attention/rotary", "embedding", "head/scale"])
def test_a_leaf_without_a_rule_is_an_error(name, mesh8):
    with pytest.raises(ValueError, match=f"no sharding rule matches '{name}'"):
        spec_for(name, (2, 2), mesh8)


def test_placing_splits_without_changing(mesh8, assert_trees):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), ABSTRACT)
    placed = place(params, mesh8)
    assert_trees(placed, params)
    up = placed["layers"]["mlp"]["up"]
    assert {shard.data.shape for shard in up.addressable_shards} == {(2, 8, 16)}
    assert mesh_of(placed) == mesh8


def test_what_was_never_placed_lives_on_one_device():
    for params in ({"embed": np.zeros((2, 2))}, {"embed": jax.numpy.zeros((2, 2))}):
        mesh = mesh_of(params)
        assert mesh.axis_names == AXES
        assert mesh.devices.tolist() == [[[jax.devices()[0]]]]


def test_batches_are_split_over_rows_or_copied(mesh8):
    batch = {
        "tokens": np.arange(32).reshape(8, 4),
        "odd": np.arange(12).reshape(6, 2),
        "weight": np.float32(3),
    }
    placed = place_batch(batch, mesh8)
    for name, array in placed.items():
        np.testing.assert_array_equal(array, batch[name])
    assert placed["tokens"].addressable_shards[0].data.shape == (2, 4)
    assert placed["tokens"].sharding == NamedSharding(mesh8, P(("data", "fsdp")))
    assert placed["odd"].is_fully_replicated
    assert placed["weight"].is_fully_replicated


@pytest.mark.parametrize(
    ("rows", "parts", "filled"), [(8, 1, 8), (10, 1, 16), (10, 2, 16), (3, 3, 24)]
)
def test_rows_that_do_not_divide_are_filled_up_and_lie_on_one_device_each(rows, parts, filled):
    mesh = make_mesh((2, 4, 1))
    batch = {"tokens": np.arange(1, 4 * rows + 1).reshape(rows, 4), "weight": np.float32(3)}
    placed = place_filled(batch, mesh, parts)
    tokens = placed["tokens"]
    assert tokens.shape == (filled, 4)
    assert {shard.data.shape for shard in tokens.addressable_shards} == {(filled // 8, 4)}
    np.testing.assert_array_equal(tokens[:rows], batch["tokens"])
    assert not np.any(tokens[rows:])
    assert placed["weight"] == 3


def test_on_one_device_no_row_is_added():
    batch = {"tokens": np.ones((10, 4))}
    assert place_filled(batch, make_mesh((1, 1, 1)))["tokens"].shape == (10, 4)


def test_where_rows_are_taken_one_by_one_nothing_is_split_by_their_axes(mesh8):
    spec = P(("data", "fsdp"), "tensor")
    assert fitted(spec, (8, 8), mesh8) == spec
    with each_alone():
        assert fitted(spec, (8, 8), mesh8) == P(None, "tensor")
        assert fitted(P("tensor", "fsdp"), (8, 8), mesh8) == P("tensor")
    assert fitted(spec, (8, 8), mesh8) == spec


def test_there_is_room_where_every_device_has_it(mesh8, monkeypatch):
    kept = place({"layers": {"mlp": {"up": np.zeros((2, 16, 16), np.float32)}}}, mesh8)
    held = 2 * 16 * 16 * 4 // 4  # split by fsdp and tensor
    spare = dict.fromkeys(jax.devices(), 3 * held)
    monkeypatch.setattr(sharding, "_spare", spare.get)
    assert has_room(kept, 3)
    assert not has_room(kept, 4)
    spare[jax.devices()[5]] = 3 * held - 1
    assert not has_room(kept, 3)


def test_devices_that_do_not_tell_their_memory_have_no_room():
    assert not has_room(place({"embed": np.zeros((8, 8))}, make_mesh((1, 8, 1))), 1)
