"""The shares of weights that a training moved, counted by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack import sharding
from jaxattack.train.moved import shares_moved

BEFORE = {"embed": np.ones((4, 2), np.float32), "final_norm": np.full(4, 2.0, np.float32)}


def after(embed, norm):
    return {
        "embed": jnp.asarray(BEFORE["embed"] + np.float32(embed)),
        "final_norm": jnp.asarray(BEFORE["final_norm"] + np.float32(norm)),
    }


STEPS = [[0, 1e-5], [0, 0], [0.1, 1e-3], [0, 0.5]]  # of 1.0; bfloat16 has steps of 2 ** -7


@pytest.mark.parametrize("start", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize(("dtype", "rounded"), [("float32", 5), ("bfloat16", 3)])
def test_shares_of_all_weights(start, dtype, rounded):
    before = {name: jnp.asarray(leaf, start) for name, leaf in BEFORE.items()}
    found = shares_moved(before, after(STEPS, [1, 0, 0, 0]), dtype)
    assert found == {"trained": 12, "weights_moved": 5 / 12, "weights_moved_rounded": rounded / 12}


def test_shares_of_the_trained_weights_alone():
    mask = {"embed": jnp.asarray(np.array(STEPS) == 0.1), "final_norm": jnp.ones(4, bool)}
    found = shares_moved(BEFORE, after(STEPS, [1, 0, 0, 0]), "bfloat16", mask)
    assert found == {"trained": 5, "weights_moved": 0.4, "weights_moved_rounded": 0.4}
    nothing = {"embed": jnp.zeros((4, 2), bool), "final_norm": jnp.zeros(4, bool)}
    assert shares_moved(BEFORE, after(STEPS, 0), "float32", nothing)["weights_moved"] == 0.0


def test_a_mesh_counts_the_same(mesh8):
    placed = sharding.place(after(STEPS, [1, 0, 0, 0]), mesh8)
    assert shares_moved(BEFORE, placed, "bfloat16") == shares_moved(
        BEFORE, after(STEPS, [1, 0, 0, 0]), "bfloat16"
    )
