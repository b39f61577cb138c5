"""Adam with 8-bit moments: its definition in float64, how near Adam it stays, and what it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxattack.errors import UserError
from jaxattack.sharding import make_mesh, mesh_of, place
from jaxattack.train import eight_bit, loop
from jaxattack.train.eight_bit import COLUMN, MEAN, ROW, SQUARE, STEP, blocks
from jaxattack.train.loop import Settings, finetune

B1, B2, EPS = 0.9, 0.999, 1e-8
SHAPE = (2, 24, 192)  # two blocks of 96 a row


def gradients(steps, spread, seed=0):
    """Gradients `[steps, *SHAPE]`: a part that stays, heavy-tailed noise, a scale of its own."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0, spread, SHAPE))
    noise = rng.standard_t(4, (steps, *SHAPE))
    return (scale * (0.3 * rng.normal(size=SHAPE) + noise)).astype(np.float32)


def scaled(grads, count, before):
    """The code of this module, one step from a state given as its parts."""
    tx = eight_bit.scale_by_adam_8bit(B1, B2, EPS)
    state = eight_bit.EightBitState(jnp.int32(count - 1), *({"mlp/up": part} for part in before))
    found, state = tx.update({"mlp/up": jnp.asarray(grads)}, state)
    return found["mlp/up"], [part["mlp/up"] for part in state[1:]]


def empty():
    tx = eight_bit.scale_by_adam_8bit(B1, B2, EPS)
    return [part["mlp/up"] for part in tx.init({"mlp/up": jnp.zeros(SHAPE)})[1:]]


# --- The definition in float64 ------------------------------------------------------------------


def levels(code):
    top, power = code
    return (np.arange(top + 1) / top) ** power


def naive_decoded(codes, scale, code):
    size = np.abs(np.asarray(codes, int))
    wide = np.repeat(np.asarray(scale, np.float64), codes.shape[-1] // scale.shape[-1], axis=-1)
    return np.sign(np.asarray(codes, int)) * levels(code)[size] * wide


def naive_encoded(moment, count, code, limit):
    """By looking up the two neighbouring levels of every entry."""
    each = moment.shape[-1] // count
    scale = np.abs(moment).reshape(*moment.shape[:-1], count, each).max(axis=-1)
    share = np.abs(moment) / np.repeat(np.where(scale > 0, scale, 1), each, axis=-1)
    known = levels(code)
    low = np.clip(np.searchsorted(known, share, side="right") - 1, 0, len(known) - 2)
    part = (share - known[low]) / (known[low + 1] - known[low])
    return low + (part >= limit), scale


def naive_limit(step):
    _, rows, columns = SHAPE
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return 1 - ((STEP * step + ROW * row + COLUMN * column) % 2**32 >> 8) / 2**24


def test_a_step_is_the_one_defined_and_its_codes_those_of_a_search():
    found = empty()
    for step, grads in enumerate(gradients(40, 1.5), 1):
        mean = B1 * naive_decoded(found[0], found[1], MEAN) + (1 - B1) * grads.astype(float)
        square = (
            B2 * naive_decoded(found[2], found[3], SQUARE) + (1 - B2) * grads.astype(float) ** 2
        )
        expected = mean / (1 - B1**step) / (np.sqrt(square / (1 - B2**step)) + EPS)
        direction, found = scaled(grads, step, found)
        np.testing.assert_allclose(direction, expected, rtol=2e-4, atol=1e-5)
        codes, scale = naive_encoded(mean, 2, MEAN, naive_limit(step))
        np.testing.assert_allclose(found[1], scale, rtol=1e-5)
        # What is within rounding of a threshold may fall on either side of it.
        assert (np.abs(found[0]) == codes).mean() > 0.998
        assert (np.sign(found[0]) * np.sign(mean) >= 0).all()
        codes, scale = naive_encoded(square, 2, SQUARE, naive_limit(step))
        np.testing.assert_allclose(found[3], scale, rtol=1e-5)
        assert (np.asarray(found[2]) == np.maximum(codes, 1)).mean() > 0.998


# --- How near Adam ------------------------------------------------------------------------------


def cosine(a, b):
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("spread", "least"), [(0.5, 0.999), (1.0, 0.999), (2.0, 0.99)])
def test_the_way_of_many_steps_is_adams(spread, least):
    adam, found = optax.scale_by_adam(B1, B2, EPS), empty()
    step_of = jax.jit(scaled)
    state, ours, theirs = adam.init(jnp.zeros(SHAPE)), np.zeros(SHAPE), np.zeros(SHAPE)
    for step, grads in enumerate(gradients(150, spread), 1):
        direction, found = step_of(grads, step, found)
        ours += np.asarray(direction)
        direction, state = adam.update(jnp.asarray(grads), state)
        theirs += np.asarray(direction)
    assert cosine(ours, theirs) > least
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=0.03)


def test_a_square_that_falls_by_less_than_a_code_falls():
    """From one update to the next it falls by a thousandth, and codes are 3 to 9 % apart."""
    rng = np.random.default_rng(1)
    first = rng.uniform(0.3, 1.0, SHAPE).astype(np.float32)
    found = empty()
    step_of = jax.jit(scaled)
    for step in range(1, 301):
        _, found = step_of(first if step <= 5 else np.zeros(SHAPE, np.float32), step, found)
    left = naive_decoded(found[2], found[3], SQUARE)
    expected = first.astype(float) ** 2 * (1 - B2**5) * B2**295
    assert np.abs(left / expected - 1).mean() < 0.05
    assert left.mean() == pytest.approx(expected.mean(), rel=0.01)
    # Rounded to the nearest code nothing but the scale falls, and where it does not, nothing.
    nearest = naive_encoded(np.array([[0.5 * B2, 1.0]]), 1, SQUARE, 0.5)[0]
    assert (nearest == naive_encoded(np.array([[0.5, 1.0]]), 1, SQUARE, 0.5)[0]).all()


def test_small_squares_beside_large_ones_never_blow_an_update_up():
    found, step_of = empty(), jax.jit(scaled)
    scale = 10.0 ** -np.linspace(0, 7, SHAPE[-1])
    worst = 0.0
    for step, grads in enumerate(gradients(60, 0.0) * scale, 1):
        direction, found = step_of(grads.astype(np.float32), step, found)
        assert (np.asarray(found[2])[grads != 0] > 0).all()
        worst = max(worst, float(jnp.abs(direction).max()))
    assert worst < 8.0  # Adam's own bound is near 1 / sqrt(1 - B2) = 32


def test_what_has_no_gradient_keeps_empty_moments():
    found, step_of = empty(), jax.jit(scaled)
    for step, grads in enumerate(gradients(5, 1.0), 1):
        grads[0] = grads[1, :, ::3] = 0
        direction, found = step_of(grads, step, found)
        for part in (direction, found[0], found[2]):
            assert not np.asarray(part)[0].any()
            assert not np.asarray(part)[1, :, ::3].any()
            assert np.asarray(part)[1, :, 1::3].any()


def test_which_leaves_are_quantised():
    assert blocks("layers/mlp/up", (32, 4096, 14336)) == 112
    assert blocks("layers/attention/q", (32, 4096, 32, 128)) == 32 // 32
    assert blocks("embed", (262144, 640)) == 5
    assert blocks("layers/mlp_norm", (32, 4096)) == 0
    assert blocks("layers/attention/q_bias", (32, 32, 128)) == 0
    assert blocks("layers/mlp/up", (1, 8, 128)) == 0  # small
    assert blocks("layers/mlp/up", (2, 640, 131)) == 0  # a prime


# --- In training --------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
START = {
    "embed": RNG.normal(size=(64, 128)).astype(np.float32),
    "final_norm": np.ones(128, np.float32),
    "layers": {"mlp": {"up": RNG.normal(size=(2, 128, 128)).astype(np.float32)}},
}
BATCHES = [
    {"weight": np.float32(w), "target": np.float32(t)}
    for w, t in RNG.normal((1.0, 0.0), (0.3, 2.0), (12, 2))
]


def quadratic(model, params, batch):
    squares = [jnp.sum((leaf - batch["target"]) ** 2) for leaf in jax.tree.leaves(params)]
    return 0.5 * batch["weight"] * sum(squares)


def flat(params):
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(params)])


def test_by_name_it_trains_as_adamw_does_and_keeps_what_is_frozen():
    mask = jax.tree.map(lambda leaf: jnp.asarray(RNG.random(leaf.shape) < 0.5), START)
    found = {}
    for name in ("adamw", "adamw8bit"):
        settings = Settings(0.01, name, weight_decay=0.1)
        found[name] = flat(finetune(None, START, BATCHES, settings, mask, quadratic)[0])
    chosen = flat(mask)
    before = flat(START)
    assert (found["adamw8bit"][~chosen] == before[~chosen]).all()
    moved = [found[name][chosen] - before[chosen] for name in ("adamw", "adamw8bit")]
    assert cosine(*moved) > 0.999
    assert not np.array_equal(*moved)


def test_on_a_mesh_its_state_is_placed_like_the_parameters(mesh8):
    tx = loop.make_optimizer(Settings(0.01, "adamw8bit"), 5)
    state = loop.init_state(tx, place(START, mesh8), mesh8)
    adam = state[1][0]
    for codes in (adam.mean, adam.square):
        assert codes["layers"]["mlp"]["up"].sharding.spec == P(None, "fsdp", "tensor")
        assert codes["layers"]["mlp"]["up"].dtype.itemsize == 1
        assert codes["final_norm"].dtype == jnp.float32
    settings = Settings(0.01, "adamw8bit")
    here, _ = finetune(None, START, BATCHES, settings, None, quadratic)
    there, _ = finetune(None, place(START, mesh8), BATCHES, settings, None, quadratic)
    assert mesh_of(there) == mesh8
    np.testing.assert_allclose(flat(here), flat(there), rtol=1e-5, atol=1e-5)


def test_a_gradient_that_is_not_finite_is_named():
    wrong = [{"weight": np.float32(np.nan), "target": np.float32(0)}]
    with pytest.raises(UserError, match="the loss is nan at step 0"):
        finetune(None, START, wrong, Settings(0.01, "adamw8bit"), None, quadratic)


def test_one_device_is_enough_of_a_mesh():
    params = place(START, make_mesh((1, 1, 1), jax.devices()[:1]))
    settings = Settings(0.01, "adamw8bit", schedule="cosine", warmup=0.2, clip=0.0)
    tuned, history = finetune(None, params, BATCHES, settings, None, quadratic)
    assert np.isfinite(flat(tuned)).all()
    assert len(history) == len(BATCHES)
