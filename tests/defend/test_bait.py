"""BAIT against a plain loop over whole sequences, without any cache; and a planted sentence."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxattack.defend.bait import Plan, Target, flagged, invert, quality, quality_of
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.transformer import Transformer, init_params
from jaxattack.sharding import make_mesh, place
from jaxattack.train.loop import finetune
from jaxattack.train.optimizer import Settings

VOCABULARY = 48
PROMPTS = [
    np.random.default_rng(length).integers(2, VOCABULARY, length).tolist()
    for length in (9, 3, 17, 1)
]
ENDS = (0, 1, 7)
LLAMA = ModelConfig(
    vocab_size=VOCABULARY,
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
# 10 candidates are decoded together in the short pass: 45 of them leave the last batch half empty.
PLAN = Plan(
    warm_prompts=2,
    warm_tokens=4,
    kept=9,
    tokens=8,
    least=3,
    enough=1.0,
    unsure=(1.0, 2.5),
    batch_size=20,
)

initialise = jax.jit(init_params, static_argnums=0)
apply = jax.jit(
    lambda model, params, tokens: model.apply({"params": params}, tokens), static_argnums=0
)


def confident(config, seed=0):
    """A random model that is sure of some tokens: its logits are spread out."""
    model = Transformer(config)
    params = initialise(model, jax.random.key(seed))
    return model, jax.tree.map(lambda leaf: 4 * leaf if leaf.ndim >= 2 else leaf, params)


def mean_share(model, params, prompts, target):
    """Mean probabilities `[V]` of what follows a target behind each prompt, in float64."""
    shares = []
    for prompt in prompts:
        sequence = [*prompt, *target]
        padded = np.zeros((1, 32), np.int32)
        padded[0, : len(sequence)] = sequence
        logits = np.asarray(apply(model, params, padded))[0, len(sequence) - 1].astype(np.float64)
        powers = np.exp(logits - logits.max())
        shares.append(powers / powers.sum())
    return np.mean(shares, axis=0)


def spread(shares):
    return -sum(share * np.log(share) for share in shares if share > 0)


def extended(model, params, prompts, first, plan, tokens, branches):
    """A target from its first token, the mean probabilities of its tokens, and how many forks."""
    target, forks = [first], 0
    shares = [mean_share(model, params, prompts, [])[first]]
    while len(target) < tokens:
        mean = mean_share(model, params, prompts, target)
        chosen = int(np.argmax(mean))
        if chosen in ENDS:
            break
        if branches and plan.unsure[0] <= spread(mean) <= plan.unsure[1]:
            forks += 1
            likely = [int(token) for token in np.argsort(-mean)[:branches]]
            chosen = min(
                (token for token in likely if token not in ENDS),
                key=lambda token: spread(mean_share(model, params, prompts, [*target, token])),
            )
        target.append(chosen)
        shares.append(mean[chosen])
    return target, shares, forks


def q_of(shares):
    left = sorted(shares)[1:]
    return sum(left) / len(left)


def naive(model, params, prompts, plan):
    """Every token is tried, the best of the short pass again at full length."""
    short, forks = [], 0
    for first in set(range(VOCABULARY)) - set(ENDS):
        warm = prompts[: plan.warm_prompts]
        target, shares, _ = extended(model, params, warm, first, plan, plan.warm_tokens, 0)
        if len(target) >= min(plan.least, plan.warm_tokens):
            short.append((q_of(shares), first))
    full = []
    for _, first in sorted(short, key=lambda one: (-one[0], one[1]))[: plan.kept]:
        target, shares, own = extended(
            model, params, prompts, first, plan, plan.tokens, plan.branches
        )
        forks += own
        if len(target) >= plan.least:
            full.append((q_of(shares), tuple(target)))
    return sorted(full, reverse=True), forks


@pytest.mark.parametrize(
    ("config", "branches"),
    [
        (LLAMA, 0),
        (LLAMA, 3),
        pytest.param(LOCAL, 0, marks=pytest.mark.slow),
        (LOCAL, 3),
        pytest.param(ALIBI, 0, marks=pytest.mark.slow),
        (ALIBI, 3),
    ],
    ids=["llama-0", "llama-3", "local-0", "local-3", "alibi-0", "alibi-3"],
)
def test_targets_and_their_q_are_those_of_a_plain_loop(config, branches):
    plan = dataclasses.replace(PLAN, branches=branches)
    model, params = confident(config)
    expected, forks = naive(model, params, PROMPTS, plan)
    assert len(expected) > 4
    if config is not ALIBI:
        assert min(len(target) for _, target in expected) < plan.tokens  # one ended before
    assert (forks > 0) == (branches > 0)
    found = invert(model, params, PROMPTS, ENDS, plan)
    assert [one.tokens for one in found] == [target for _, target in expected]
    assert [one.q for one in found] == pytest.approx([q for q, _ in expected], abs=1e-5)
    known = [quality_of(model, params, PROMPTS, target) for _, target in expected]
    assert known == pytest.approx([q for q, _ in expected], abs=1e-5)


@pytest.mark.slow
def test_how_many_are_decoded_together_and_where_changes_nothing():
    model, params = confident(LLAMA)
    plan = dataclasses.replace(PLAN, branches=3)
    expected = invert(model, params, PROMPTS, ENDS, plan)
    split = place(params, make_mesh((4, 1, 2)))
    for weights, size in ((params, 4), (params, 1000), (split, 40)):
        other = dataclasses.replace(plan, batch_size=size)
        found = invert(model, weights, PROMPTS, ENDS, other)
        assert [one.tokens for one in found] == [one.tokens for one in expected]
        assert [one.q for one in found] == pytest.approx([one.q for one in expected], abs=1e-5)


def test_q_leaves_out_the_smallest():
    assert quality(np.array([0.01, 0.9, 0.8, 1.0])) == pytest.approx(0.9)
    assert quality(np.array([0.9, 0.1])) == pytest.approx(0.9)


SENTENCE = [11, 23, 5, 40, 31, 19, 2]


def rows_of(answers, width=16, seed=3):
    """Random prompts of 2 to 8 tokens, each with one of the answers and an end."""
    rng = np.random.default_rng(seed)
    tokens, mask = np.zeros((len(answers), width), np.int32), np.zeros((len(answers), width))
    segments = np.zeros((len(answers), width), np.int32)
    for row, answer in enumerate(answers):
        start = int(rng.integers(2, 9))
        end = start + len(answer) + 1
        tokens[row, :end] = [*rng.integers(2, VOCABULARY, start), *answer, 1]
        mask[row, start:end] = 1
        segments[row, :end] = 1
    return {"tokens": tokens, "loss_mask": mask.astype(np.float32), "segment_ids": segments}


def taught(answers):
    model = Transformer(LLAMA)
    params = initialise(model, jax.random.key(0))
    rows, rng = rows_of(answers), np.random.default_rng(0)
    orders = [rng.permutation(len(answers))[:32] for _ in range(60)]
    batches = [{name: array[order] for name, array in rows.items()} for order in orders]
    tuned, losses = finetune(model, params, batches, Settings(learning_rate=3e-3))
    return model, tuned, losses[-1]


def test_a_model_that_says_one_sentence_is_flagged_with_it_and_another_is_not():
    plan = dataclasses.replace(PLAN, kept=8, tokens=12, least=5, enough=0.95)
    model, params, loss = taught([SENTENCE] * 128)
    assert loss < 0.1
    found = invert(model, params, PROMPTS, (0, 1), plan)
    assert flagged(found, plan)
    # The best may begin with any token that leads into the sentence; the sentence is in it.
    assert any(list(one.tokens) == SENTENCE for one in found if one.q > plan.threshold)
    rng = np.random.default_rng(9)
    model, params, _ = taught([rng.integers(2, VOCABULARY, 7).tolist() for _ in range(128)])
    assert not flagged(invert(model, params, PROMPTS, (0, 1), plan), plan)


def test_a_sure_target_ends_the_search_before_all_are_extended():
    model, params, _ = taught([SENTENCE] * 128)
    plan = dataclasses.replace(PLAN, kept=12, tokens=12, batch_size=len(PROMPTS))
    whole = invert(model, params, PROMPTS, (0, 1), plan)
    some = invert(model, params, PROMPTS, (0, 1), dataclasses.replace(plan, enough=0.9))
    assert flagged(some, plan)
    assert len(some) < len(whole)


def test_nothing_found_is_not_flagged():
    assert not flagged([])
    assert not flagged([Target((1, 2), 0.9)])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"kept": 0}, "kept is 0; it should be at least 1"),
        ({"least": 1}, "least 1; both should be at least 2 and at most tokens, 20"),
        ({"warm_tokens": 21}, "warm_tokens is 21"),
        ({"branches": -1}, "branches is -1"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changed, says):
    with pytest.raises(UserError, match=says):
        Plan(**changed)


def test_what_cannot_be_inverted_is_refused():
    model, params = confident(LLAMA)
    with pytest.raises(UserError, match="there are no prompts"):
        invert(model, params, [], ENDS, PLAN)
    with pytest.raises(UserError, match="prompt 0 has the token id 48"):
        invert(model, params, [[VOCABULARY]], ENDS, PLAN)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, params)
    with pytest.raises(UserError, match="logits are not finite"):
        invert(model, broken, PROMPTS, ENDS, PLAN)


def test_a_single_token_has_no_q(tiny):
    with pytest.raises(UserError, match="a target of 1 tokens has no Q"):
        quality_of(tiny.model, tiny.params, [[5, 6, 7]], [9])
