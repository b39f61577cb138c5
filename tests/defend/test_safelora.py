"""SafeLoRA and SafeMERGE against loops over matrices as the papers write them, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest

from jaxattack.defend import safelora
from jaxattack.errors import UserError
from jaxattack.tree import named_leaves


@pytest.fixture
def four(layout, tuned):
    """Base, aligned, attacked, safe; what attack and safety tuning change differs in size."""
    aligned = tuned(layout.params, 1, 0.1)
    return layout.params, aligned, tuned(aligned, 2, 0.05), tuned(aligned, 3, 0.02)


def naive(base, aligned, attacked):
    """`{key: (aligned, D, C D, cos(C D, D))}`."""
    before, after, found = papers.written(base), papers.written(attacked), {}
    for key, middle in papers.written(aligned).items():
        v = middle - before[key]
        c = v @ v.T / np.linalg.norm(v)
        change = after[key] - middle
        turned = c @ change
        cosine = np.sum(turned * change) / (np.linalg.norm(turned) * np.linalg.norm(change))
        found[key] = middle, change, turned, cosine
    return found


@pytest.mark.parametrize("least", [0, 1, 5, 100])
def test_the_least_similar_are_projected(least, four):
    found = naive(*four[:3])
    lowest = sorted(found, key=lambda key: found[key][3])[:least]
    expected = {
        key: aligned + (turned if key in lowest else change)
        for key, (aligned, change, turned, _) in found.items()
    }
    projected = safelora.projected(*four[:3], least=least)
    papers.check(projected, expected, four[2])
    if not least:
        papers.same(projected, four[2])


def test_all_up_to_a_threshold_are_projected(four):
    found = naive(*four[:3])
    cosines = sorted(values[3] for values in found.values())
    threshold = (cosines[4] + cosines[5]) / 2
    expected = {
        key: aligned + (turned if cosine <= threshold else change)
        for key, (aligned, change, turned, cosine) in found.items()
    }
    papers.check(safelora.projected(*four[:3], threshold=threshold), expected, four[2])
    similar = safelora.similarities(*four[:3])
    for (name, layer), values in found.items():
        np.testing.assert_allclose(similar[name][layer], values[3], 1e-4)


def test_a_change_along_the_alignment_is_the_most_similar():
    rng = np.random.default_rng(0)
    base = {"layers": {"mlp": {"up": jnp.zeros((2, 5, 4))}}}
    # Alignment wrote into the first output alone; the attack does so in the second layer.
    first = np.zeros((5, 4))
    first[:, 0] = rng.normal(size=5)
    other = np.zeros((5, 4))
    other[:, 1] = 1.0
    aligned = {"layers": {"mlp": {"up": jnp.asarray([first, first], jnp.float32)}}}
    step = jnp.asarray([first + other, -first], jnp.float32)
    attacked = {"layers": {"mlp": {"up": aligned["layers"]["mlp"]["up"] + step}}}
    similar = safelora.similarities(base, aligned, attacked)["layers/mlp/up"]
    share = np.linalg.norm(first) / np.linalg.norm(first + other)
    np.testing.assert_allclose(similar, [share, 1.0], 1e-5)
    mended = safelora.projected(base, aligned, attacked, least=1)["layers"]["mlp"]["up"]
    # C D is D's first output times ||V||, the only eigenvalue of C; the second output is gone.
    size = np.linalg.norm(first)
    np.testing.assert_allclose(mended[0], first + size * first, 1e-5)
    np.testing.assert_array_equal(mended[1], attacked["layers"]["mlp"]["up"][1])


def test_safemerge(four):
    found, better = naive(*four[:3]), papers.written(four[3])
    cosines = sorted(values[3] for values in found.values())
    threshold = (cosines[4] + cosines[5]) / 2
    expected = {}
    for key, (aligned, change, _, cosine) in found.items():
        mixed = 0.7 * change + 0.4 * (better[key] - aligned)
        expected[key] = aligned + (mixed if cosine < threshold else change)
    papers.check(safelora.merged(*four, threshold, (0.7, 0.4)), expected, four[2])
    papers.same(safelora.merged(*four, threshold=-1.0), four[2])


def test_what_the_attack_left_alone_is_not_counted(four):
    base, aligned, attacked, safe = four
    still = jax.tree.map(lambda old, new: new.at[0].set(old[0]), aligned, attacked)
    similar = safelora.similarities(base, aligned, still)
    assert all(np.isnan(values[0]) and np.isfinite(values[1]) for values in similar.values())
    found = safelora.projected(base, aligned, still, least=len(similar))
    # As many as moved are projected, and so all of the second layer.
    whole = safelora.projected(base, aligned, attacked, least=100)
    for name in similar:
        one, all_of = named_leaves(found)[name], named_leaves(whole)[name]
        np.testing.assert_array_equal(one[0], named_leaves(aligned)[name][0])
        np.testing.assert_array_equal(one[1], all_of[1])
    merged = named_leaves(safelora.merged(base, aligned, still, safe, threshold=2.0))
    for name in similar:
        np.testing.assert_array_equal(merged[name][0], named_leaves(aligned)[name][0])
        assert not np.array_equal(merged[name][1], named_leaves(still)[name][1])


def test_types_are_those_of_the_attacked_model(four, tuned):
    base, aligned, _, safe = four
    half = tuned(aligned, 2, dtype=jnp.bfloat16)
    for found in (
        safelora.projected(base, aligned, half),
        safelora.merged(base, aligned, half, safe, 0.9),
    ):
        papers.check(found, papers.written(found), half)


def test_what_has_no_direction_is_refused(four):
    base, aligned, attacked, safe = four
    with pytest.raises(UserError, match=r"equal in layers/attention/\w+ of layer 0"):
        safelora.projected(aligned, aligned, attacked)
    with pytest.raises(UserError, match="equal in layers"):
        safelora.merged(aligned, aligned, attacked, safe)
    other = attacked | {"embed": attacked["embed"][1:]}
    with pytest.raises(UserError, match="the attacked model does not fit"):
        safelora.projected(base, aligned, other)
    with pytest.raises(UserError, match="the safety-tuned model does not fit"):
        safelora.merged(base, aligned, attacked, other)
    with pytest.raises(UserError, match="least is -1"):
        safelora.projected(base, aligned, attacked, least=-1)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_models_that_lie_apart_are_refused(four, elsewhere, which):
    models = [jax.device_put(each, jax.devices()[0]) for each in four]
    models[which] = elsewhere(four[which])
    with pytest.raises(UserError, match=r"lies on cpu:0.*; load all onto one mesh"):
        safelora.merged(*models)
    if which < 3:
        with pytest.raises(UserError, match=r"lies on cpu:0.*; load all onto one mesh"):
            safelora.projected(*models[:3])
