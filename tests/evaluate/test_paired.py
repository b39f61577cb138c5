"""The paired test, its correction, and verdicts by an interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.evaluate.paired import holm, mcnemar, verdict

P_VALUES = st.lists(st.floats(0, 1), max_size=12)
OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40)


# --- McNemar ------------------------------------------------------------------------------------


def outcomes(gained, lost, both=0, neither=0):
    first = [False] * gained + [True] * lost + [True] * both + [False] * neither
    second = [True] * gained + [False] * lost + [True] * both + [False] * neither
    return first, second


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (6, 0, 2 / 64),
        (5, 1, 2 * (1 + 6) / 64),
        (3, 3, 1.0),  # both tails share the middle: capped
        (1, 9, 2 * (1 + 10) / 1024),
        (2000, 0, 0.0),  # 2^-1999 is below the smallest float
    ],
)
def test_mcnemar_by_hand(gained, lost, p):
    assert mcnemar(*outcomes(gained, lost)) == p
    assert mcnemar(*outcomes(gained, lost, both=7, neither=11)) == p


@given(OUTCOMES)
def test_mcnemar_is_symmetric_and_a_binomial_test(drawn):
    first, second = [a for a, _ in drawn], [b for _, b in drawn]
    p = mcnemar(first, second)
    assert p == mcnemar(second, first)
    assert p == mcnemar(np.logical_not(first), np.logical_not(second))
    stats = pytest.importorskip("scipy.stats")
    changed = [b for a, b in drawn if a != b]
    if changed:
        assert p == pytest.approx(stats.binomtest(sum(changed), len(changed)).pvalue, abs=1e-12)


def test_unpaired_outcomes_are_refused():
    with pytest.raises(ValueError, match="not paired"):
        mcnemar([True], [True, False])


# --- Holm ---------------------------------------------------------------------------------------


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, and no later one may be smaller.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(P_VALUES)
def test_holm_keeps_the_order_and_never_helps(p_values):
    adjusted = holm(p_values)
    assert all(raw <= new <= 1 for raw, new in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@given(P_VALUES)
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    rejected = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - step) * p_values[index] > 0.05:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, wrong])


# --- Verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.51, 0.9, "holds"),
        (0.1, 0.49, "does not hold"),
        (0.4, 0.6, "undecided"),
        (0.5, 0.6, "undecided"),
        (0.4, 0.5, "undecided"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_verdict(low, high, word):
    assert verdict(low, high, 0.5) == word
