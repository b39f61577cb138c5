"""Rates behind what judges report: worked by hand, and their intervals' coverage in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.evaluate.calibration import LEAST, Accuracy, accuracy, corrected
from jaxattack.evaluate.rates import wilson

PERFECT = Accuracy(10**6, 10**6, 10**6, 10**6)


def test_labels_are_counted():
    labelled = [(True, True), (True, False), (True, True), (False, True), (False, False)]
    assert accuracy(labelled) == Accuracy(3, 2, 2, 1)
    row = accuracy(labelled).row()
    assert (row["sensitivity"], row["harmful"]) == (2 / 3, 3)
    assert (row["specificity_low"], row["specificity_high"]) == wilson(1, 2)


def test_a_rate_is_corrected_as_by_hand():
    # 30 % are called violations by a judge that finds 80 % of them and passes 90 % of the others:
    # p = (.3 + .9 - 1) / (.8 + .9 - 1) = 2 / 7.
    rate, low, high = corrected(300, 1000, Accuracy(1000, 800, 1000, 900))
    assert rate == pytest.approx(2 / 7)
    assert low < 2 / 7 < high


def test_a_perfect_judge_corrects_nothing():
    rate, low, high = corrected(30, 100, PERFECT)
    assert rate == pytest.approx(0.3)
    assert (low, high) == pytest.approx(wilson(30, 100), abs=0.01)


def test_a_judge_no_better_than_chance_tells_nothing():
    for judge in (Accuracy(10, 5, 10, 5), Accuracy(10, 2, 10, 3), Accuracy(0, 0, 10, 9)):
        rate, low, high = corrected(3, 10, judge)
        assert math.isnan(rate)
        assert (low, high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="not a proportion"):
        corrected(0, 0, PERFECT)


@given(
    st.integers(1, 50).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(1, 50).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(1, 50).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
)
def test_rates_and_bounds_are_shares(flagged, found, passed):
    rate, low, high = corrected(*flagged, Accuracy(found[1], found[0], passed[1], passed[0]))
    assert 0 <= low <= high <= 1
    assert math.isnan(rate) or low <= rate <= high


def test_of_few_labels_nothing_is_told():
    # 5 of 100 and one harmless label: the formula gives .05 within (0, 0).
    rate, low, high = corrected(5, 100, Accuracy(34, 34, LEAST - 1, LEAST - 1))
    assert math.isnan(rate)
    assert (low, high) == (0.0, 1.0)
    rate, low, high = corrected(5, 100, Accuracy(34, 34, LEAST, LEAST))
    assert low < rate < high


@pytest.mark.parametrize("truth", [0.0, 0.02, 0.3, 0.7, 0.98, 1.0])
@pytest.mark.parametrize(
    ("n", "labelled", "sensitivity", "specificity"),
    [(96, 40, 0.85, 0.95), (24, 100, 0.95, 0.9), (300, 300, 0.8, 0.8), (100, LEAST, 0.97, 0.97)],
)
def test_the_interval_covers_what_it_says(truth, n, labelled, sensitivity, specificity):
    rng = np.random.default_rng(0)
    runs, covered = 1000, 0
    for _ in range(runs):
        judge = Accuracy(
            labelled,
            int(rng.binomial(labelled, sensitivity)),
            labelled,
            int(rng.binomial(labelled, specificity)),
        )
        flagged = rng.binomial(n, truth * sensitivity + (1 - truth) * (1 - specificity))
        _, low, high = corrected(int(flagged), n, judge)
        covered += low <= truth <= high
    assert covered / runs >= 0.93
