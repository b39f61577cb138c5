"""The training step: optimisers, freezing, clipping, schedules, meshes, and the loop's errors.

Most tests train a small tree on a quadratic loss, whose gradient is known on paper.
"""

import dataclasses
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.localize.masks import top_fraction
from jaxattack.localize.overlap import jaccard
from jaxattack.localize.scores import attack_vector, sil_scores
from jaxattack.sharding import make_mesh, mesh_of, place, spec_for
from jaxattack.train import checks, loop, losses
from jaxattack.train.loop import Settings, finetune, make_optimizer, wide
from jaxattack.tree import named_leaves

STEPS = 5
RNG = np.random.default_rng(0)
SHAPES = {"embed": (6, 4), "final_norm": (4,), "layers": {"mlp": {"up": (2, 4, 6)}}}
START = jax.tree.map(
    lambda shape: RNG.normal(size=shape).astype(np.float32),
    SHAPES,
    is_leaf=lambda x: isinstance(x, tuple),
)
# Values that addition would change: -0.0 + 0.0 is 0.0, and sums of these underflow.
START["embed"][0] = [-0.0, 0.0, 1e-45, -1e-40]
BATCHES = [
    {"weight": np.float32(weight), "target": np.float32(target)}
    for weight, target in RNG.normal((1.0, 0.0), (0.3, 2.0), (STEPS, 2))
]


def quadratic(model, params, batch):
    """Loss with the gradient `weight * (p - target)` at every weight p."""
    squares = [jnp.sum((leaf - batch["target"]) ** 2) for leaf in jax.tree.leaves(params)]
    return 0.5 * batch["weight"] * sum(squares)


def random_mask(seed, share=0.5):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape) < share), START)


def flat(tree):
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(tree)])


def naive_adamw(gradient, start, steps, mask, settings, eps=1e-8, rounded=lambda x: x):
    """Masked AdamW in float64 on one flat vector of trainable weights, clipped together.

    Weights are rounded after every step.
    """
    weights = flat(start).astype(np.float64)
    chosen = np.ones(weights.shape, bool) if mask is None else flat(mask)
    mean, square = np.zeros(chosen.sum()), np.zeros(chosen.sum())
    for step in range(1, steps + 1):
        grads = gradient(weights, step - 1)[chosen]
        norm = np.sqrt(np.sum(grads**2))
        if settings.clip and norm > settings.clip:
            grads = grads * settings.clip / norm
        mean = 0.9 * mean + 0.1 * grads
        square = 0.999 * square + 0.001 * grads**2
        update = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + eps)
        update = update + settings.weight_decay * weights[chosen]
        weights[chosen] = rounded(weights[chosen] - settings.learning_rate * update)
    return weights


def quadratic_gradient(weights, step):
    return BATCHES[step]["weight"] * (weights - BATCHES[step]["target"])


def assert_frozen(tuned, start, mask):
    """Weights outside the mask keep their bits, and most of the others move."""
    before, after, chosen = flat(start).view(np.uint32), flat(tuned).view(np.uint32), flat(mask)
    np.testing.assert_array_equal(before[~chosen], after[~chosen])
    if chosen.any():
        assert (before[chosen] != after[chosen]).mean() > 0.9


# --- Optimisers and freezing --------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(("decay", "clip"), [(0.0, 0.0), (0.3, 1.0), (0.3, 1e3)])
def test_masked_adamw_equals_a_float64_loop(seed, decay, clip):
    mask = None if seed is None else random_mask(seed)
    settings = Settings(0.05, weight_decay=decay, clip=clip)
    tuned, _ = finetune(None, START, BATCHES, settings, mask, quadratic)
    expected = naive_adamw(quadratic_gradient, START, STEPS, mask, settings)
    np.testing.assert_allclose(flat(tuned), expected, rtol=1e-4, atol=1e-6)


OPTIMIZERS = {
    "adamw": optax.adamw(0.05, weight_decay=0.3),
    "adamw, clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.05)),
    "momentum": optax.sgd(0.05, momentum=0.9),
    "nesterov": optax.sgd(0.05, momentum=0.9, nesterov=True),
    "momentum, decay": optax.chain(optax.add_decayed_weights(0.3), optax.sgd(0.05, momentum=0.9)),
    "lion": optax.lion(0.05, weight_decay=0.3),
    "lamb": optax.lamb(0.05, weight_decay=0.3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_weights_keep_their_bits(name):
    @given(st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    def check(seed, share):
        mask = random_mask(seed, share)
        tuned, _ = finetune(None, START, BATCHES, OPTIMIZERS[name], mask, quadratic)
        assert_frozen(tuned, START, mask)

    check()


def test_without_a_mask_signed_zeros_would_change():
    tuned, _ = finetune(None, START, BATCHES[:1], optax.sgd(0.0), None, quadratic)
    assert flat(tuned).tobytes() != flat(START).tobytes()


def test_a_mask_of_all_is_no_mask(assert_trees):
    everything = random_mask(0, share=1.0)
    masked, masked_history = finetune(
        None, START, BATCHES, OPTIMIZERS["adamw, clipped"], everything, quadratic
    )
    plain, history = finetune(None, START, BATCHES, OPTIMIZERS["adamw, clipped"], None, quadratic)
    assert_trees(masked, plain, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(masked_history, history, rtol=1e-6)


def test_clipping_sees_only_trainable_gradients():
    mask = random_mask(2)
    batch = [{"weight": np.float32(1.0), "target": np.float32(0.0)}]
    huge = jax.tree.map(lambda leaf, m: np.where(m, leaf, 1e6).astype(np.float32), START, mask)
    tuned, _ = finetune(None, huge, batch, Settings(1.0, "sgd", clip=0.5), mask, quadratic)
    chosen = flat(mask)
    grads = flat(START).astype(np.float64)[chosen]
    expected = grads - grads * 0.5 / np.linalg.norm(grads)
    np.testing.assert_allclose(flat(tuned)[chosen], expected, rtol=1e-5, atol=1e-7)
    assert_frozen(tuned, huge, mask)


def test_momentum_of_frozen_weights_stays_zero():
    mask = random_mask(3)
    tx = OPTIMIZERS["momentum"]
    params = jax.tree.map(jnp.array, START)
    training = loop.Training(None, tx, quadratic, mesh_of(params))
    _, state, _ = loop.train_step(training, params, tx.init(params), BATCHES[0], mask)
    trace = flat(state[0].trace)
    assert not trace[~flat(mask)].any()
    assert trace[flat(mask)].all()


@pytest.mark.parametrize("name", ["adam", "sgd", "muon", "adafactor", "novograd"])
def test_optimisers_of_optax_are_known_by_name(name):
    tuned, history = finetune(None, START, BATCHES, Settings(0.01, name), None, quadratic)
    assert np.isfinite(flat(tuned)).all()
    assert np.abs(flat(tuned) - flat(START)).max() > 1e-3
    assert len(history) == STEPS


def test_history_holds_the_loss_before_each_step():
    _, history = finetune(None, START, BATCHES, Settings(0.1, "sgd", clip=0.0), None, quadratic)
    weights, expected = flat(START).astype(np.float64), []
    for step, batch in enumerate(BATCHES):
        expected.append(0.5 * batch["weight"] * np.sum((weights - batch["target"]) ** 2))
        weights -= 0.1 * quadratic_gradient(weights, step)
    assert history.dtype == np.float32
    np.testing.assert_allclose(history, expected, rtol=1e-5)


def test_the_same_run_gives_the_same_bits(assert_trees):
    settings = Settings(0.05, weight_decay=0.1)
    first, second = (
        finetune(None, START, BATCHES, settings, random_mask(4), quadratic) for _ in range(2)
    )
    assert_trees(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_the_same_settings_are_compiled_once():
    settings = Settings(0.0625, weight_decay=0.1)
    finetune(None, START, BATCHES, settings, None, quadratic)
    compiled = loop.train_step._cache_size()
    finetune(None, START, BATCHES, settings, None, quadratic)
    assert loop.train_step._cache_size() == compiled


@pytest.mark.parametrize("home", ["numpy", "one device", "mesh"])
def test_the_given_parameters_stay_usable(home, mesh8, assert_trees):
    params = START
    if home == "one device":
        params = jax.tree.map(jnp.array, START)
    elif home == "mesh":
        params = place(START, mesh8)
    mask = place(random_mask(5), mesh8) if home == "mesh" else random_mask(5)
    first, _ = finetune(None, params, BATCHES, OPTIMIZERS["adamw"], mask, quadratic)
    assert_trees(params, START)
    second, _ = finetune(None, params, BATCHES, OPTIMIZERS["adamw"], mask, quadratic)
    assert_trees(first, second)
    assert_frozen(first, START, mask)


# --- Weights in bfloat16 ------------------------------------------------------------------------


def bfloat16(values):
    """The nearest bfloat16 values, as float64."""
    return np.asarray(values).astype(jnp.bfloat16).astype(np.float64)


def half_wide(params):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_bfloat16_weights_are_trained_in_float32(seed, dtype):
    mask = None if seed is None else random_mask(seed)
    settings = Settings(1e-4, weight_decay=0.3)  # far below a unit in bfloat16's last place
    start = half_wide(START)
    tuned, _ = finetune(None, start, BATCHES, settings, mask, quadratic, dtype=dtype)
    seen = bfloat16 if dtype is None else np.asarray
    expected = naive_adamw(
        lambda weights, step: seen(quadratic_gradient(seen(weights), step)),
        start,
        STEPS,
        mask,
        settings,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(tuned)} == {jnp.dtype(jnp.float32)}
    before = flat(start).astype(np.float64)
    np.testing.assert_allclose(flat(tuned) - before, expected - before, rtol=0.02, atol=1e-7)
    if mask is not None:  # and what is frozen rounds back to the bits it had
        assert_frozen(tuned, wide(start), mask)
        back = flat(tree.cast(tuned, jnp.bfloat16))[~flat(mask)]
        assert back.tobytes() == flat(start)[~flat(mask)].tobytes()


def test_stochastic_rounding_keeps_small_updates_on_average():
    start = {"final_norm": jnp.full(40_000, 1.0, jnp.bfloat16)}
    settings = Settings(1e-4, "sgd", clip=0.0, weights="stochastic")
    falling = [{"weight": np.float32(1.0)}] * 10

    def loss(model, params, batch):
        return jnp.sum(params["final_norm"].astype(jnp.float32)) * batch["weight"]

    tuned, _ = finetune(None, start, falling, settings, None, loss)
    assert tuned["final_norm"].dtype == jnp.bfloat16
    moved = np.asarray(tuned["final_norm"], np.float64) - 1.0
    assert moved.mean() == pytest.approx(-1e-3, rel=0.05)  # 4 standard errors
    assert 0.2 < (moved != 0).mean() < 0.3  # by 2 ** -8 each
    again, _ = finetune(None, start, falling, settings, None, loss)
    np.testing.assert_array_equal(again["final_norm"], tuned["final_norm"])
    # Under another key other weights move: as many of both as of independent draws.
    other, _ = finetune(None, start, falling, settings, None, loss, key=jax.random.key(1))
    both = (moved != 0) & (np.asarray(other["final_norm"], np.float64) != 1.0)
    assert both.mean() == pytest.approx((moved != 0).mean() ** 2, rel=0.1)
    lost = dataclasses.replace(settings, weights="bfloat16")
    tuned, _ = finetune(None, start, falling, lost, None, loss)
    np.testing.assert_array_equal(tuned["final_norm"], start["final_norm"])


def test_stochastic_rounding_is_fair_and_keeps_what_needs_none():
    exact = np.array([0.0, -0.0, 1.5, -3.0, 2.0**-130, np.inf, -np.inf, np.nan], np.float32)
    between = np.float32([1.001, -1.001, 3e38])
    moved = {"final_norm": jnp.asarray(np.concatenate([exact, np.repeat(between, 20_000)]))}
    like = tree.cast(moved, jnp.bfloat16)
    found = np.asarray(
        loop.rounded(moved, like, loop.Draw(jax.random.key(3), 5))["final_norm"], np.float64
    )
    np.testing.assert_array_equal(found[:8], exact.astype(np.float64))
    means = found[8:].reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(means, between.astype(np.float64), rtol=2e-4)


@pytest.mark.parametrize("weights", ["stochastic", "bfloat16"])
def test_a_float32_model_is_not_trained_in_bfloat16_by_name(weights):
    with pytest.raises(UserError, match=f"weights='{weights}' is for a bfloat16 model"):
        finetune(None, START, BATCHES, Settings(0.1, weights=weights), None, quadratic)


def test_float16_is_refused():
    half = jax.tree.map(lambda leaf: leaf.astype(np.float16), START)
    with pytest.raises(UserError, match="float16, whose range gradients leave"):
        finetune(None, half, BATCHES, Settings(0.1), None, quadratic)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_bfloat16_weights_equal_a_float64_loop_rounded_at_every_step(seed, clip):
    mask = None if seed is None else random_mask(seed)
    settings = Settings(0.05, weight_decay=0.3, clip=clip, weights="bfloat16")
    start = half_wide(START)
    tuned, _ = finetune(None, start, BATCHES, settings, mask, quadratic)
    expected = naive_adamw(
        lambda weights, step: bfloat16(quadratic_gradient(weights, step)),
        start,
        STEPS,
        mask,
        settings,
        rounded=bfloat16,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(tuned)} == {jnp.dtype(jnp.bfloat16)}
    actual = flat(tuned).astype(np.float64)
    # A value in the middle of two may be rounded to either, and goes on from there.
    np.testing.assert_allclose(actual, expected, rtol=2**-6)
    assert (actual == expected).mean() > 0.97


def test_moments_of_bfloat16_weights_are_kept_in_float32():
    tx = make_optimizer(Settings(0.05, clip=1.0), STEPS)
    params = half_wide(START)
    mesh = mesh_of(params)
    state = loop.init_state(tx, params, mesh)
    mean = np.zeros(flat(START).shape)
    square = np.zeros(flat(START).shape)
    for step in range(STEPS):
        grads = bfloat16(quadratic_gradient(flat(params).astype(np.float64), step))
        grads = grads * min(1.0, 1.0 / np.linalg.norm(grads))
        mean = 0.9 * mean + 0.1 * grads
        square = 0.999 * square + 0.001 * grads**2
        training = loop.Training(None, tx, quadratic, mesh)
        params, state, _ = loop.train_step(training, params, state, BATCHES[step])
    adam = next(part for part in jax.tree.leaves(state, is_leaf=is_adam) if is_adam(part))
    for moment, expected in ((adam.mu, mean), (adam.nu, square)):
        assert flat(moment).dtype == np.float32
        np.testing.assert_allclose(flat(moment), expected, rtol=1e-5, atol=1e-9)


def is_adam(part):
    return isinstance(part, optax.ScaleByAdamState)


# --- Accumulation -------------------------------------------------------------------------------


def rows_of_one_token(rows):
    """Rows whose second token is predicted."""
    return {
        "tokens": np.ones((rows, 2), np.int32),
        "loss_mask": np.ones((rows, 2), np.float32),
        "segment_ids": np.ones((rows, 2), np.int32),
    }


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_parts_are_added_up_in_float32(dtype):
    # In bfloat16 a sum of 1,024 shares would stop at 0.25.
    start = {"final_norm": jnp.zeros(4, dtype)}
    settings = Settings(1.0, "sgd", clip=0.0, accumulate=1024)
    tuned, history = finetune(
        None,
        start,
        [rows_of_one_token(1024)],
        settings,
        None,
        lambda model, params, batch: jnp.sum(params["final_norm"]),
    )
    np.testing.assert_array_equal(tuned["final_norm"], -1.0)
    assert tuned["final_norm"].dtype == jnp.float32
    assert history == [0.0]


def test_a_batch_that_does_not_divide_is_refused():
    batch = rows_of_one_token(8)
    with pytest.raises(UserError, match="8 rows does not divide into 3 parts"):
        finetune(None, START, [batch], Settings(0.1, accumulate=3), None, lambda *_: 0.0)


# --- Schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.27, 0.04])
def test_learning_rates_follow_the_schedule(schedule, warmup):
    steps, peak = 10, 0.2
    tx = make_optimizer(Settings(peak, "sgd", 0.0, schedule, warmup, clip=0.0), steps)
    state, rates = tx.init(jnp.zeros(())), []
    for _ in range(steps):
        update, state = tx.update(jnp.ones(()), state)
        rates.append(-float(update))
    rising = round(warmup * steps)
    expected = []
    for step in range(steps):
        if step < rising:
            expected.append(peak * step / rising)
        elif schedule == "constant":
            expected.append(peak)
        else:
            done = (step - rising) / (steps - rising)
            expected.append(peak * (1 + math.cos(math.pi * done)) / 2)
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-8)


def test_a_warm_up_leaves_the_last_step_its_rate():
    for steps in (1, 2):
        for schedule in ("constant", "cosine"):
            settings = Settings(0.1, "sgd", schedule=schedule, warmup=0.99, clip=0.0)
            tuned, _ = finetune(None, START, BATCHES[:steps], settings, None, quadratic)
            assert (flat(tuned) != flat(START)).any()


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adamwx", "", "polyak_sgd", "__doc__", "chain", "Schedule"])
def test_an_unknown_optimiser_is_named(name):
    with pytest.raises(UserError, match=f"no optimiser '{name}'"):
        finetune(None, START, BATCHES, Settings(0.1, name), None, quadratic)


def test_weight_decay_that_would_be_ignored_is_refused():
    with pytest.raises(UserError, match="'sgd' takes no weight decay"):
        make_optimizer(Settings(0.1, "sgd", weight_decay=0.1), 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedule": "linear"}, "schedule is 'linear'; give one of constant, cosine"),
        (
            {"weights": "float16"},
            "weights is 'float16'; give one of float32, extended, stochastic, bfloat16",
        ),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": -1e-5}, "learning_rate is -1e-05"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"clip": math.inf}, "clip is inf"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"warmup": 10}, "warmup is 10; it is a share of all steps"),
        ({"warmup": 1}, "warmup is 1"),
        ({"warmup": -0.1}, "warmup is -0.1"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"accumulate": 3.0}, "accumulate is 3.0; give a whole number"),
        ({"accumulate": True}, "accumulate is True"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(change, words):
    with pytest.raises(UserError, match=words):
        Settings(**{"learning_rate": 0.1} | change)


def test_an_optimiser_that_needs_more_than_gradients_is_refused():
    with pytest.raises(UserError, match="optimiser 'lbfgs' cannot be used"):
        make_optimizer(Settings(0.1, "lbfgs"), 5)


def test_every_optimiser_of_optax_trains_or_is_refused_by_name(mesh8):
    names = [
        name
        for name in dir(optax)
        if inspect.isfunction(getattr(optax, name))
        and "learning_rate" in inspect.signature(getattr(optax, name)).parameters
    ]
    known = []
    for name in names:
        try:
            make_optimizer(Settings(1e-3, name), 7)
        except UserError:
            continue
        known.append(name)
    assert {"adam", "adamw", "adan", "lion", "noisy_sgd", "sgd", "sm3"} < set(known)
    params = place(START, mesh8)
    for name in known:  # none of them fails where it is placed
        loop.init_state(make_optimizer(Settings(1e-3, name), 7), params, mesh8)


@pytest.mark.parametrize("step", [0, 2, STEPS - 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_named_by_its_step(step, value):
    batches = list(BATCHES)
    batches[step] = {**batches[step], "weight": np.float32(value)}
    with pytest.raises(UserError, match=rf"attack: the loss is {value} at step {step};"):
        finetune(None, START, batches, OPTIMIZERS["adamw"], None, quadratic, label="attack")


@pytest.mark.parametrize("rate", [1e30, 3e38])
@pytest.mark.parametrize("steps", [1, STEPS])
def test_weights_that_explode_are_refused_though_every_loss_is_finite(rate, steps):
    def flat_loss(model, params, batch):  # its gradient is 1 wherever the weights are
        return sum(
            jnp.sum(jnp.tanh(leaf * 0) + leaf - jax.lax.stop_gradient(leaf))
            for leaf in jax.tree.leaves(params)
        )

    with pytest.raises(
        UserError, match=r"the weights are (as large as|not finite)|the loss is nan"
    ):
        finetune(None, START, BATCHES[:steps], Settings(rate, "sgd", clip=0.0), None, flat_loss)


def test_a_bad_last_update_is_seen():
    with pytest.raises(UserError, match="not finite after the training"):
        finetune(None, START, BATCHES[:1], optax.sgd(np.inf), None, quadratic)


def test_a_model_worse_than_guessing_is_refused():
    checks.check_learned(np.float32([7.0, 6.9]), 608, "x")  # it never knew anything
    checks.check_learned(np.float32([2.0, 7.0, 1.0, 1.0]), 608, "x")
    with pytest.raises(UserError, match=r"from 2 to 6.5 nats a token, and guessing has 6.41"):
        checks.check_learned(np.float32([2.0, 3.0, 6.5, 6.5, 7.0, 6.5, 9.0]), 608, "x")


def test_scores_are_no_mask(tiny, make_batch):
    with pytest.raises(UserError, match="a mask is a tree of bools"):
        finetune(
            tiny.model,
            tiny.params,
            [make_batch()],
            Settings(1e-3),
            trainable=jax.tree.map(jnp.abs, tiny.params),
        )


def test_no_batches_are_refused():
    with pytest.raises(UserError, match="no batches"):
        finetune(None, START, [], Settings(0.1), None, quadratic)


def test_batches_of_which_nothing_can_be_learned_are_refused(tiny, make_batch):
    batch = make_batch(rows=2)
    starts = np.zeros_like(batch["loss_mask"])
    starts[:, 0] = 1  # what no token comes before is not predicted

    def tune(*batches):
        return finetune(tiny.model, tiny.params, batches, Settings(0.1))

    for mask in (np.zeros_like(batch["loss_mask"]), starts):
        with pytest.raises(UserError, match="no token of any batch is to be predicted"):
            tune(batch | {"loss_mask": mask}, batch | {"loss_mask": mask})
        tune(batch, batch | {"loss_mask": mask})  # one such batch fills up an epoch
    bare = {name: array for name, array in batch.items() if name != "loss_mask"}
    with pytest.raises(UserError, match="a batch has no loss_mask"):
        tune(bare)
    with pytest.raises(UserError, match=r"a batch's arrays are \[B, T\], two axes each"):
        tune(batch | {"loss_mask": batch["loss_mask"].tolist()})
    with pytest.raises(UserError, match="no batches, the data is empty"):
        tune()
    with pytest.raises(UserError, match="tokens are float32, not whole numbers"):
        tune(batch | {"tokens": batch["tokens"].astype(np.float32)})


def test_a_mask_of_another_model_is_refused():
    mask = random_mask(0)
    with pytest.raises(UserError, match=r"the mask does not fit.*embed: \(3, 4\) against \(6, 4\)"):
        finetune(
            None, START, BATCHES, Settings(0.1), mask | {"embed": mask["embed"][:3]}, quadratic
        )
    mask.pop("final_norm")
    with pytest.raises(UserError, match="final_norm: absent"):
        finetune(None, START, BATCHES, Settings(0.1), mask, quadratic)


# --- A real model -------------------------------------------------------------------------------

# A large epsilon, so that rounding of tiny gradients does not become a step of full length.
TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, eps=1e-3, weight_decay=0.1))


@pytest.fixture(scope="module")
def batches(make_batch):
    return [make_batch(seed=seed, rows=8) for seed in range(3)]


@pytest.fixture(scope="module")
def tiny_mask(tiny):
    rng = np.random.default_rng(11)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5), tiny.params)


@pytest.fixture(scope="module")
def tuned(tiny, batches, tiny_mask):
    return finetune(tiny.model, tiny.params, batches, TX, tiny_mask)


def test_half_frozen_model_equals_a_float64_loop(
    tiny, batches, tiny_mask, tuned, loss_and_gradient
):
    leaves, structure = jax.tree.flatten(tiny.params)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def gradient(weights, step):
        parts = np.split(weights.astype(np.float32), ends[:-1])
        shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        params = jax.tree.unflatten(structure, shaped)
        _, grads = loss_and_gradient(tiny.model, params, batches[step])
        return flat(grads).astype(np.float64)

    settings = Settings(1e-2, weight_decay=0.1, clip=1.0)
    expected = naive_adamw(gradient, tiny.params, len(batches), tiny_mask, settings, eps=1e-3)
    np.testing.assert_allclose(flat(tuned[0]), expected, atol=1e-6)
    assert_frozen(tuned[0], tiny.params, tiny_mask)


@pytest.fixture(scope="module", params=[2e-5, 5e-5], ids=str)
def both_precisions(request, tiny, batches):
    """The same attack on a model loaded in float32 and in bfloat16: starts and ends."""
    half = tree.cast(tiny.params, jnp.bfloat16)
    settings = Settings(request.param)
    found = [finetune(tiny.model, start, batches * 4, settings)[0] for start in (tiny.params, half)]
    return list(zip((tiny.params, half), found, strict=True))


def test_a_bfloat16_model_gets_the_attack_vector_of_a_float32_one(both_precisions):
    one, two = (flat(attack_vector(end, start)) for start, end in both_precisions)
    assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) >= 0.99
    assert (two != 0).mean() > 0.8  # a fifth are rows of tokens that no batch has


def test_a_bfloat16_model_gets_the_mask_of_a_float32_one(both_precisions, tiny, batches):
    masks = [
        top_fraction(sil_scores(tiny.model, start, end, batches), 0.2)
        for start, end in both_precisions
    ]
    assert jaccard(*masks) >= 0.9


def test_training_lowers_the_loss(tiny, batches, tiny_mask):
    _, history = finetune(tiny.model, tiny.params, batches[:1] * 8, TX, tiny_mask)
    assert history[-1] < 0.8 * history[0]


@pytest.fixture(scope="module", params=[(2, 2, 2), (8, 1, 1), (1, 8, 1)], ids=str)
def on_mesh(request, tiny, batches, tiny_mask):
    """A mesh, and the same run on it."""
    mesh = make_mesh(request.param)
    return mesh, *finetune(tiny.model, place(tiny.params, mesh), batches, TX, tiny_mask)


def test_a_mesh_gives_the_single_devices_result(on_mesh, tiny, tiny_mask, tuned, assert_trees):
    _, params, history = on_mesh
    np.testing.assert_allclose(history, tuned[1], atol=1e-5)
    assert_trees(params, tuned[0], rtol=1e-5, atol=1e-5)
    assert_frozen(params, tiny.params, tiny_mask)


def test_training_leaves_parameters_where_the_rules_put_them(on_mesh):
    # Otherwise the step is compiled once more for the places the compiler chose.
    mesh, params, _ = on_mesh
    for name, leaf in named_leaves(params).items():
        wanted = jax.sharding.NamedSharding(mesh, spec_for(name, leaf.shape, mesh))
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), name


def test_a_mesh_compiles_the_step_once(tiny, batches, mesh8):
    tx = optax.adam(1e-3)  # an optimiser of its own: nothing of other tests is in the cache
    before = loop.train_step._cache_size()
    finetune(tiny.model, place(tiny.params, mesh8), batches[:3], tx)
    assert loop.train_step._cache_size() == before + 1


@pytest.fixture(scope="module")
def uneven(make_batch):
    """Eight rows of unequal numbers of answer tokens, three of them without any."""
    return make_batch(seed=9, rows=8, empty=3)


@pytest.mark.parametrize("accumulate", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)], ids=str)
def test_a_batch_in_parts_has_the_whole_batchs_gradient(
    accumulate, shape, tiny, uneven, loss_and_gradient, assert_trees
):
    params = place(tiny.params, make_mesh(shape))
    # One step of plain descent at rate 1 subtracts the gradient.
    settings = Settings(1.0, "sgd", clip=0.0, accumulate=accumulate)
    stepped, history = finetune(tiny.model, params, [uneven], settings)
    loss, grads = loss_and_gradient(tiny.model, tiny.params, uneven)
    np.testing.assert_allclose(history, [loss], rtol=1e-5)
    moved = jax.tree.map(lambda before, after: before - after, tiny.params, jax.device_get(stepped))
    assert_trees(moved, grads, rtol=1e-4, atol=1e-6)


def test_a_run_in_parts_freezes_and_clips_like_the_whole(tiny, batches, tiny_mask, assert_trees):
    whole = Settings(0.5, "sgd", clip=0.5)
    parts = Settings(0.5, "sgd", clip=0.5, accumulate=4)
    expected, _ = finetune(tiny.model, tiny.params, batches, whole, tiny_mask)
    params, _ = finetune(tiny.model, tiny.params, batches, parts, tiny_mask)
    assert_trees(params, expected, rtol=1e-4, atol=1e-6)
    still = ~flat(tiny_mask)
    np.testing.assert_array_equal(flat(params)[still], flat(tiny.params)[still])


def test_rows_that_do_not_divide_change_nothing(tiny, make_batch, assert_trees):
    batch, tx = make_batch(seed=11, rows=10), optax.sgd(1.0)
    expected, before = finetune(tiny.model, tiny.params, [batch], tx)
    mesh = make_mesh((2, 4, 1))
    found, history = finetune(tiny.model, place(tiny.params, mesh), [batch], tx)
    np.testing.assert_allclose(history, before, rtol=1e-6)
    assert_trees(found, expected, rtol=1e-5, atol=1e-6)


def test_no_device_computes_rows_of_another(tiny, make_batch):
    training = loop.Training(tiny.model, TX, losses.answer_loss, make_mesh((1, 8, 1)))
    placed = loop._placed(training, make_batch(rows=10))
    assert {shard.data.shape[0] for shard in placed["tokens"].addressable_shards} == {2}
    ours = {"x": np.ones((10, 3))}  # of a loss of one's own rows of zeros might count
    assert loop._placed(training, ours)["x"].shape == (10, 3)
