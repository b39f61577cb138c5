"""The scores beside SIL's, against the same formulas in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack.localize import importance, scores
from jaxattack.tree import named_leaves


@pytest.fixture
def trees():
    rng = np.random.default_rng(0)

    def draw():
        return {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": {"c": np.float32([1, -2])}}

    return draw(), draw(), draw()


def leaves(tree):
    return {name: np.asarray(leaf, np.float64) for name, leaf in named_leaves(tree).items()}


@pytest.mark.parametrize(
    ("found", "formula"),
    [
        (lambda x, y, g: importance.change(x, y), lambda x, y, g: abs(y - x)),
        (lambda x, y, g: importance.size(x), lambda x, y, g: abs(x)),
        (lambda x, y, g: importance.snip(x, g), lambda x, y, g: abs(x * g)),
        (lambda x, y, g: scores.sil(x, y, g), lambda x, y, g: abs((y - x) * g)),
        (lambda x, y, g: importance.between(x, y, 0.25), lambda x, y, g: 0.75 * x + 0.25 * y),
        (lambda x, y, g: importance.mean(x, y, g), lambda x, y, g: (x + y + g) / 3),
    ],
    ids=["change", "size", "snip", "sil", "between", "mean"],
)
def test_elementwise_scores(found, formula, trees):
    by_name = [leaves(tree) for tree in trees]
    for name, leaf in leaves(found(*trees)).items():
        expected = formula(*(named[name] for named in by_name))
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-7)


def test_points_between_keep_the_type_of_the_weights():
    weights = {"a": jnp.ones(3, jnp.bfloat16)}
    assert importance.between(weights, weights, 0.5)["a"].dtype == weights["a"].dtype
    assert jax.tree.leaves(importance.size(weights))[0].dtype == np.float32
