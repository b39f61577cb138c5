"""Log-likelihoods against torch's logits and float64, and against themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.errors import UserError
from jaxattack.evaluate import likelihood
from jaxattack.evaluate.likelihood import log_likelihoods
from jaxattack.sharding import place

SIZES = ((5, 3), (40, 1), (1, 7), (31, 2), (33, 30), (100, 1), (9, 3))  # context, continuation
VOCABULARY = 608


def pair(context, continuation, seed=0):
    rng = np.random.default_rng(1000 * context + continuation + seed)
    tokens = rng.integers(1, VOCABULARY, context + continuation).tolist()
    return tokens[:context], tokens[context:]


PAIRS = [pair(*sizes) for sizes in SIZES]


def naive(reference, context, continuation, max_length=None):
    """One pair by torch's logits: sum of log-probabilities in float64, and whether all lead."""
    tokens = [*context, *continuation]
    if max_length is not None:
        tokens = tokens[-(max_length + 1) :]
    with torch.no_grad():
        logits = reference(torch.tensor([tokens[:-1]])).logits[0].double().numpy()
    total, greedy = 0.0, True
    for i in range(len(continuation)):
        row, target = logits[-len(continuation) + i], tokens[len(tokens) - len(continuation) + i]
        total += row[target] - row.max() - np.log(np.exp(row - row.max()).sum())
        greedy &= int(row.argmax()) == target
    return total, greedy


def check(found, expected):
    np.testing.assert_allclose([one.total for one in found], [one[0] for one in expected], 1e-5)
    assert [one.greedy for one in found] == [one[1] for one in expected]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_they_are_those_of_torch(tiny, batch_size):
    found = log_likelihoods(tiny.model, tiny.params, PAIRS, batch_size)
    check(found, [naive(tiny.reference, *one) for one in PAIRS])


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "gemma2", "sliding_window": 8, "final_logit_softcapping": 3.0},
        {"model_type": "bloom", "n_layer": 2, "n_head": 4, "hidden_size": 32},
    ],
    ids=lambda fields: fields["model_type"],
)
def test_other_families(make_checkpoint, fields):
    found = make_checkpoint(**fields)
    check(
        log_likelihoods(found.model, found.params, PAIRS),
        [naive(found.reference, *one) for one in PAIRS],
    )


def test_what_greedy_decoding_writes_is_greedy(tiny):
    context, tokens = PAIRS[0][0], []
    with torch.no_grad():
        for _ in range(5):
            logits = tiny.reference(torch.tensor([[*context, *tokens]])).logits
            tokens.append(int(logits[0, -1].argmax()))
    other = [*tokens[:4], (tokens[4] + 1) % VOCABULARY]
    pairs = [(context, tokens), (context, other), (context, tokens[:2]), (tokens, other)]
    found = log_likelihoods(tiny.model, tiny.params, pairs)
    assert [one.greedy for one in found[:3]] == [True, False, True]
    check(found, [naive(tiny.reference, *one) for one in pairs])


def test_the_probabilities_of_all_next_tokens_sum_to_one(tiny):
    pairs = [(PAIRS[0][0], [token]) for token in range(VOCABULARY)]
    found = log_likelihoods(tiny.model, tiny.params, pairs)
    assert np.exp([one.total for one in found]).sum() == pytest.approx(1, abs=1e-5)
    assert sum(one.greedy for one in found) == 1


def test_options_of_one_context_are_read_once(tiny, monkeypatch):
    rows = []
    read = likelihood._read
    monkeypatch.setattr(
        likelihood, "_read", lambda m, p, some, shape: rows.extend(some) or read(m, p, some, shape)
    )
    context, _ = PAIRS[0]
    pairs = [*((context, [token]) for token in (5, 6, 7, 5)), (context[:-1], [context[-1], 9])]
    found = log_likelihoods(tiny.model, tiny.params, pairs)
    assert rows == [tuple(context)]
    assert found[0] == found[3]
    check(found, [naive(tiny.reference, *one) for one in pairs])


@pytest.mark.parametrize("max_length", [1, 7, 24])
def test_long_contexts_lose_their_beginning(tiny, max_length):
    pairs = [one for one in PAIRS if len(one[1]) <= max_length]
    assert any(len(context) > max_length for context, _ in pairs)
    found = log_likelihoods(tiny.model, tiny.params, pairs, max_length=max_length)
    check(found, [naive(tiny.reference, *one, max_length) for one in pairs])


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=9))
def test_neither_order_nor_company_matters(tiny, sizes):
    pairs = [pair(*size, seed) for seed, size in enumerate(sizes)]
    together = log_likelihoods(tiny.model, tiny.params, pairs, batch_size=4)
    turned = log_likelihoods(tiny.model, tiny.params, pairs[::-1], batch_size=4)[::-1]
    check(together, turned)
    check(together, [naive(tiny.reference, *one) for one in pairs])


def test_few_logits_at_a_time_change_nothing(tiny, monkeypatch):
    whole = log_likelihoods(tiny.model, tiny.params, PAIRS)
    monkeypatch.setattr(likelihood, "CPU_LOGITS", 2 * VOCABULARY + 5)
    check(log_likelihoods(tiny.model, tiny.params, PAIRS), whole)
    monkeypatch.setattr(likelihood, "CPU_LOGITS", 1)  # one position at least
    check(log_likelihoods(tiny.model, tiny.params, PAIRS), whole)


@pytest.mark.slow
def test_on_a_mesh(tiny, mesh8):
    params = place(tiny.params, mesh8)
    check(
        log_likelihoods(tiny.model, params, PAIRS, batch_size=4),
        log_likelihoods(tiny.model, tiny.params, PAIRS, batch_size=4),
    )


def test_no_pairs(tiny):
    assert log_likelihoods(tiny.model, tiny.params, []) == []


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([PAIRS[0], ([], [1])], "pair 1 has an empty context"),
        ([([1], [])], "pair 0 has an empty continuation"),
        ([([1], [2] * 9)], "continuation of 9 tokens, and rows may have 8"),
        ([([1, VOCABULARY], [2])], "token id 608"),
        ([([1], [2, -1])], "token id -1"),
    ],
)
def test_what_cannot_be_scored_is_said(tiny, pairs, said):
    with pytest.raises(UserError, match=said):
        log_likelihoods(tiny.model, tiny.params, pairs, max_length=8)


def test_a_damaged_model_says_nothing(tiny):
    params = tiny.params | {"final_norm": tiny.params["final_norm"] * np.nan}
    with pytest.raises(UserError, match="scoring: the model's logits are not finite"):
        log_likelihoods(tiny.model, params, PAIRS)
