"""Representations: means over real tokens, and measures that know what they should not see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.errors import UserError
from jaxattack.localize import representations


def states(seed, shape=(12, 6)):
    return np.random.default_rng(seed).normal(size=shape)


@given(st.integers(0, 99), st.floats(0.1, 10), st.floats(-5, 5))
def test_cka_sees_neither_rotation_nor_scale_nor_shift(seed, scale, shift):
    x = states(seed)
    rotation, _ = np.linalg.qr(states(seed + 1, (6, 6)))
    assert representations.cka(x, scale * x @ rotation + shift) == pytest.approx(1)
    other = states(seed + 2)
    value = representations.cka(x, other)
    assert -1 < value < 1
    assert value == pytest.approx(representations.cka(other, x))


def hsic(k, m):
    """The unbiased estimate as Song et al. 2012 write it (eq. 5)."""
    n = len(k)
    k, m = (kernel * (1 - np.eye(n)) for kernel in (k, m))
    found = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (found - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3))


@pytest.mark.parametrize("count", [4, 12])
def test_cka_by_its_definition_with_kernels(count):
    x, y = states(0, (count, 6)) + 3, states(1, (count, 4))
    k, m = x @ x.T, y @ y.T
    assert representations.cka(x, y) == pytest.approx(hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5)


def test_unrelated_states_are_not_alike_however_few_texts():
    for count in (6, 24):
        pairs = [
            representations.cka(states(seed, (count, 256)), states(seed + 1000, (count, 256)))
            for seed in range(200)
        ]
        assert abs(np.mean(pairs)) < 4 * np.std(pairs) / 200**0.5
        shared = states(9, (count, 256))
        noisy = [shared + 0.5 * states(seed, shared.shape) for seed in (1, 2)]
        assert representations.cka(*noisy) > 0.5


def test_too_few_texts_are_refused():
    with pytest.raises(UserError, match="CKA of 3 texts"):
        representations.cka(states(0, (3, 6)), states(1, (3, 6)))
    with pytest.raises(UserError, match="CKA of 6 and 5 texts; give at least 4, the same in both"):
        representations.cka(states(0, (6, 4)), states(1, (5, 4)))


@pytest.mark.parametrize("constant", [np.zeros((12, 6)), np.full((12, 6), 0.1), np.eye(12)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_without_a_difference_are_refused(constant, dtype):
    constant = constant.astype(dtype)
    for pair in ((constant, states(0)), (states(0), constant), (constant, constant)):
        with pytest.raises(UserError, match="CKA of 12 texts whose states are all equal, or all"):
            representations.cka(*pair)
    broken = states(1)
    broken[3, 2] = np.inf
    with pytest.raises(UserError, match="CKA of states that are not finite"):
        representations.cka(states(0), broken)
    # A difference in float32's last place is one.
    near = np.ones((12, 6), np.float32)
    near[:5] += np.finfo(np.float32).eps
    near[7, 2] += np.finfo(np.float32).eps
    assert representations.cka(near, near) == pytest.approx(1)


def test_cosine_by_hand():
    # Centred: x = (±1, 0), y = (±1, ±1): cosines 1/sqrt(2) each.
    x = np.array([[2.0, 5.0], [0.0, 5.0]])
    y = np.array([[1.0, 1.0], [-1.0, -1.0]])
    assert representations.cosine(x, y) == pytest.approx(2**-0.5)
    assert representations.cosine(x, -y) == pytest.approx(-(2**-0.5))


def test_mean_states_are_those_of_single_texts(tiny, logits_of):
    texts = [[5, 7, 9], [11] * 17, [3, 4]]
    found = representations.mean_states(tiny.model, tiny.params, texts)
    assert found.shape == (2, 3, 32)
    model = tiny.model.clone(keep_hidden=True)
    for i, text in enumerate(texts):
        _, _, outputs = model.apply({"params": tiny.params}, np.array([text]), method="hidden")
        expected = np.asarray(outputs)[:, 0].mean(axis=1)
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-4, atol=1e-5)


def test_mean_states_on_a_mesh(tiny, mesh8):
    from jaxattack import sharding

    texts = [[5, 7, 9], [11] * 17, [3, 4]]
    placed = sharding.place(tiny.params, mesh8)
    np.testing.assert_allclose(
        representations.mean_states(tiny.model, placed, texts),
        representations.mean_states(tiny.model, tiny.params, texts),
        rtol=1e-4,
        atol=1e-5,
    )
