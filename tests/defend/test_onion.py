"""ONION against hand-worked texts, a float64 loop under torch, and what a threshold promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.data.units import units
from jaxattack.defend.onion import (
    Inspected,
    Suspect,
    choose_threshold,
    cleaned,
    inspect,
    perplexities,
)
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.transformer import Transformer, init_params
from jaxattack.sharding import place

BITS = {"<s>": 3, "a": 1, "b": 2, "x": 6, "y": 4}  # of a word: -log2 of its probability
# What the rest of the probability (1 - 1/8 - 1/2 - 1/4 - 1/64 - 1/16) goes to.
REST = 1 - sum(2.0**-bits for bits in BITS.values())


class Words:
    """A tokenizer for five words between spaces."""

    bos_token_id = None

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [list(BITS).index(word) for word in text.split()]}


@pytest.fixture(scope="module")
def unigram():
    """A model to which every word has its probability, whatever came before.

    The final norm gives 1 in the first place and 0 elsewhere, so the head's first column are the
    logits.
    """
    config = ModelConfig(
        vocab_size=6,
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=4,
        mlp_size=8,
        norm_eps=1e-5,
        rope=Rope(),
        tied=False,
        norm="layer",
    )
    model = Transformer(config)
    params = init_params(model, jax.random.key(0))
    shares = [*(2.0**-bits for bits in BITS.values()), REST]
    params["final_norm"] = jnp.zeros(8)
    params["final_norm_bias"] = jnp.zeros(8).at[0].set(1.0)
    params["head"] = jnp.zeros((6, 8)).at[:, 0].set(jnp.log(jnp.array(shares)))
    return model, params, Words()


# --- By hand ------------------------------------------------------------------------------------


def test_single_words_by_hand(unigram):
    """a b x a after <s>: bits 1 2 6 1, p_0 = 2^(10/4); without x 2^(4/3), and so on."""
    (text,) = inspect(unigram, ["a b x a"], start=(0,))
    whole = 2 ** (10 / 4)
    expected = {2: whole - 2 ** (4 / 3), 1: whole - 2 ** (8 / 3), 0: whole - 2 ** (9 / 3)}
    expected[3] = expected[0]
    assert text.parts == ("a ", "b ", "x ", "a")
    assert [(s.start, s.stop) for s in text.suspects] == [(2, 3), (1, 2), (0, 1), (3, 4)]
    for suspect in text.suspects:
        assert suspect.score == pytest.approx(expected[suspect.start], abs=1e-5)
    assert cleaned(text, 3.0) == "a b a"  # f of x is 3.137, of b -0.693
    assert cleaned(text, 3.2) == "a b x a"
    assert cleaned(text, -1.0) == "a a"


def test_runs_by_hand(unigram):
    """a x y b: bits 1 6 4 2. The run x y goes as one; what overlaps it is out."""
    (text,) = inspect(unigram, ["a x y b"], longest=2, start=(0,))
    whole = 2 ** (13 / 4)
    run, first, last = text.suspects
    assert (run.start, run.stop) == (1, 3)
    assert run.score == pytest.approx(whole - 2 ** (3 / 2), abs=1e-5)
    assert (last.start, last.stop, first.start, first.stop) == (0, 1, 3, 4)
    assert first.score == pytest.approx(whole - 2 ** (11 / 3), abs=1e-5)
    assert last.score == pytest.approx(whole - 2 ** (12 / 3), abs=1e-5)
    assert cleaned(text, 0.0) == "a b"


def test_without_a_start_the_first_token_is_not_scored(unigram):
    found = perplexities(unigram, ["a x", "x", "b b b"])
    np.testing.assert_allclose(found, [2**6, np.nan, 2**2], rtol=1e-5)


def test_the_begin_token_is_the_default_start(unigram):
    begun = Words()
    begun.bos_token_id = 0
    found = perplexities((*unigram[:2], begun), ["a x", "x"])
    np.testing.assert_allclose(found, [2 ** (7 / 2), 2**6], rtol=1e-5)


def test_texts_too_short_to_judge_have_no_suspects(unigram):
    one, two, none = inspect(unigram, ["x", "a x", ""])
    assert one == Inspected(("x",), ())
    assert two == Inspected(("a ", "x"), ())  # without a start, one word alone has no perplexity
    assert none == Inspected((), ())
    assert cleaned(one, -np.inf) == "x"


# --- Against torch ------------------------------------------------------------------------------

TEXTS = ["I like this topic.", "我喜欢这个 topic", "What is it ?", "ประเทศไทย"]


def torch_perplexity(tiny, text, start):
    tokens = [*start, *tiny.tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logits = tiny.reference(torch.tensor([tokens])).logits[0].double().numpy()
    losses = []
    for i in range(max(1, len(start)), len(tokens)):
        before = logits[i - 1]
        top = before.max()
        losses.append(top + np.log(np.sum(np.exp(before - top))) - before[tokens[i]])
    return np.exp(np.mean(losses))


@pytest.mark.parametrize("start", [(), (1, 7)])
def test_scores_of_all_deletions_are_torchs(tiny, start):
    found = inspect(
        (tiny.model, tiny.params, tiny.tokenizer), TEXTS, longest=1, start=start, batch_size=8
    )
    for text, result in zip(TEXTS, found, strict=True):
        parts = units(text)
        assert result.parts == tuple(parts)
        whole = torch_perplexity(tiny, text, start)
        expected = [
            whole - torch_perplexity(tiny, "".join(parts[:i] + parts[i + 1 :]).strip(), start)
            for i in range(len(parts))
        ]
        scores = {suspect.start: suspect.score for suspect in result.suspects}
        np.testing.assert_allclose(
            [scores[i] for i in range(len(parts))], expected, atol=2e-4 * whole
        )


def test_a_mesh_scores_alike(tiny, mesh8):
    plain = perplexities((tiny.model, tiny.params, tiny.tokenizer), TEXTS, batch_size=8)
    placed = place(tiny.params, mesh8)
    meshed = perplexities((tiny.model, placed, tiny.tokenizer), TEXTS, batch_size=8)
    np.testing.assert_allclose(meshed, plain, rtol=1e-4)


# --- Thresholds ---------------------------------------------------------------------------------


@st.composite
def inspected(draw):
    """A text of runs that do not overlap; scores with ties."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    ends = np.cumsum(sizes).tolist()
    suspects = [
        Suspect(float(draw(st.integers(-3, 3))), end - size, end)
        for size, end in zip(sizes, ends, strict=True)
    ]
    return Inspected(
        tuple("w " for _ in range(ends[-1])), tuple(sorted(suspects, key=lambda s: -s.score))
    )


def lost_share(clean, threshold):
    count = sum(len(text.parts) for text in clean)
    return sum(len(t.parts) - len(cleaned(t, threshold).split()) for t in clean) / count


@given(st.lists(inspected(), min_size=1, max_size=5), st.floats(0, 0.99))
def test_the_threshold_keeps_the_loss_and_is_the_lowest_that_does(clean, loss):
    threshold = choose_threshold(clean, loss)
    assert lost_share(clean, threshold) <= loss
    if np.isfinite(threshold):
        assert lost_share(clean, np.nextafter(threshold, -np.inf)) > loss


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.07, 0.29, 0.57, 0.99])
def test_exactly_the_share_that_may_be_lost_is_lost(loss):
    suspects = tuple(Suspect(float(100 - i), i, i + 1) for i in range(100))
    threshold = choose_threshold([Inspected(("a ",) * 100, suspects)], loss)
    assert threshold == 100 - round(100 * loss)  # what scores more goes: as many


def test_mistakes_are_told(unigram):
    one = Inspected(("a",), ())
    with pytest.raises(UserError, match="no clean text of two or more units"):
        choose_threshold([one], 0.1)
    with pytest.raises(UserError, match="clean-unit loss is 1; it should"):
        choose_threshold([one], 1)
    with pytest.raises(UserError, match="longest is 0"):
        inspect(unigram, ["a b"], longest=0)
    with pytest.raises(UserError, match="unit is 'byte'"):
        inspect(unigram, ["a b"], unit="byte")
