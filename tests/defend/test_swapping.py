"""Swapping against a loop over parts, with every decision taken somewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest

from jaxattack.defend import swapping
from jaxattack.errors import UserError
from jaxattack.tree import map_named, named_leaves

# By part and layer: how far the safety and the language expert moved.
MOVED = {
    ("attention", 0): (0.04, 0.01),
    ("attention", 1): (0.02, 0.02),
    ("mlp", 0): (0.01, 0.04),
    ("mlp", 1): (0.02, 0.03),
}


@pytest.fixture
def three(layout):
    """The aligned model and the two experts."""

    def expert(which):
        rng = np.random.default_rng(which)

        def move(name, leaf):
            noise = rng.normal(size=leaf.shape)
            for (part, layer), scales in MOVED.items():
                if f"/{part}/" in name:
                    noise[layer] *= scales[which]
            return leaf + jnp.asarray(noise, leaf.dtype)

        return map_named(move, layout.params)

    return layout.params, expert(0), expert(1)


def naive_shares(aligned, expert):
    before, sums = papers.written(aligned), {}
    for (name, layer), after in papers.written(expert).items():
        part, old = name.split("/")[1], before[name, layer]
        relative = np.linalg.norm(after - old) / np.linalg.norm(old)
        sums[part, layer] = sums.get((part, layer), 0.0) + relative**2
    norms = {key: value**0.5 for key, value in sums.items()}
    return {key: norm / sum(norms.values()) for key, norm in norms.items()}


@pytest.mark.parametrize(("near", "blend"), [(0.0, 0.5), (0.02, 0.3), (2.0, 0.25)])
def test_against_the_definition(near, blend, three):
    aligned, safety, language = three
    safer, spoken = naive_shares(aligned, safety), naive_shares(aligned, language)
    for expert, shares in ((safety, safer), (language, spoken)):
        found = swapping.shares(aligned, expert)
        for (part, layer), share in shares.items():
            np.testing.assert_allclose(found[part][layer], share, 1e-5)
    weights = {}
    for key, share in safer.items():
        ahead = share - spoken[key]
        weights[key] = blend if abs(ahead) <= near else float(ahead > 0)
    assert set(weights.values()) == {0.0: {0.0, 1.0}, 0.02: {0.0, 0.3, 1.0}, 2.0: {0.25}}[near]
    found = named_leaves(swapping.swapped(aligned, safety, language, near, blend))
    ours, theirs = named_leaves(safety), named_leaves(language)
    for name, leaf in found.items():
        safe, said = np.float64(ours[name]), np.float64(theirs[name])
        if name.startswith(("layers/attention/", "layers/mlp/")):
            part = name.split("/")[1]
            expected = np.stack(
                [
                    weights[part, layer] * safe[layer] + (1 - weights[part, layer]) * said[layer]
                    for layer in range(2)
                ]
            )
        elif name.startswith("layers/"):
            expected = said
        else:
            expected = blend * safe + (1 - blend) * said
        np.testing.assert_allclose(leaf, expected, 1e-6, 1e-6, err_msg=name)


def test_types_are_those_of_the_aligned_model(three):
    aligned, safety, language = three
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), aligned)
    found = swapping.swapped(half, safety, language)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}


def test_an_expert_that_is_none_is_refused(three):
    aligned, safety, _ = three
    with pytest.raises(UserError, match="an expert has the aligned model's matrices"):
        swapping.swapped(aligned, safety, aligned)
    with pytest.raises(UserError, match="the expert does not fit the aligned model"):
        swapping.swapped(aligned, safety, safety | {"embed": safety["embed"][1:]})


def test_models_that_lie_apart_are_refused(three, elsewhere):
    aligned, safety, language = three
    here = jax.device_put(aligned, jax.devices()[0])
    with pytest.raises(
        UserError, match=r"embed of the expert lies on cpu:0, cpu:1, .*of the aligne"
    ):
        swapping.shares(here, elsewhere(safety))
    safety = jax.device_put(safety, jax.devices()[1])
    with pytest.raises(
        UserError, match=r"embed of the safety expert lies on cpu:1, and embed of th"
    ):
        swapping.swapped(aligned, safety, elsewhere(language))
