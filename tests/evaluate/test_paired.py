"""Paired tests, their correction, and the interval that keeps seeds and prompts together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.evaluate.paired import bootstrap, holm, mcnemar, means, percentiles, verdict

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


# --- The interval -------------------------------------------------------------------------------


def difference(cells):
    """Second variant minus first, mean over languages."""
    return (cells[..., 1, :] - cells[..., 0, :]).mean(-1)


def test_means_leave_out_what_was_not_measured():
    values = np.arange(16.0).reshape(2, 2, 2, 2)
    values[0, 1] = np.nan
    values[1, :, :, 1] = np.nan
    np.testing.assert_array_equal(means(values), [[1.0, 2.0], [11.0, np.nan]])


def test_the_interval_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    values = (rng.random((2, 3, 10, 4)) < 0.4).astype(float)
    values[1, 2, ::2, 3] = np.nan
    again = np.random.default_rng(7)
    seeds = again.multinomial(3, [1 / 3] * 3, size=50)
    prompts = again.multinomial(10, [0.1] * 10, size=50)
    found = []
    for drawn_seeds, drawn_prompts in zip(seeds, prompts, strict=True):
        copies = values[:, np.repeat(np.arange(3), drawn_seeds)]
        copies = copies[:, :, np.repeat(np.arange(10), drawn_prompts)]
        by_variant = np.nanmean(copies, axis=(1, 2))
        found.append((by_variant[1] - by_variant[0]).mean())
    low, high = bootstrap(values, difference, draws=50, seed=7)
    assert low == pytest.approx(sorted(found)[1])  # 0.025 * 49 rounds down to 1
    assert high == pytest.approx(sorted(found)[48])


def test_constant_differences_have_no_width_and_pairing_is_kept():
    rng = np.random.default_rng(1)
    before = rng.random((1, 3, 20, 2))
    values = np.concatenate([before, before + 0.25])
    assert bootstrap(values, difference) == pytest.approx((0.25, 0.25))


def test_a_prompt_is_one_cluster_in_all_languages():
    # The same outcome in 16 languages tells no more than in one.
    rng = np.random.default_rng(2)
    once = (rng.random((1, 1, 100, 1)) < 0.5).astype(float)
    many = np.repeat(once, 16, axis=3)

    def mean(cells):
        return cells.mean((-2, -1))

    assert bootstrap(once, mean) == pytest.approx(bootstrap(many, mean))


def test_an_undefined_statistic_decides_nothing():
    rng = np.random.default_rng(3)
    values = (rng.random((2, 1, 12, 1)) < 0.1).astype(float)
    values[0] = np.array([1.0, *[0.0] * 11])[None, :, None]  # missing from one draw in three

    def ratio(cells):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(cells[..., 0, 0] > 0, cells[..., 1, 0] / cells[..., 0, 0], np.nan)

    assert bootstrap(values, ratio) == (-np.inf, np.inf)
    assert verdict(-np.inf, np.inf, 0.5) == "undecided"


@pytest.mark.parametrize("seeds", [1, 12])
def test_coverage_of_a_known_difference(seeds):
    """Outcomes with effects of prompt, seed and their meeting: 95 % of intervals hold the truth."""
    rng, hits, trials = np.random.default_rng(4), 0, 200
    for trial in range(trials):
        prompt = rng.normal(size=(60, 1))
        run = rng.normal(scale=0.5 if seeds > 1 else 0.0, size=(seeds, 1, 1))
        noise = rng.normal(size=(2, seeds, 60, 3))
        shift = np.array([0.0, 0.3])[:, None, None, None] * (1 + prompt + run)
        low, high = bootstrap(prompt + run + noise + shift, difference, draws=300, seed=trial)
        hits += low <= 0.3 <= high
    assert 0.90 <= hits / trials <= 0.995  # three standard errors are 0.046


def test_wrong_axes_are_refused():
    with pytest.raises(ValueError, match="variants, seeds, prompts, languages"):
        bootstrap(np.zeros((2, 3, 4)), difference)
    with pytest.raises(ValueError, match="one number each"):
        bootstrap(np.zeros((2, 1, 4, 3)), lambda cells: cells.mean(-1))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.51, 0.9, "holds"),
        (0.1, 0.49, "does not hold"),
        (0.4, 0.6, "undecided"),
        (0.5, 0.6, "undecided"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_verdict(low, high, word):
    assert verdict(low, high, 0.5) == word


def test_percentiles_are_draws():
    assert percentiles(np.arange(41.0)) == (1.0, 39.0)
