"""Masks on disk."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxattack.errors import UserError
from jaxattack.localize import storage
from jaxattack.localize.masks import random_mask
from jaxattack.localize.storage import load_mask, save_mask
from jaxattack.sharding import place

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


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="gone: no such mask file"):
        load_mask(tmp_path / "gone")


def test_a_failure_leaves_the_old_mask(path, mask, monkeypatch, assert_trees):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_mask(path, jax.tree.map(np.logical_not, mask), {})
    with pytest.raises(TypeError):
        save_mask(path, mask, {"method": object()})
    assert_trees(load_mask(path)[0], mask)
    assert list(path.parent.iterdir()) == [path]
