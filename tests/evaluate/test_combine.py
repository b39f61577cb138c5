"""Several judges of one reply: rules and agreement against published and worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.evaluate.combine import RULES, alpha, kappa


@pytest.mark.parametrize(
    ("votes", "all_", "any_", "most"),
    [
        ((True, True), True, True, True),
        ((True, False), False, True, False),
        ((True, True, False), False, True, True),
        ((True, None), True, True, True),
        ((None, None), False, False, False),
        ((), False, False, False),
    ],
)
def test_a_reply_counts_by_the_rule(votes, all_, any_, most):
    assert {name: rule(votes) for name, rule in RULES.items()} == {
        "all": all_,
        "any": any_,
        "majority": most,
    }


def test_kappa_is_the_textbooks():
    # 20 both yes, 5 first only, 10 second only, 15 both no: kappa .4.
    a = [True] * 25 + [False] * 25
    b = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert kappa(a, b) == pytest.approx(0.4)
    assert math.isnan(kappa([True, True], [True, True]))
    with pytest.raises(ValueError, match="no pairs"):
        kappa([True], [True, False])


def naive_alpha(values: np.ndarray) -> float:
    """By the definition: disagreement of all pairs within replies, over that of all pairs."""
    units = [column[~np.isnan(column)] for column in values.T]
    units = [unit for unit in units if len(unit) > 1]
    every = np.concatenate(units) if units else np.zeros(0)
    n = len(every)
    if n == 0 or every.min() == every.max():
        return math.nan
    within = sum(
        sum(a != b for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j)
        / (len(unit) - 1)
        for unit in units
    )
    between = sum(a != b for i, a in enumerate(every) for j, b in enumerate(every) if i != j)
    return 1 - (within / n) / (between / (n * (n - 1)))


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=3, max_size=3),
        min_size=1,
        max_size=12,
    )
)
def test_alpha_is_its_definition(columns):
    values = np.array(columns).T
    assert alpha(values) == pytest.approx(naive_alpha(values), nan_ok=True)


def test_alpha_of_judges_who_agree_is_one_and_of_opposite_ones_below_zero():
    assert alpha([[1, 0, 1, 0], [1, 0, 1, 0]]) == 1
    assert alpha([[1, 0, 1, 0], [0, 1, 0, 1]]) < 0
    with pytest.raises(ValueError, match="judges"):
        alpha([1, 0])
