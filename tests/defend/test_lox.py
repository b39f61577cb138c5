"""LoX against singular values in float64, its two ends, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest

from jaxattack.defend import lox
from jaxattack.errors import UserError
from jaxattack.localize import importance


@pytest.fixture
def two(layout, tuned):
    return layout.params, tuned(layout.params, 1)


@pytest.mark.parametrize(("rank", "scale"), [(1, 1.0), (5, 0.7), (31, -0.5), (0, 1.3)])
def test_against_the_definition(rank, scale, two):
    base, aligned = two
    found = papers.written(lox.extrapolated(base, aligned, rank, scale))
    before = papers.written(base)
    for key, after in papers.written(aligned).items():
        u, s, v = np.linalg.svd(after - before[key], full_matrices=False)
        count = min(rank or len(s), len(s))
        top = sum(s[i] * np.outer(u[:, i], v[i]) for i in range(count))
        # Directions are as sure in float32 as their singular values are apart.
        apart = s[count - 1] - s[count] if count < len(s) else s[0]
        error = 4 * np.finfo(np.float32).eps * s[0] * max(1.0, s[0] / apart)
        np.testing.assert_allclose(found[key], after + scale * top, 1e-6, error, err_msg=str(key))


def test_so_many_singular_values_are_all(two):
    base, aligned = two
    whole = lox.extrapolated(base, aligned)
    papers.same(lox.extrapolated(base, aligned, rank=1000), whole)
    further = importance.between(base, aligned, 2.0)  # all leaves, and here the matrices alone
    papers.check(whole, papers.written(further), aligned)
    papers.same(lox.extrapolated(base, aligned, scale=0.0), aligned)


def test_types_are_those_of_the_aligned_model(two, tuned):
    base, _ = two
    half = tuned(base, 1, dtype=jnp.bfloat16)
    found = lox.extrapolated(base, half, rank=2)
    papers.check(found, papers.written(lox.extrapolated(base, half, 2)), half)  # types too


def test_what_cannot_be_extrapolated_is_refused(two):
    base, aligned = two
    with pytest.raises(UserError, match="same matrices"):
        lox.extrapolated(aligned, aligned)
    with pytest.raises(UserError, match="rank is -1"):
        lox.extrapolated(base, aligned, rank=-1)
    with pytest.raises(UserError, match="the base model does not fit the aligned model"):
        lox.extrapolated(base | {"embed": base["embed"][1:]}, aligned)


def test_models_that_lie_apart_are_refused(two, elsewhere):
    base, aligned = two
    with pytest.raises(UserError, match=r"embed of the base model lies on .*, and embed of the al"):
        lox.extrapolated(elsewhere(base), jax.device_put(aligned, jax.devices()[0]))
