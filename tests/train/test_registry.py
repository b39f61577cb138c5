"""Ways to fine-tune agree with what they are made of."""

import jax
import numpy as np
import pytest

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.train import loop, lora, method, optimizer, registry

UPDATES = optimizer.Settings(learning_rate=1e-2)


def how(trainable=None):
    return method.How(UPDATES, 2, 4.0, "float32", "tuning", trainable, jax.random.key(0))


def batches():
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 60, (4, 16), np.int32)
    ones = np.ones_like(tokens)
    return [{"tokens": tokens, "loss_mask": ones.astype(np.float32), "segment_ids": ones}] * 3


def test_full_is_the_loop(tiny):
    tuned, history = registry.METHODS["full"].tune(tiny.model, tiny.params, batches(), how())
    same, losses = loop.finetune(tiny.model, tiny.params, batches(), UPDATES)
    assert np.array_equal(history, losses)
    jax.tree.map(np.testing.assert_array_equal, tuned, same)


def test_adapters_come_merged_in_float32_and_change_matrices_by_their_rank(tiny):
    small = tree.cast(tiny.params, "bfloat16")
    tuned, history = registry.METHODS["lora"].tune(tiny.model, small, batches(), how())
    assert history[-1] < history[0]
    before, after = tree.named_leaves(small), tree.named_leaves(tuned)
    found, _ = lora.finetune(
        tiny.model, small, batches(), UPDATES, jax.random.key(0), lora.LowRank(2, 4.0)
    )
    adapted = {name.removesuffix("/a") for name in tree.named_leaves(found) if name.endswith("/a")}
    for name, leaf in after.items():
        assert leaf.dtype == np.float32
        change = np.asarray(leaf) - np.asarray(before[name], np.float32)
        assert (name in adapted) == bool(change.any())
    mlp = np.asarray(after["layers/mlp/down"]) - np.asarray(before["layers/mlp/down"], np.float32)
    assert np.linalg.matrix_rank(mlp[0], tol=1e-5) == 2


def test_adapters_freeze_no_single_weights(tiny):
    mask = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), tiny.params)
    with pytest.raises(UserError, match="single weights cannot stay"):
        lora.tune(tiny.model, tiny.params, batches(), how(mask))
