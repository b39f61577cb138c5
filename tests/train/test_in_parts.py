"""An update a layer at a time is that of the whole tree; weights with a byte beyond bfloat16."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.errors import UserError
from jaxattack.train import in_parts, loop
from jaxattack.train.loop import Settings, finetune
from jaxattack.train.optimizer import ELEMENTWISE, make_optimizer
from jaxattack.train.rounding import Draw, joined, parted, rounded, wide

RNG = np.random.default_rng(0)
SHAPES = {
    "embed": (64, 64),
    "final_norm": (64,),
    "layers": {
        "attention": {"q": (3, 64, 2, 64)},
        "mlp": {"up": (3, 64, 128)},
        "mlp_norm": (3, 64),
    },
}


def drawn(scale=1.0):
    return jax.tree.map(
        lambda shape: jnp.asarray(scale * RNG.normal(size=shape), jnp.bfloat16),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def flat(params):
    return np.concatenate([np.asarray(leaf, float).reshape(-1) for leaf in jax.tree.leaves(params)])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_parts_are_updated_as_the_whole_is(name, masked, monkeypatch):
    if name != "adamw8bit":  # whose thresholds would be counted from each part's first row
        monkeypatch.setattr(in_parts, "MUCH", 1)  # embeddings by their rows as well
    decay = {} if name in ("adam", "sgd") else {"weight_decay": 0.1}
    tx = make_optimizer(Settings(1e-2, name, schedule="cosine", **decay), 8)
    mask = None
    if masked:
        mask = jax.tree.map(lambda leaf: jnp.asarray(RNG.random(leaf.shape) < 0.5), drawn())
    params = drawn()
    ours, state = params, tx.init(wide(params))
    theirs, other = params, tx.init(wide(params))
    for _ in range(4):
        grads = drawn(0.1)
        ours, state = jax.jit(in_parts.updated, static_argnums=0)(tx, ours, grads, state, mask)
        grads = wide(grads)
        if masked:
            grads = jax.tree.map(lambda g, m: jnp.where(m, g, 0), grads, mask)
        updates, other = tx.update(grads, other, wide(theirs))
        moved = rounded(optax.apply_updates(wide(theirs), updates), theirs)
        theirs = loop.select(mask, moved, theirs)
    assert jax.tree.structure(state) == jax.tree.structure(other)
    assert (flat(ours) == flat(theirs)).mean() > 0.9999
    np.testing.assert_allclose(flat(ours), flat(theirs), rtol=2**-7, atol=1e-3)
    if masked:
        assert (flat(ours) == flat(params))[~flat(mask).astype(bool)].all()


def test_a_gradient_that_is_not_finite_leaves_nothing():
    tx = make_optimizer(Settings(1e-2), 8)
    params = drawn()
    grads = params | {"final_norm": params["final_norm"].at[3].set(jnp.inf)}
    ours, _ = in_parts.updated(tx, params, grads, tx.init(wide(params)))
    assert all(np.isnan(np.asarray(leaf, float)).all() for leaf in jax.tree.leaves(ours["layers"]))


# --- A byte more --------------------------------------------------------------------------------


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_a_number_in_two_parts_is_near_and_its_first_part_is_nearest(value):
    value = np.float32(value)
    if abs(value) > 3.38e38:  # rounded up it would be infinite
        return
    high, low = parted(jnp.float32(value))
    whole = float(joined(high, low))
    assert whole == pytest.approx(float(value), rel=2.0**-16, abs=1e-37)
    # No bfloat16 is nearer to the number of 24 bits.
    assert abs(whole - float(high)) <= abs(whole - float(jnp.float32(whole).astype(jnp.bfloat16)))
    again = parted(joined(high, low))
    assert (float(again[0]), int(again[1])) == (float(high), int(low))


def test_what_begins_in_bfloat16_begins_with_an_empty_byte():
    values = drawn()["layers"]["mlp"]["up"]
    np.testing.assert_array_equal(joined(values, jnp.zeros(values.shape, jnp.int8)), wide(values))
    high, low = parted(wide(values))
    np.testing.assert_array_equal(high, values)
    assert not low.any()


def falling(model, params, batch):
    leaves = jax.tree.leaves(params)
    return batch["weight"] * sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in leaves)


@pytest.mark.parametrize("masked", [False, True])
def test_small_updates_arrive_as_they_do_in_float32(masked):
    mask = None
    start = drawn()
    if masked:
        mask = jax.tree.map(lambda leaf: jnp.asarray(RNG.random(leaf.shape) < 0.5), start)
    batches = [{"weight": np.float32(w)} for w in RNG.normal(1.0, 0.5, 20)]
    ways = {}
    for weights in ("float32", "extended", "bfloat16"):
        settings = Settings(1e-4, weights=weights)
        ways[weights], _ = finetune(None, start, batches, settings, mask, falling)
    exact, ours, lost = (flat(way) - flat(start) for way in ways.values())
    assert ways["extended"]["embed"].dtype == jnp.float32
    assert np.linalg.norm(ours - exact) < 0.03 * np.linalg.norm(exact)
    assert np.linalg.norm(lost - exact) > 0.5 * np.linalg.norm(exact)
    if masked:
        held = ~flat(mask).astype(bool)
        assert (flat(ways["extended"])[held] == flat(start)[held]).all()


def test_what_has_no_such_byte_says_so():
    with pytest.raises(UserError, match="weights='extended' goes with optimiser adam"):
        Settings(1e-4, "lamb", weights="extended")
    updater = loop.Updater(optax.adamw(1e-4), weights="extended")
    with pytest.raises(UserError, match="is not for this way to train"):
        finetune(None, drawn(), [{"weight": np.float32(1)}], updater, None, falling)


def test_the_memory_of_spare_weights_is_taken():
    start, kept = drawn(), drawn()
    batches, settings = [{"weight": np.float32(1)}] * 2, Settings(1e-4, weights="stochastic")
    finetune(None, kept, batches, settings, None, falling)
    finetune(None, start, batches, settings, None, falling, spare=True)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(start))


def test_spare_weights_that_are_wanted_beside_them_are_not_given_away():
    start = drawn()
    batches, settings = [{"weight": np.float32(1)}], Settings(1e-4)
    beside = {**drawn(), "embed": start["embed"]}
    with pytest.raises(UserError, match="`base` has arrays of `params`"):
        finetune(None, start, batches, settings, None, falling, base=beside, spare=True)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(start))


# An array as a checkpoint's are loaded: 256 MiB in NumPy's memory, which JAX uses as it lies.
# Prints the bytes it takes and the most that a training takes.
LOADED = """
import jax, numpy as np, optax
from jaxattack.train.loop import finetune
def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
def aligned(size):
    raw = np.ones(size + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + size]
def loss(model, params, batch):
    return ((params["embed"] - 2) ** 2).mean() * batch["x"].sum()
batches, tx = [{"x": np.ones(8, np.float32)}] * 3, optax.adamw(1e-3)
finetune(None, {"embed": jax.numpy.ones((64, 64))}, batches, tx, None, loss)
before = memory("VmRSS")
params = {"embed": jax.device_put(aligned(1 << 26).reshape(1 << 13, 1 << 13))}
loaded = memory("VmRSS") - before
finetune(None, params, batches, tx, None, loss, spare=True)
print(loaded, memory("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loaded_weights_that_are_spare_are_not_held_twice():
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded, most = map(int, done.stdout.split())
    assert most < 4.5 * loaded  # weights, gradient, moments; 5 with the loaded ones beside them


# --- Rounding at random, step after step --------------------------------------------------------


def test_thresholds_that_walk_leave_less_to_chance_than_new_ones():
    """64 updates of a tenth of a unit in the last place: near 6.4 units, and right on average."""
    unit, key = 2.0**-7, jax.random.key(1)
    like = {"up": jnp.ones(20_000, jnp.bfloat16)}

    def walk(draw_of):
        weights = like
        for step in range(64):
            moved = jax.tree.map(lambda w: w + 0.1 * unit, wide(weights))
            weights = rounded(moved, weights, draw_of(step))
        return (np.asarray(weights["up"], float) - 1) / unit

    walked = walk(lambda step: Draw(key, step))
    anew = walk(lambda step: Draw(jax.random.fold_in(key, step), 0))
    assert walked.mean() == pytest.approx(6.4, abs=0.05)
    assert anew.mean() == pytest.approx(6.4, abs=0.08)
    assert walked.std() < 0.7 < 2.2 < anew.std()
