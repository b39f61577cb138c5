"""The transformer: what may see what, remat, the cache, packed rows; parity is in test_families."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tiny_configs import LINEAR, LLAMA3

from jaxattack.models.config import Rope
from jaxattack.models.transformer import (
    Transformer,
    abstract_params,
    init_cache,
    init_params,
    unembed,
)
from jaxattack.train.losses import answer_loss
from jaxattack.tree import named_leaves

TOKENS = np.random.default_rng(1).integers(0, 608, (2, 48)).astype(np.int32)


@pytest.fixture
def hidden(tiny):
    """`Transformer.hidden` and `unembed`, compiled."""

    @jax.jit
    def run(tokens, context):
        x, cache, _ = tiny.model.apply({"params": tiny.params}, tokens, **context, method="hidden")
        return tiny.model.apply({"params": tiny.params}, x, method="unembed"), cache

    return run


@pytest.mark.parametrize("rope", [LLAMA3, LINEAR])
def test_rope_scaling_changes_logits(rope, make_checkpoint, logits_of):
    checkpoint = make_checkpoint(rope_parameters=rope)
    config = checkpoint.model.config
    plain = Transformer(dataclasses.replace(config, rope=Rope(theta=config.rope.theta)))
    scaled = logits_of(checkpoint.model, checkpoint.params, TOKENS)
    assert np.abs(scaled - logits_of(plain, checkpoint.params, TOKENS)).max() > 1e-2


def test_logits_of_bfloat16_states_are_summed_in_float32(tiny):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.params)
    states = jax.random.normal(jax.random.key(0), (3, 5, 32)).astype(jnp.bfloat16)
    found = unembed(tiny.model, params, states)
    expected = np.asarray(states, np.float64) @ np.asarray(params["head"], np.float64).T
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_gives_the_same_gradients(remat, tiny, make_batch, loss_and_gradient, assert_trees):
    batch = make_batch(seed=4, rows=8)
    loss, grads = loss_and_gradient(tiny.model, tiny.params, batch)
    other_loss, other_grads = loss_and_gradient(tiny.model.clone(remat=remat), tiny.params, batch)
    assert float(other_loss) == pytest.approx(float(loss), rel=1e-6)
    assert_trees(other_grads, grads, rtol=1e-5, atol=1e-7)


def test_remat_full_recomputes_the_layers(tiny, make_batch):
    batch = make_batch(seed=4, rows=8)

    def multiplications(remat):
        model = tiny.model.clone(remat=remat)
        grad = jax.grad(lambda params: answer_loss(model, params, batch))
        return str(jax.make_jaxpr(grad)(tiny.params)).count("dot_general")

    assert multiplications("full") > multiplications("none")


def test_unknown_remat_is_refused(tiny):
    with pytest.raises(KeyError, match="half"):
        abstract_params(tiny.model.clone(remat="half"))


def test_later_tokens_do_not_change_earlier_logits(tiny, logits_of):
    changed = TOKENS.copy()
    changed[:, 30:] = 0
    before = logits_of(tiny.model, tiny.params, TOKENS)
    after = logits_of(tiny.model, tiny.params, changed)
    np.testing.assert_array_equal(before[:, :30], after[:, :30])
    assert np.abs(before[:, 30:] - after[:, 30:]).max() > 0.1


def test_right_padding_of_another_segment_is_not_seen(tiny, logits_of):
    padded = TOKENS.copy()
    padded[:, 30:] = 0
    segments = np.zeros_like(TOKENS)
    segments[:, :30] = 1
    alone = logits_of(tiny.model, tiny.params, padded, segment_ids=segments)
    whole = logits_of(tiny.model, tiny.params, TOKENS)
    np.testing.assert_allclose(alone[:, :30], whole[:, :30], atol=1e-5)
    assert np.isfinite(alone).all()


def test_packed_segments_equal_separate_rows(tiny, logits_of):
    lengths = (20, 9, 12)
    packed, segments, positions = (np.zeros((2, 48), np.int32) for _ in range(3))
    packed[1] = TOKENS[1]
    apart = np.zeros((3, 48), np.int32)
    start = 0
    for number, length in enumerate(lengths):
        span = slice(start, start + length)
        packed[0, span] = apart[number, :length] = TOKENS[0, span]
        segments[0, span] = number + 1
        positions[0, span] = np.arange(length)
        start += length
    together = logits_of(tiny.model, tiny.params, packed, segment_ids=segments, positions=positions)
    separate = [logits_of(tiny.model, tiny.params, apart[rows]) for rows in ([0, 1], [1, 2])]
    rows = [separate[0][0], separate[0][1], separate[1][1]]
    joined = np.concatenate([row[:length] for row, length in zip(rows, lengths, strict=True)])
    np.testing.assert_allclose(together[0, :start], joined, atol=1e-5)
    leaking = logits_of(tiny.model, tiny.params, packed)
    assert np.abs(leaking[0, 20:start] - joined[20:]).max() > 0.1


def test_prefill_and_decode_equal_the_full_pass(tiny, hidden, logits_of):
    width, total = 9, 16
    tokens = TOKENS[:, :total]
    slots = np.arange(total)
    cache = init_cache(tiny.model.config, 2, total, jnp.float32)
    pieces = []
    for start, stop in [(0, width), *((i, i + 1) for i in range(width, total))]:
        places = np.arange(start, stop)
        logits, cache = hidden(
            tokens[:, start:stop],
            {
                "positions": np.broadcast_to(places, (2, stop - start)),
                "mask": np.broadcast_to(slots <= places[:, None], (2, stop - start, total)),
                "cache": cache,
                "slot": jnp.int32(start),
            },
        )
        pieces.append(logits)
    whole = logits_of(tiny.model, tiny.params, tokens)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)


def test_every_layers_output_is_kept_when_asked(tiny):
    @jax.jit
    def run(params):
        model = tiny.model.clone(keep_hidden=True)
        return model.apply({"params": params}, TOKENS, method="hidden")

    _, _, outputs = run(tiny.params)
    with torch.no_grad():
        theirs = tiny.reference(torch.tensor(TOKENS).long(), output_hidden_states=True)
    # Their last one is after the final norm.
    np.testing.assert_allclose(outputs[0], theirs.hidden_states[1].numpy(), atol=1e-4)
    assert outputs.shape == (2, *TOKENS.shape, 32)


def test_bfloat16_parameters_give_close_float32_logits(tiny, logits_of):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.params)
    logits = logits_of(tiny.model, half, TOKENS)
    exact = np.asarray(logits_of(tiny.model, tiny.params, TOKENS))
    assert logits.dtype == jnp.float32
    assert np.abs(logits - exact).mean() < 0.05 * np.abs(exact).mean()


def test_random_parameters_have_the_shapes_of_loaded_ones(make_checkpoint):
    checkpoint = make_checkpoint(attention_bias=True, mlp_bias=True, head_dim=6)
    init = jax.jit(init_params, static_argnums=0)
    params = init(checkpoint.model, jax.random.key(0))
    shapes = {name: leaf.shape for name, leaf in named_leaves(params).items()}
    loaded = {name: leaf.shape for name, leaf in named_leaves(checkpoint.params).items()}
    assert shapes == loaded
    again = init(checkpoint.model, jax.random.key(1))
    assert not np.array_equal(params["embed"], again["embed"])
    layers = params["layers"]["mlp"]["up"]
    assert not np.array_equal(layers[0], layers[1])
