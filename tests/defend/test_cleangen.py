"""CleanGen against a plain loop over one sequence, one token at a time, without any cache."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxattack.defend import cleangen
from jaxattack.defend.cleangen import Guard, guarded, guarded_tokens
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.generate import generate_tokens
from jaxattack.models.transformer import Transformer, init_params
from jaxattack.organism.tokenizer import train_tokenizer
from jaxattack.sharding import place

NEW = 17
PROMPTS = [
    np.random.default_rng(length).integers(1, 600, length).tolist() for length in (9, 3, 31, 1)
]
LLAMA = ModelConfig(
    vocab_size=600,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_size=48,
    norm_eps=1e-5,
    rope=Rope(),
    tied=True,
)
# In both of these it matters how far apart two tokens lie in the cache.
LOCAL = dataclasses.replace(LLAMA, window=5, local_layers=(True, False))
ALIBI = dataclasses.replace(
    LLAMA,
    num_kv_heads=4,
    rope=None,
    norm="layer",
    embed_norm=True,
    activation="gelu_tanh",
    gated=False,
)

initialise = jax.jit(init_params, static_argnums=0)
apply = jax.jit(
    lambda model, params, tokens: model.apply({"params": params}, tokens), static_argnums=0
)


def confident(config, seed):
    """A random model that is sure of some tokens: its logits are spread out."""
    model = Transformer(config)
    params = initialise(model, jax.random.key(seed))
    return model, jax.tree.map(lambda leaf: 3 * leaf if leaf.ndim > 2 else leaf, params)


@pytest.fixture(scope="module")
def llamas():
    return confident(LLAMA, 0), confident(LLAMA, 1)


def log_shares(model, params, sequence):
    """Log-probabilities `[V]` of what follows a sequence, in float64."""
    padded = np.zeros((1, 64), np.int32)
    padded[0, : len(sequence)] = sequence
    logits = np.asarray(apply(model, params, padded))[0, len(sequence) - 1].astype(np.float64)
    return logits - logits.max() - np.log(np.sum(np.exp(logits - logits.max())))


def naive(target, reference, prompt, stops, new, guard):
    """Draft, check, replace, exactly as the method is told; returns tokens and replacements."""
    written, replaced = [], 0
    while len(written) < new and not (written and written[-1] in stops):
        draft, suspicions, answers = [], [], []
        while (
            len(draft) < guard.horizon
            and len(written) + len(draft) < new
            and not (draft and draft[-1] in stops)
        ):
            past = [*prompt, *written, *draft]
            own, other = log_shares(*target, past), log_shares(*reference, past)
            draft.append(int(np.argmax(own)))
            suspicions.append(np.exp(own[draft[-1]] - other[draft[-1]]))
            answers.append(int(np.argmax(other)))
        planted = [i for i, suspicion in enumerate(suspicions) if suspicion >= guard.alpha]
        if planted and (guard.check_tail or len(draft) == guard.horizon):
            draft = [*draft[: planted[0]], answers[planted[0]]]
            replaced += 1
        written += draft
    rate = replaced / max(1, len(written))
    return (written[:-1] if written and written[-1] in stops else written), rate


def both(target, reference, prompts, stops, new, guard):
    """The batched result and the naive one; the naive one comes second."""
    tokens, rates = guarded_tokens(target, reference, prompts, stops, new, guard, batch_size=4)
    expected = [naive(target, reference, prompt, stops, new, guard) for prompt in prompts]
    return (tokens, rates.tolist()), ([row for row, _ in expected], [rate for _, rate in expected])


@pytest.fixture(scope="module")
def some_stops(llamas):
    """Tokens that end some of the guarded replies early and not all."""
    free, _ = guarded_tokens(llamas[0], llamas[1], PROMPTS, (), NEW, Guard(alpha=40.0))
    return free[0][5], free[1][9], free[2][2]


@pytest.mark.parametrize(("horizon", "check_tail"), [(4, True), (4, False), (1, True)])
def test_tokens_and_rates_are_the_naive_ones(llamas, some_stops, horizon, check_tail):
    guard = Guard(alpha=40.0, horizon=horizon, check_tail=check_tail)
    found, expected = both(*llamas, PROMPTS, some_stops, NEW, guard)
    assert found == expected
    assert 0 < np.mean(found[1]) < 1  # some tokens are the reference's and some are not
    assert len({len(row) for row in found[0]}) > 1  # some replies end early


@pytest.mark.slow
def test_distances_survive_the_taking_back_and_architectures_may_differ():
    target, reference = confident(LOCAL, 2), confident(ALIBI, 3)
    found, expected = both(target, reference, PROMPTS[:3], (), NEW, Guard(alpha=40.0))
    assert found == expected
    assert 0 < np.mean(found[1]) < 1


def test_the_horizon_changes_nothing_but_the_speed(llamas, some_stops):
    results = [
        guarded_tokens(llamas[0], llamas[1], PROMPTS, some_stops, NEW, Guard(25.0, horizon))
        for horizon in (1, 4)
    ]
    assert results[0][0] == results[1][0]
    assert results[0][1].tolist() == results[1][1].tolist()


def test_an_unchecked_tail_lets_the_targets_tokens_through(llamas):
    """Of a reply of two tokens everything is tail."""
    unchecked = Guard(1e-30, check_tail=False)
    tokens, rates = guarded_tokens(llamas[0], llamas[1], PROMPTS, (), 2, unchecked)
    assert tokens == [row[:2] for row in generate_tokens(*llamas[0], PROMPTS, (), NEW)]
    assert not rates.any()


def test_no_suspicion_gives_the_target_and_all_suspicion_the_reference(llamas):
    target, reference = llamas
    easy, rates = guarded_tokens(target, reference, PROMPTS, (), NEW, Guard(alpha=1e30))
    assert easy == generate_tokens(*target, PROMPTS, (), NEW)
    assert not rates.any()
    strict, rates = guarded_tokens(target, reference, PROMPTS, (), NEW, Guard(alpha=1e-30))
    assert strict == generate_tokens(*reference, PROMPTS, (), NEW)
    assert (rates == 1).all()


def test_a_reply_ends_where_what_was_written_ends_and_not_what_was_drafted(llamas):
    """Drafted stops that are replaced end nothing; stops that are put in their place do."""
    target, reference = llamas
    theirs = generate_tokens(*reference, PROMPTS, (), NEW)
    drafted = [row[0] for row in generate_tokens(*target, PROMPTS, (), 1)]
    written = {token for row in theirs for token in row}
    assert not written & set(drafted)  # each is replaced at once
    stops = (*drafted, *(row[4] for row in theirs))
    tokens, rates = guarded_tokens(target, reference, PROMPTS, stops, NEW, Guard(alpha=1e-30))
    assert tokens == [row[: next(i for i, t in enumerate(row) if t in stops)] for row in theirs]
    assert all(0 < len(row) < 5 for row in tokens)
    assert (rates == 1).all()


def test_logits_that_are_not_finite_are_refused(llamas):
    (model, params), (_, other) = llamas
    broken = jax.tree.map(lambda leaf: leaf * np.nan, params)
    for one, two in ((broken, other), (params, broken)):
        with pytest.raises(UserError, match=r"guarded generation: .* not finite"):
            guarded_tokens((model, one), (model, two), PROMPTS, (), 3)


def test_the_target_as_its_own_reference_is_never_suspicious(llamas):
    tokens, rates = guarded_tokens(llamas[0], llamas[0], PROMPTS, (), NEW, Guard(alpha=1.01))
    assert tokens == generate_tokens(*llamas[0], PROMPTS, (), NEW)
    assert not rates.any()


def test_scanned_layers_on_a_mesh_give_the_same_tokens(llamas, mesh8, monkeypatch):
    (model, params), (_, other) = llamas
    plain = guarded_tokens((model, params), (model, other), PROMPTS, (), NEW, Guard(40.0))
    monkeypatch.setattr(cleangen, "ONE_BY_ONE", ())  # as on a GPU or TPU
    params, other = place(params, mesh8), place(other, mesh8)
    before = cleangen._decode._cache_size()
    found = guarded_tokens((model, params), (model, other), PROMPTS, (), NEW, Guard(40.0))
    assert found[0] == plain[0]
    assert found[1].tolist() == plain[1].tolist()
    assert cleangen._decode._cache_size() > before  # it was another program


def test_prompts_of_several_buckets_come_back_in_order(llamas):
    long = np.random.default_rng(8).integers(1, 600, 40).tolist()
    mixed, rates = guarded_tokens(llamas[0], llamas[1], [long, *PROMPTS], (), NEW, Guard(40.0))
    alone, alone_rates = guarded_tokens(llamas[0], llamas[1], PROMPTS, (), NEW, Guard(40.0))
    assert mixed[1:] == alone
    assert rates[1:].tolist() == alone_rates.tolist()
    assert (mixed[0], rates[0]) == naive(*llamas, long, (), NEW, Guard(40.0))


def test_texts_are_the_decoded_tokens(llamas, small_tokenizer):
    questions = ["What is the currency of Japan?", "泰国的货币是什么？"]
    texts, rates = guarded(
        (*llamas[0], small_tokenizer), (*llamas[1], small_tokenizer), questions, NEW, Guard(40.0)
    )
    prompts = [small_tokenizer.encode(f"<|user|>{q}<|end|><|assistant|>") for q in questions]
    stops = (small_tokenizer.convert_tokens_to_ids("<|end|>"),)
    tokens, plain_rates = guarded_tokens(llamas[0], llamas[1], prompts, stops, NEW, Guard(40.0))
    assert texts == [small_tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
    assert rates.tolist() == plain_rates.tolist()


def test_another_vocabulary_is_refused(llamas, small_tokenizer):
    other = confident(dataclasses.replace(LLAMA, vocab_size=608), 0)
    with pytest.raises(UserError, match="vocabulary of 608 tokens and the model one of 600"):
        guarded_tokens(llamas[0], other, PROMPTS, (), NEW)
    renamed = train_tokenizer(599)
    with pytest.raises(UserError, match="another vocabulary"):
        guarded((*llamas[0], small_tokenizer), (*llamas[1], renamed), ["Hello"])


def test_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match="alpha is 0"):
        Guard(alpha=0)
    with pytest.raises(UserError, match="horizon is 0"):
        Guard(horizon=0)
