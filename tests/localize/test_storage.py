"""Masks on disk."""

import json
import os

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from jaxattack.errors import UserError
from jaxattack.localize import storage
from jaxattack.localize.masks import random_mask
from jaxattack.localize.storage import load_mask, save_mask
from jaxattack.sharding import make_mesh, place

INFO = {"method": "sil", "fraction": 0.2, "languages": ["en", "泰"], "seed": None}


@pytest.fixture
def mask():
    """Sizes that are no multiple of eight among them."""
    like = {"embed": np.zeros((7, 3)), "layers": {"mlp": {"up": np.zeros((2, 4, 6))}}}
    return random_mask(like, 0.4, 0)


@pytest.fixture
def path(tmp_path, mask):
    save_mask(tmp_path / "mask.safetensors", mask, INFO)
    return tmp_path / "mask.safetensors"


def test_a_round_trip_keeps_mask_and_provenance(path, mask, assert_trees):
    loaded, info = load_mask(path, like=mask)
    assert_trees(loaded, mask)
    assert info == INFO


@pytest.mark.parametrize("value", [True, False])
def test_full_and_empty_masks_survive(tmp_path, mask, value, assert_trees):
    mask = jax.tree.map(lambda leaf: np.full(leaf.shape, value), mask)
    save_mask(tmp_path / "mask", mask, {})
    assert_trees(load_mask(tmp_path / "mask")[0], mask)


def test_a_mask_on_a_mesh_is_saved_whole(tmp_path, mask, mesh8, assert_trees):
    save_mask(tmp_path / "mask", place(mask, mesh8), INFO)
    assert_trees(load_mask(tmp_path / "mask")[0], mask)


def test_eight_weights_take_a_byte(tmp_path):
    mask = {"embed": np.random.default_rng(0).random((1000, 800)) < 0.2}
    save_mask(tmp_path / "mask", mask, INFO)
    assert 100_000 <= (tmp_path / "mask").stat().st_size < 101_000


def test_equal_masks_give_equal_bytes(path, mask, tmp_path):
    save_mask(tmp_path / "again", mask, INFO)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kept", [0, 8, 100, -1])
def test_a_truncated_file_is_named(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"mask\.safetensors: truncated or not a mask"):
        load_mask(path)


def test_a_mask_of_another_model_is_refused(path, mask):
    like = mask | {"embed": np.zeros((9, 3))}
    with pytest.raises(UserError, match=r"embed: \(7, 3\) against \(9, 3\)"):
        load_mask(path, like=like)
    with pytest.raises(UserError, match="head: absent against"):
        load_mask(path, like=mask | {"head": np.zeros((7, 3))})


def test_a_file_that_is_no_mask_is_refused(tmp_path, tiny):
    save_file({"embed": np.ones(3)}, tmp_path / "weights")
    (tmp_path / "text").write_text("not a mask at all")
    for name in ("weights", "text"):
        with pytest.raises(UserError, match=f"{name}: .*not a mask"):
            load_mask(tmp_path / name)
    with pytest.raises(UserError, match="not a mask"):
        load_mask(tiny.directory / "model.safetensors")


def edited(path, **changes):
    """The file with its description or its bits changed."""
    with safe_open(path, framework="numpy") as file:
        described = json.loads(file.metadata()[storage.FORMAT])
        bits = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    bits |= changes.pop("bits", {})
    text = changes.pop("text", None) or json.dumps(described | changes)
    save_file(bits, path, {storage.FORMAT: text})


@pytest.mark.parametrize(
    "change",
    [
        {"bits": {"embed": np.zeros(2, np.uint8)}},  # 21 weights take 3 bytes
        {"bits": {"embed": np.zeros(3, np.float32)}},
        {"bits": {"more": np.zeros(3, np.uint8)}},
        {"shapes": {"embed": [4_000_000_000]}},
        {"shapes": {"embed": [-7, -3]}},
        {"shapes": {"embed": [7.0, 3]}},
        {"shapes": ["embed"]},
        {"shapes": {"embed": [7, 3], "embed/more": [1]}},
        {"info": 3},
        {"text": "["},
        {"text": "[" * 100_000},
    ],
    ids=str,
)
def test_a_damaged_description_is_refused_before_memory_is_taken(path, change):
    edited(path, **change)
    with pytest.raises(UserError, match=r"mask\.safetensors: .*not a mask"):
        load_mask(path)


def test_only_a_mask_is_replaced(tmp_path, mask, path, assert_trees):
    results = tmp_path / "results.json"
    results.write_text("{}")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").mkdir()
    for name in ("results.json", "link", "folder"):
        with pytest.raises(UserError, match=name):
            save_mask(tmp_path / name, jax.tree.map(np.logical_not, mask), {})
    assert results.read_text() == "{}"
    assert_trees(load_mask(path)[0], mask)
    with pytest.raises(UserError, match="gone/mask: cannot be written"):
        save_mask(tmp_path / "gone" / "mask", mask, {})


def test_scores_are_not_saved_as_a_mask(tmp_path, mask):
    with pytest.raises(UserError, match="tree of bools; embed is of float32"):
        save_mask(tmp_path / "mask", jax.tree.map(np.float32, mask), {})
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="gone: no such mask file"):
        load_mask(tmp_path / "gone")


def test_a_failure_leaves_the_old_mask(path, mask, monkeypatch, assert_trees):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save_mask(path, jax.tree.map(np.logical_not, mask), {})
    with pytest.raises(TypeError):
        save_mask(path, mask, {"method": object()})
    assert_trees(load_mask(path)[0], mask)
    assert list(path.parent.iterdir()) == [path]


def test_a_mask_is_read_where_the_parameters_lie(tmp_path, monkeypatch, assert_trees):
    monkeypatch.setattr(storage, "AT_ONCE", 40)  # some rows of a leaf at a time
    shapes = {"embed": (21, 8), "layers": {"mlp": {"up": (3, 8, 6)}, "mlp_norm": (3, 5)}}
    like = jax.tree.map(np.zeros, shapes, is_leaf=lambda x: isinstance(x, tuple))
    mask = random_mask(like, 0.4, 0)
    save_mask(tmp_path / "whole", mask, INFO)
    for shape in ((1, 8, 1), (2, 2, 2), (1, 1, 1)):
        mesh = make_mesh(shape)
        save_mask(tmp_path / "mask", place(mask, mesh), INFO)
        assert (tmp_path / "mask").read_bytes() == (tmp_path / "whole").read_bytes()
        loaded, _ = load_mask(tmp_path / "mask", like=place(like, mesh))
        assert_trees(loaded, mask)
        if mesh.size > 1:
            assert loaded["embed"].sharding == place(like, mesh)["embed"].sharding


def test_no_more_of_a_leaf_than_some_rows_is_gathered_to_save_it(tmp_path, mesh8, monkeypatch):
    monkeypatch.setattr(storage, "AT_ONCE", 100)
    taken, to_host = [], storage.sharding.to_host
    monkeypatch.setattr(
        storage.sharding, "to_host", lambda rows: taken.append(rows.size) or to_host(rows)
    )
    mask = place({"layers": {"mlp": {"up": np.ones((6, 8, 4), bool)}}}, mesh8)
    save_mask(tmp_path / "mask", mask, INFO)
    assert taken == [96, 96]
