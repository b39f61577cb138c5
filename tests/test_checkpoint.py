"""Trees on disk, from one mesh to another."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxattack import checkpoint
from jaxattack.sharding import make_mesh, place, shardings

RNG = np.random.default_rng(0)
STATE = {
    "embed": RNG.normal(size=(6, 4)).astype(np.float32),
    "final_norm": np.array([-0.0, np.inf, 1e-45, 2.0], np.float32),
    "layers": {"mlp": {"up": RNG.normal(size=(2, 4, 6)).astype(jnp.bfloat16)}},
}
MESHES = {"one": (1, 1, 1), "eight": (2, 2, 2), "fsdp": (1, 8, 1)}


def mesh_named(name):
    shape = MESHES[name]
    return make_mesh(shape, jax.devices()[: int(np.prod(shape))])


@pytest.mark.parametrize(
    ("before", "after"), [("eight", "one"), ("one", "eight"), ("eight", "fsdp")]
)
def test_a_round_trip_between_meshes_keeps_every_bit(tmp_path, before, after, assert_trees):
    checkpoint.save(tmp_path / "state", place(STATE, mesh_named(before)))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), STATE)
    mesh = mesh_named(after)
    loaded = checkpoint.load(tmp_path / "state", like, mesh)
    assert_trees(loaded, STATE)
    assert jax.tree.map(lambda leaf: leaf.sharding, loaded) == shardings(STATE, mesh)


def test_an_optimisers_state_comes_back_in_its_own_containers(tmp_path, mesh8, assert_trees):
    params = jax.tree.map(jnp.asarray, STATE)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))
    _, state = tx.update(params, tx.init(params), params)
    checkpoint.save(tmp_path / "state", state)
    loaded = checkpoint.load(tmp_path / "state", state, mesh8)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert_trees(loaded, state)
