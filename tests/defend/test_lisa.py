"""Lisa: its pull against a float64 loop, its turns by hand, and what it is for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack import tree
from jaxattack.defend import lisa
from jaxattack.defend.lisa import is_safe, pull, tune
from jaxattack.errors import UserError
from jaxattack.sharding import place
from jaxattack.train.loop import Updater, finetune
from jaxattack.train.losses import answer_loss
from jaxattack.train.optimizer import Settings

SGD = Settings(learning_rate=0.05, optimizer="sgd")


def test_turns_by_hand():
    assert is_safe(5, (1, 2)) == [True, False, False, True, False, False, True, False]
    assert is_safe(2, (2, 9)) == [True, True, False, False]
    assert sum(is_safe(900, (1, 9))) == 100


def quadratic(model, params, batch):
    """Gradient `params - target`."""
    return 0.5 * sum(jnp.sum((leaf - batch["target"]) ** 2) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("after", [0, 3, 5])
@pytest.mark.parametrize("turns", [(1, 2), (2, 1), (2, 3)])
def test_steps_with_the_pull_equal_a_float64_loop(turns, after):
    """With momentum: one optimiser's state goes through all turns."""
    rng = np.random.default_rng(0)
    start, targets = rng.normal(size=4), rng.normal(size=11)
    optimiser = lisa._optimizer(
        Settings(0.1, optimizer="adam", clip=0.0), len(targets), 1.5, turns, after
    )
    batches = [{"target": np.float32(target)} for target in targets]
    params = {"final_norm": start.astype(np.float32)}
    tuned, _ = finetune(None, params, batches, Updater(optimiser), loss_fn=quadratic)
    weights, anchor, mean, square = start.copy(), None, np.zeros(4), np.zeros(4)
    of_safe = ([True] * turns[0] + [False] * turns[1]) * len(targets)
    for step, target in enumerate(targets):
        if step == 0 or of_safe[step] != of_safe[step - 1]:
            anchor = weights.copy()
        gradient = weights - target
        if step >= after:
            gradient = gradient + 1.5 * (weights - anchor)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        at = step + 1
        weights -= 0.1 * mean / (1 - 0.9**at) / (np.sqrt(square / (1 - 0.999**at)) + 1e-8)
    # Adam in float32 has 1 - 0.999^t to four digits less.
    np.testing.assert_allclose(tuned["final_norm"], weights, rtol=1e-4, atol=1e-6)


def test_a_case_by_hand():
    """Steps down w^2 / 2 at rate 0.5 from 8: one safe, two of the user's, pull 2.

    8 -> 4 (at the anchor); anchor 4: 4 -> 2; gradient 2 + 2 * (2 - 4) = -2: 2 -> 3; anchor 3: 1.5.
    """
    tx = pull(2.0, (1, 2), 0)
    weights = {"final_norm": jnp.array([8.0])}
    state, path = tx.init(weights), []
    for _ in range(4):
        gradient, state = tx.update(weights, state, weights)
        weights = jax.tree.map(lambda w, g: w - 0.5 * g, weights, gradient)
        path.append(float(weights["final_norm"][0]))
    assert path == [4.0, 2.0, 3.0, 1.5]


def test_without_pull_it_is_training_on_both_in_turns(tiny, make_batch, assert_trees):
    user, safe = [make_batch(seed) for seed in range(5)], [make_batch(8), make_batch(9)]
    settings = Settings(learning_rate=1e-3, schedule="cosine")
    tuned, history = tune(tiny.model, tiny.params, user, safe, settings, rho=0.0, turns=(1, 2))
    both = [safe[0], *user[:2], safe[1], *user[2:4], safe[0], user[4]]
    expected, losses = finetune(tiny.model, tiny.params, both, settings)
    np.testing.assert_allclose(history, losses, rtol=1e-6)
    assert_trees(tuned, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_safe_answers_are_kept_better_and_weights_stay_nearer(tiny, make_batch):
    """Than by plain tuning on the user's data; the start is left alone."""
    safe, user = make_batch(0), make_batch(1)
    adam = Settings(learning_rate=3e-3, optimizer="adam")
    start, _ = finetune(tiny.model, tiny.params, [safe] * 20, adam)
    before = jax.tree.map(np.array, start)
    args = tiny.model, start, [user] * 12
    plain, _ = finetune(*args, adam)
    loose, _ = tune(*args, [safe], adam, rho=0.0, turns=(1, 3))
    tuned, _ = tune(*args, [safe], adam, rho=5.0, turns=(1, 3), after=0.0)
    loss = jax.jit(answer_loss, static_argnums=0)
    losses = {
        name: float(loss(tiny.model, p, safe))
        for name, p in {"plain": plain, "loose": loose, "tuned": tuned}.items()
    }
    assert losses["loose"] < losses["plain"] - 0.1
    assert losses["tuned"] < losses["plain"] - 0.1

    def distance(params):
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(start), strict=True)
        return np.sqrt(sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs))

    assert distance(tuned) < 0.9 * distance(loose)
    assert loss(tiny.model, tuned, user) < loss(tiny.model, start, user)
    jax.tree.map(np.testing.assert_array_equal, start, before)


@pytest.mark.parametrize("weights", ["float32", "stochastic"])
def test_frozen_weights_keep_their_bits_and_runs_agree(tiny, make_batch, assert_trees, weights):
    rng = np.random.default_rng(0)
    mask = jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5), tiny.params)
    user, safe = [make_batch(seed) for seed in range(3)], [make_batch(9)]
    settings = Settings(learning_rate=1e-2, weight_decay=0.1, weights=weights)
    kind = jnp.float32 if weights == "float32" else jnp.bfloat16
    params = tree.cast(tiny.params, kind)

    def run():
        return tune(
            tiny.model,
            params,
            user,
            safe,
            settings,
            trainable=mask,
            dtype="bfloat16",
            key=jax.random.key(3),
        )

    tuned, history = run()
    again, same = run()
    assert_trees(tuned, again)
    np.testing.assert_array_equal(history, same)

    def check(chosen, old, new):
        old, new, chosen = np.asarray(old), np.asarray(new), np.asarray(chosen)
        assert new.dtype == kind
        assert old[~chosen].tobytes() == new[~chosen].tobytes()
        return (old != new)[chosen].mean()

    assert jax.tree.map(check, mask, params, tuned)["layers"]["mlp"]["up"] > 0.9


@pytest.mark.slow
def test_a_mesh_and_parts_of_a_batch_tune_alike(tiny, make_batch, mesh8):
    user, safe = [make_batch(seed) for seed in range(3)], [make_batch(9)]
    tuned, history = tune(tiny.model, tiny.params, user, safe, SGD, turns=(1, 2))
    parts = dataclasses.replace(SGD, accumulate=2)
    placed = place(tiny.params, mesh8)
    again, meshed = tune(tiny.model, placed, user, safe, parts, turns=(1, 2))
    np.testing.assert_allclose(meshed, history, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), again, tuned)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rho": -1.0}, "rho is -1"),
        ({"turns": (0, 9)}, r"turns are \(0, 9\)"),
        ({"after": 1.5}, "after is 1.5"),
    ],
)
def test_mistakes_are_told(tiny, make_batch, change, line):
    with pytest.raises(UserError, match=line):
        tune(tiny.model, tiny.params, [make_batch(0)], [make_batch(1)], SGD, **change)


def test_both_kinds_of_batches_are_needed(tiny, make_batch):
    with pytest.raises(UserError, match="Lisa: no safe batches"):
        tune(tiny.model, tiny.params, [make_batch(0)], [], SGD)
    with pytest.raises(UserError, match="Lisa: no batches"):
        tune(tiny.model, tiny.params, [], [make_batch(0)], SGD)


def test_rows_without_answers_are_refused(tiny, make_batch, unanswered):
    with pytest.raises(UserError, match="Lisa, safe rows: no token of any batch is to be pred"):
        tune(tiny.model, tiny.params, [make_batch(0)], [unanswered], SGD)
    with pytest.raises(UserError, match="Lisa, the user's rows: no token of any batch is to be"):
        tune(tiny.model, tiny.params, [unanswered], [make_batch(0)], SGD)
