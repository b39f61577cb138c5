"""The kernels against plain attention, and which of them is chosen where.

cuDNN itself needs a GPU: here its call is checked with XLA behind the same function. The TPU's
kernel runs in Pallas's interpreter.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack.errors import UserError
from jaxattack.models import attention, kernels
from jaxattack.models import config as config_module
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.pretrained import load_pretrained
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.sharding import place_batch, within

CONFIG = ModelConfig(
    vocab_size=64,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=128,
    mlp_size=64,
    norm_eps=1e-5,
    rope=Rope(),
    tied=True,
)
LENGTH = 128


@pytest.fixture
def states():
    """Queries, keys, values and packed segments, the last of them padding."""
    rng = np.random.default_rng(0)
    q = rng.normal(0, 1, (2, LENGTH, 4, 128)).astype(np.float32)
    k, v = rng.normal(0, 1, (2, 2, 2, LENGTH, 128)).astype(np.float32)
    segments = np.repeat([[1, 2, 3, 0], [5, 5, 5, 5]], 32, axis=1).astype(np.int32)
    return q, k, v, segments


@pytest.mark.parametrize("softcap", [0.0, 3.0])
def test_splash_equals_plain_attention(softcap, states):
    q, k, v, segments = states
    mask = attention.causal_mask(segments)
    expected = attention.attend(q, k, v, mask, 0.1, softcap)
    found = kernels.by_splash(q, k, v, segments, 0.1, softcap, interpret=True)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_splash_on_a_mesh_is_the_same(states, mesh8):
    q, k, v, segments = (np.concatenate([x, x]) for x in states)

    @jax.jit
    def on_mesh(q, k, v, segments):
        with within(mesh8):
            return kernels.by_splash(q, k, v, segments, 0.1, interpret=True)

    expected = attention.attend(q, k, v, attention.causal_mask(segments), 0.1)
    placed = place_batch([q, k, v, segments], mesh8)
    np.testing.assert_allclose(on_mesh(*placed), expected, atol=2e-5)


def test_the_call_for_cudnn_equals_plain_attention(states):
    q, k, v, segments = states
    mask = attention.causal_mask(segments)
    found = kernels.by_dot_product_attention(q, k, v, mask, 0.1, "xla")
    np.testing.assert_allclose(found, attention.attend(q, k, v, mask, 0.1), atol=2e-5)


def test_every_platform_has_its_kernel():
    def chosen(platform, dtype=jnp.bfloat16, queries=256, keys=256, packed=True, **fields):
        config = dataclasses.replace(CONFIG, **fields)
        return kernels.choose(platform, config, dtype, queries, keys, packed)

    assert [chosen(platform) for platform in ("cpu", "gpu", "tpu")] == ["xla", "cudnn", "splash"]
    assert chosen("gpu", jnp.float32) == "xla"
    assert chosen("gpu", queries=1) == "xla"
    assert chosen("gpu", keys=255) == "xla"
    assert chosen("gpu", attention_softcap=50.0) == "xla"
    assert chosen("gpu", head_dim=256) == "xla"
    assert chosen("gpu", packed=False, keys=320) == "cudnn"
    assert chosen("tpu", packed=False) == "xla"
    assert chosen("tpu", queries=192, keys=192) == "xla"
    assert chosen("tpu", head_dim=64) == "xla"
    assert chosen("tpu", window=9, local_layers=(True, False)) == "xla"
    assert chosen("tpu", attention_softcap=50.0) == "splash"
    assert {chosen(platform, rope=None) for platform in ("cpu", "gpu", "tpu")} == {"xla"}


@pytest.mark.parametrize(
    ("kernel", "words"),
    [("flash", "give one of auto, xla, cudnn, splash"), ("cudnn", "a gpu, and this is a cpu")],
)
def test_a_kernel_that_is_not_here_is_refused(kernel, words, tiny):
    with pytest.raises(UserError, match=words):
        load_pretrained(tiny.directory, attention=kernel)


@pytest.mark.parametrize("kernel", kernels.KERNELS)
def test_parameters_do_not_depend_on_the_kernel(kernel):
    """Their shapes are asked for before there is a batch, in float32, wherever that is."""
    found = abstract_params(Transformer(CONFIG, attention=kernel))
    assert found == abstract_params(Transformer(CONFIG))


# --- Queries in blocks --------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_queries_in_blocks_give_the_same(softcap, bias, states, monkeypatch):
    q, k, v, segments = states
    slopes = np.random.default_rng(1).normal(0, 1, (4, LENGTH, LENGTH)).astype(np.float32)
    mask = attention.causal_mask(jnp.asarray(segments))

    @jax.jit
    def both(q, k, v, cotangent):
        def mixed(q, k, v):
            return attention.attend(q, k, v, mask, 0.1, softcap, slopes if bias else None)

        out, back = jax.vjp(mixed, q, k, v)
        return out, back(cotangent)

    expected = both(q, k, v, np.ones_like(q))
    monkeypatch.setattr(config_module, "SCORES", 2 * 4 * 24 * LENGTH)  # 24 queries: 8 blocks
    both.clear_cache()
    found = both(q, k, v, np.ones_like(q))
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_no_more_scores_are_held_than_those_of_a_block(monkeypatch):
    shape = jax.ShapeDtypeStruct((1, 512, 4, 8), np.float32)
    keys = jax.ShapeDtypeStruct((1, 4, 512, 8), np.float32)

    def temporary():
        def total(q, k, v):
            mask = attention.causal_mask(jnp.zeros((1, 512), jnp.int32))
            return attention.attend(q, k, v, mask, 1.0).sum()

        gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
        compiled = gradient.lower(shape, keys, keys).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = 4 * 512 * 512 * 4
    assert temporary() > whole
    monkeypatch.setattr(config_module, "SCORES", 4 * 512 * 512 // 16)
    assert temporary() < whole / 2


@pytest.mark.parametrize(
    ("rows", "queries", "keys", "blocks"),
    [
        (1, 512, 512, 1),
        (64, 1024, 1024, 1),
        (64, 2048, 2048, 4),
        (64, 1, 1 << 21, 1),
        (65, 1024, 1024, 2),
        (64, 1031, 1024, 1031),
        (0, 8, 8, 1),
    ],
)
def test_blocks_of_queries_are_equal_and_as_few_as_may_be(rows, queries, keys, blocks):
    assert config_module.query_blocks(rows, queries, keys) == blocks
