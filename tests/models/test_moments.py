"""All examples in one backward pass, for every family, against one example at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_configs import CONFIGS

from jaxattack.localize.scores import gradient_moments
from jaxattack.sharding import place
from jaxattack.train.losses import answer_loss
from jaxattack.tree import named_leaves

# Of every family's configurations one with much in it: biases, caps, one KV head, tied or not.
CASES = [("llama", 2), ("gemma2", 1), ("gemma3_text", 0), ("bloom", 3)]
MORE = [("mistral", 2), ("qwen2", 1), ("qwen3", 1), ("gemma", 0), ("bloom", 1)]  # of their kinds
FUNCTIONS = {"abs": np.abs, "sum": np.asarray, "square": np.square}


@pytest.fixture(scope="module")
def batch(make_batch):
    """Six rows: words that come again, two segments with positions of their own, no answer."""
    batch = make_batch(seed=5, rows=6, empty=1)
    batch["tokens"][0] %= 5
    batch["segment_ids"][1, 9:] *= 2
    batch["loss_mask"][1, 9:12] = 0
    batch["loss_mask"][2] = 0
    starts = np.where(np.arange(24) < 9, 0, 9)
    batch["positions"] = np.tile(np.arange(24, dtype=np.int32), (6, 1))
    batch["positions"][1] -= starts.astype(np.int32)
    return batch


@functools.partial(jax.jit, static_argnums=0)
def single_gradients(model, params, batch):
    """Each row's gradient, stacked `[rows, ...]`."""
    rows = jax.tree.map(lambda array: array[:, None], batch)
    return jax.lax.map(lambda row: jax.grad(answer_loss, argnums=1)(model, params, row), rows)


def assert_moments(found, model, params, batch, tolerance):
    """Compare with sums over single gradients, in float64, in units of a leaf's largest."""
    singles = named_leaves(single_gradients(model, params, batch))
    for moment, function in FUNCTIONS.items():
        for name, leaf in named_leaves(found[moment]).items():
            assert leaf.dtype == jnp.float32
            expected = function(np.asarray(singles[name], np.float64)).sum(axis=0)
            assert np.abs(expected).max() > 0, name
            difference = np.abs(np.asarray(leaf) - expected).max()
            assert difference <= tolerance * np.abs(expected).max(), (moment, name, difference)


def moments(model, params, batch):
    return gradient_moments(
        model, params, [batch], answer_loss, "moments", moments=tuple(FUNCTIONS)
    )


@pytest.mark.parametrize(
    ("case", "remat"),
    [
        *((case, "none") for case in CASES),
        *((case, "full") for case in (CASES[0], CASES[3])),
        (CASES[3], "dots"),
        *(pytest.param(case, "none", marks=pytest.mark.slow) for case in MORE),
        *(pytest.param(case, "full", marks=pytest.mark.slow) for case in (*CASES[1:3], *MORE)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[1]}",
)
def test_moments_equal_single_gradients(case, remat, make_checkpoint, batch):
    """All layers' sums from one pullback, or with `full` each layer's from its own."""
    family, number = case
    checkpoint = make_checkpoint(model_type=family, **CONFIGS[family][number])
    found, count = moments(checkpoint.model.clone(remat=remat), checkpoint.params, batch)
    assert count == 4
    assert_moments(found, checkpoint.model, checkpoint.params, batch, 1e-5)


def test_recomputed_layers_and_blocks_of_words_give_the_same(tiny, batch, monkeypatch):
    monkeypatch.setattr("jaxattack.localize.batched.CPU_LOGITS", 1)
    monkeypatch.setattr("jaxattack.localize.batched.FEWEST", 100)  # 608 words: the last overlap
    found, _ = moments(tiny.model.clone(remat="full"), tiny.params, batch)
    assert_moments(found, tiny.model, tiny.params, batch, 1e-5)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_bfloat16_weights_give_float32_sums(remat, tiny, batch):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.params)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    found, _ = moments(tiny.model.clone(remat=remat), half, batch)
    assert_moments(found, tiny.model, wide, batch, 0.05)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_a_mesh_gives_the_same_for_a_tied_model(remat, make_checkpoint, batch, mesh8):
    checkpoint = make_checkpoint(model_type="llama", **CONFIGS["llama"][1])
    model = checkpoint.model.clone(remat=remat)
    found, count = moments(model, place(checkpoint.params, mesh8), batch)
    assert count == 4
    assert_moments(found, checkpoint.model, checkpoint.params, batch, 1e-5)
