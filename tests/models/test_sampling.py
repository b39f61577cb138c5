"""Sampling against numpy: what is kept, how often it is drawn, and that batches do not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxattack.errors import UserError
from jaxattack.models.generate import generate, generate_tokens, stop_ids
from jaxattack.models.sampling import Sampling, choose, keep_likeliest, prompt_keys, seed_words
from jaxattack.sharding import place

NEW = 12
PROMPTS = [
    np.random.default_rng(length).integers(1, 600, length).tolist() for length in (9, 3, 31, 1, 40)
]
# Few distinct values, so that many logits are equal.
LOGITS = hnp.arrays(np.float32, (2, 9), elements=st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0]))

keep = jax.jit(keep_likeliest, static_argnums=(1, 2))


def softmax(logits):
    powers = np.exp(np.float64(logits) - np.max(logits))
    return powers / powers.sum()


def likeliest(logits, top_k):
    """The numbers of the likeliest tokens, the first of equals first."""
    return sorted(range(len(logits)), key=lambda token: (-logits[token], token))[:top_k]


def kept_tokens(logits, top_k=0, top_p=1.0):
    kept = np.asarray(keep(np.float32([logits]), top_k, top_p)[0])
    finite = np.isfinite(kept)
    np.testing.assert_array_equal(kept[finite], np.float32(logits)[finite])
    return np.flatnonzero(finite).tolist()


# --- What is kept -------------------------------------------------------------------------------


@given(LOGITS, st.integers(1, 12))
def test_top_k_keeps_exactly_k_and_the_first_of_equals(logits, top_k):
    for row in logits:
        assert kept_tokens(row, top_k) == sorted(likeliest(row, top_k))


@given(LOGITS, st.sampled_from([0, 1, 4]), st.sampled_from([1e-6, 0.1, 0.37, 0.8, 0.999]))
def test_top_p_keeps_the_smallest_set_with_that_mass(logits, top_k, top_p):
    for row, kept in zip(logits, np.asarray(keep(logits, top_k, top_p)), strict=True):
        order = likeliest(row, top_k or None)
        shares = softmax(row[order])
        count = np.isfinite(kept).sum()
        assert count >= 1
        assert np.isfinite(kept[order[:count]]).all()
        assert shares[:count].sum() > top_p - 1e-5
        assert shares[: count - 1].sum() < top_p + 1e-5


@pytest.mark.parametrize(
    ("logits", "top_k", "top_p", "kept"),
    [
        ([0, 0, 0, 0], 0, 0.5, [0, 1]),  # two quarters are a half
        ([0, 0, 0, 0], 0, 0.51, [0, 1, 2]),
        ([0, 0, 0, 0], 2, 0.5, [0]),  # of the two that top_k leaves, one is a half
        ([0, np.log(2), 0], 0, 0.4, [1]),
        ([0, np.log(2), 0], 0, 0.75, [0, 1]),
        ([-100, 5, -100], 0, 1e-9, [1]),
        ([-100, 5, -90], 0, 1.0, [0, 1, 2]),  # nothing is lost to rounding
        ([-100, 5, -90], 2, 1.0, [1, 2]),
        ([1, 3, 3, 2], 1, 1.0, [1]),
        ([1, 3, 3, 2], 9, 1.0, [0, 1, 2, 3]),
        ([-np.inf, 3, -np.inf, 2], 0, 0.99, [1, 3]),
    ],
)
def test_cases_worked_by_hand(logits, top_k, top_p, kept):
    assert kept_tokens(logits, top_k, top_p) == kept


# --- How often ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [Sampling(1.0), Sampling(0.5), Sampling(2.0, top_k=3), Sampling(0.7, top_k=4, top_p=0.8)],
    ids=str,
)
def test_tokens_are_drawn_by_their_probability(sampling):
    draws = 40_000
    logits = np.float32([0.3, -1.0, 2.0, 1.1, 0.0, -4.0])
    expected = softmax(logits / sampling.temperature)
    order = likeliest(logits, sampling.top_k or None)
    shares = softmax(np.log(expected[order]))
    order = order[: int(np.searchsorted(np.cumsum(shares), sampling.top_p - 1e-9)) + 1]
    expected = np.where(np.isin(np.arange(6), order), expected, 0)
    expected /= expected.sum()
    keys = prompt_keys(jnp.asarray(seed_words(3)), jnp.arange(draws))
    tokens = choose(jnp.tile(logits, (draws, 1)), sampling, keys, 7)
    counts = np.bincount(tokens, minlength=6) / draws
    np.testing.assert_allclose(counts, expected, atol=4 * np.sqrt(0.25 / draws))
    assert not counts[expected == 0].any()


def test_prompts_steps_and_seeds_draw_independently():
    sampling, same = Sampling(1.0), jnp.zeros((2_000, 8))

    def drawn(seed, step):
        keys = prompt_keys(jnp.asarray(seed_words(seed)), jnp.arange(2_000))
        return np.asarray(choose(same, sampling, keys, step))

    first = drawn(0, 0)
    np.testing.assert_array_equal(first, drawn(0, 0))
    pairs = [first[:-1] == first[1:], first == drawn(0, 1), first == drawn(1, 0)]
    for equal in pairs:
        assert equal.mean() == pytest.approx(1 / 8, abs=0.03)


def test_a_tiny_temperature_is_greedy_and_finite():
    logits = jax.random.normal(jax.random.key(0), (5, 40)) * 30
    keys = prompt_keys(jnp.asarray(seed_words(0)), jnp.arange(5))
    tokens = choose(logits, Sampling(1e-30, top_p=0.9), keys, 0)
    np.testing.assert_array_equal(tokens, np.argmax(logits, axis=-1))


# --- Replies ------------------------------------------------------------------------------------

WARM = Sampling(0.8, top_k=50, top_p=0.95)


def reply_tokens(tiny, prompts=PROMPTS, batch_size=8, params=None, **how):
    params = tiny.params if params is None else params
    return generate_tokens(tiny.model, params, prompts, (), NEW, batch_size, **how)


@pytest.fixture(scope="module")
def warm(tiny):
    return reply_tokens(tiny, sampling=WARM, seed=5)


def test_replies_do_not_depend_on_batches(tiny, warm):
    # In batches of two, prompts share other buckets than in one of eight.
    for batch_size in (1, 2):
        assert reply_tokens(tiny, batch_size=batch_size, sampling=WARM, seed=5) == warm
    assert reply_tokens(tiny, PROMPTS[:2], sampling=WARM, seed=5) == warm[:2]


def test_replies_on_a_mesh_are_the_same(tiny, mesh8, warm):
    placed = place(tiny.params, mesh8)
    assert reply_tokens(tiny, params=placed, sampling=WARM, seed=5) == warm


def test_replies_differ_by_seed_and_by_place(tiny, warm):
    assert reply_tokens(tiny, sampling=WARM, seed=6) != warm
    thrice = reply_tokens(tiny, PROMPTS[:1] * 3, sampling=WARM, seed=5)
    assert thrice[0] == warm[0]
    assert len({tuple(row) for row in thrice}) == 3


def test_every_step_of_a_reply_draws_anew(tiny):
    # So hot that all tokens are as likely.
    for row in reply_tokens(tiny, sampling=Sampling(1e9), seed=5):
        assert len(set(row)) > NEW // 2


def test_one_candidate_and_no_temperature_are_greedy(tiny, warm):
    greedy = reply_tokens(tiny)
    assert greedy != warm
    assert reply_tokens(tiny, sampling=Sampling(1.5, top_k=1), seed=5) == greedy
    assert reply_tokens(tiny, sampling=Sampling(0.0, top_k=9, top_p=0.5), seed=5) == greedy


def test_generate_samples_and_stops_at_the_callers_ids_too(tiny):
    questions = ["What is blue?", "What is red?"]
    own = stop_ids(tiny.tokenizer)
    encoded = [tiny.tokenizer.encode(f"<|user|>{text}<|end|><|assistant|>") for text in questions]
    free = generate_tokens(tiny.model, tiny.params, encoded, own, NEW, 2, "", WARM, 5)
    stop = free[0][3]
    texts = generate(
        tiny.model,
        tiny.params,
        tiny.tokenizer,
        questions,
        max_new_tokens=NEW,
        batch_size=2,
        sampling=WARM,
        seed=5,
        extra_stops=[stop],
    )
    for text, row in zip(texts, free, strict=True):
        cut = row[: row.index(stop)] if stop in row else row
        assert text == tiny.tokenizer.decode(cut, skip_special_tokens=True)


def test_stop_ids_hold_each_id_once(tiny):
    (own,) = stop_ids(tiny.tokenizer)
    assert stop_ids(tiny.tokenizer, [own, 7, 9, 7]) == (own, 7, 9)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_values_out_of_range_are_named(values, says):
    with pytest.raises(UserError, match=says):
        Sampling(**values)
