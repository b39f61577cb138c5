"""Intervals over seeds and prompts: by hand, by a plain loop, and by how often they are right."""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from jaxattack.evaluate import intervals
from jaxattack.evaluate.intervals import Estimate, estimate, how_many, least, means
from jaxattack.evaluate.rates import wilson

RATE, CHANGE = (0.0, 1.0), (-1.0, 1.0)


def rate(cells):
    """Of the first variant, mean over languages."""
    return cells[..., 0, :].mean(-1)


def difference(cells):
    """Second variant minus first, mean over languages."""
    return (cells[..., 1, :] - cells[..., 0, :]).mean(-1)


def share(cells, part=2):
    """What a variant adds, as a share of what the second adds."""
    added = (cells[..., part, :] - cells[..., 0, :]).sum(-1)
    whole = (cells[..., 1, :] - cells[..., 0, :]).sum(-1)
    return np.divide(added, whole, out=np.full_like(whole, np.nan), where=whole > 1e-3)


def draw(seed, *shape, at=0.5):
    return (np.random.default_rng(seed).random(shape) < at).astype(float)


# --- By hand --------------------------------------------------------------------------------------


def test_a_number_of_every_seed_has_students_interval():
    values = [0.61, 0.7, 0.66, 0.58]
    found = intervals.of_seeds(values)
    wanted = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found.interval() == pytest.approx(wanted)
    assert (found.value, found.over) == (pytest.approx(np.mean(values)), "over 4 seeds")
    low, high = intervals.of_seeds(values, RATE).interval()
    assert 0 < low < found.value < high < 1
    assert intervals.of_seeds(values[:2]).over.startswith("over 2 seeds; so few")


def test_one_seed_has_no_interval():
    found = intervals.of_seeds([0.3], RATE)
    assert (found.value, found.over) == (0.3, "one seed, no interval")
    assert np.isnan(found.interval()).all()
    with pytest.raises(ValueError, match="not \\[seeds\\]"):
        intervals.of_seeds([])


def test_means_leave_out_what_was_not_measured():
    values = np.arange(16.0).reshape(2, 2, 2, 2)
    values[0, 1] = np.nan
    values[1, :, :, 1] = np.nan
    np.testing.assert_array_equal(means(values), [[1.0, 2.0], [11.0, np.nan]])


def test_the_error_is_that_of_a_table_of_seeds_and_prompts():
    """Two ways without repetition: mean squares by plain loops, Student's quantiles by scipy."""
    values = np.random.default_rng(0).uniform(0.3, 0.7, (2, 3, 10, 4))
    values[1] += np.linspace(-0.2, 0.2, 10)[:, None] + np.array([-0.05, 0, 0.1])[:, None, None]
    table = [
        [np.mean([values[1, s, p, k] - values[0, s, p, k] for k in range(4)]) for p in range(10)]
        for s in range(3)
    ]
    whole = np.mean(table)
    rows, columns = np.mean(table, axis=1), np.mean(table, axis=0)
    seeds = sum(10 * (row - whole) ** 2 for row in rows) / 2
    prompts = sum(3 * (column - whole) ** 2 for column in columns) / 9
    rest = sum(
        (table[s][p] - rows[s] - columns[p] + whole) ** 2 for s in range(3) for p in range(10)
    ) / (2 * 9)
    found = estimate(values, difference)
    assert found.value == pytest.approx(whole)
    assert found.error**2 == pytest.approx((seeds + max(prompts - rest, 0.0)) / 30)
    part = seeds / (seeds + max(prompts - rest, 0.0))
    assert 0.3 < part < 0.9
    assert found.by_seed == pytest.approx(part)
    quantile = part * stats.t.ppf(0.975, 2) + (1 - part) * stats.t.ppf(0.975, 9)
    assert found.interval() == pytest.approx(
        (whole - quantile * found.error, whole + quantile * found.error)
    )


def test_seeds_that_differ_leave_two_degrees_of_freedom():
    # Runs at 0.2, 0.5 and 0.8, the same prompts in half of each run: 0.5 +- 4.303 * 0.3 / sqrt(3).
    values = np.repeat(np.array([0.2, 0.5, 0.8])[:, None], 300, axis=1)[None, :, :, None]
    found = estimate(values, rate)
    assert found.by_seed == pytest.approx(1)
    low, high = found.interval()
    assert (low, high) == pytest.approx((0.5 - 4.3027 * 0.17321, 0.5 + 4.3027 * 0.17321), abs=1e-4)


def test_one_run_is_that_of_its_prompts():
    values = np.repeat([1.0, 0.0], [9, 15])[None, None, :, None]  # 9 of 24
    found = estimate(values, rate, RATE)
    assert found.error == pytest.approx(math.sqrt(9 / 24 * 15 / 24 / 23))
    assert found.freedom == 23
    low, high = found.interval()
    exact = stats.binomtest(9, 24).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.02)


@pytest.mark.parametrize("hit", [0.0, 1.0])
@pytest.mark.parametrize("seeds", [1, 3])
def test_prompts_without_a_hit_or_a_miss_do_not_make_it_sure(seeds, hit):
    values = np.full((1, seeds, 24, 1), hit)
    found = estimate(values, rate, RATE)
    low, high = found.interval()
    # Wilson: 0 to 0.138. Runs of the same prompts are not 72 prompts.
    assert high - low == pytest.approx(0.138, abs=0.02)
    assert low == 0.0 if hit == 0 else high == 1.0


def test_constant_differences_have_no_width_and_pairing_is_kept():
    before = np.random.default_rng(1).uniform(0.3, 0.4, (1, 3, 20, 2))
    values = np.concatenate([before, before + 0.25])
    assert estimate(values, difference).interval() == pytest.approx((0.25, 0.25))


def test_a_prompt_is_one_cluster_in_all_languages():
    # The same outcome in 16 languages tells no more than in one; 16 sets of prompts do.
    once = draw(2, 1, 1, 100, 1)
    many = np.repeat(once, 16, axis=3)
    assert estimate(once, rate).error == pytest.approx(estimate(many, rate).error)
    apart = np.full((1, 1, 1600, 16), np.nan)
    for k in range(16):
        apart[:, :, 100 * k : 100 * (k + 1), k] = once[..., 0]
    assert estimate(apart, rate).error == pytest.approx(estimate(once, rate).error / 4)
    assert estimate(apart, rate).prompts == 100


def test_unpaired_languages_are_compared_as_two_samples():
    values = np.full((1, 1, 50, 2), np.nan)
    values[0, 0, :30, 0], values[0, 0, 30:, 1] = draw(3, 30), draw(4, 20)
    found = estimate(values, lambda m: m[..., 0, 0] - m[..., 0, 1])
    first, second = values[0, 0, :30, 0], values[0, 0, 30:, 1]
    # Each variance is spread over its own prompts; the correction is that of the fewer.
    by_hand = (first.var() / 30 + second.var() / 20) * 20 / 19
    assert found.error == pytest.approx(math.sqrt(by_hand))


def test_a_share_of_nothing_has_no_interval():
    values = np.zeros((3, 2, 30, 2))
    found = estimate(values, share)
    assert all(math.isnan(x) for x in (found.value, *found.interval()))


def test_wrong_axes_are_refused():
    with pytest.raises(ValueError, match="variants, seeds, prompts, languages"):
        estimate(np.zeros((2, 3, 4)), difference)
    with pytest.raises(ValueError, match="one number each"):
        estimate(np.zeros((2, 1, 4, 3)), lambda cells: cells.mean(-1))


# --- What it is called ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "prompts", "name"),
    [
        (1, 24, "over the 24 prompts of this one run, not over runs"),
        (2, 24, "over 2 seeds and 24 prompts"),
        (5, 300, "over 5 seeds and 300 prompts"),
    ],
)
def test_it_is_named_for_what_it_covers(seeds, prompts, name):
    values = draw(5, 1, seeds, prompts, 2)
    assert estimate(values, rate, RATE).over.startswith(name)
    values[..., 0] = np.nan  # what was not measured is not counted
    values[:, 0, :4] = np.nan
    assert estimate(values, lambda m: m[..., 0, 1], RATE).prompts == prompts - 4 * (seeds == 1)
    one_model = estimate(np.repeat(values[:, :1], seeds, 1), rate, RATE, trained=False)
    assert one_model.over.startswith("over ")
    assert "seed" not in one_model.over
    assert "run" not in one_model.over


@pytest.mark.parametrize(("at", "said"), [(0.5, False), (0.95, True), (0.05, True)])
def test_it_says_where_few_seeds_cover_too_little(at, said):
    spread = np.array([-0.04, 0.0, 0.04])[None, :, None, None]
    values = np.broadcast_to(at + spread, (1, 3, 300, 1))
    assert ("less than 95 %" in estimate(values, rate, RATE).over) is said
    same = np.repeat(draw(6, 1, 1, 300, 1, at=at), 3, axis=1)  # no seed differs
    assert "less than" not in estimate(same, rate, RATE).over
    # Two do not do anywhere.
    assert "less than" in estimate(values[:, ::2], rate, RATE).over
    assert "less than" in estimate(values[:, ::2], rate).over
    assert ("less than" in estimate(values - at + 0.09, rate).over) is False


# --- Several at once ------------------------------------------------------------------------------


def figure(value, error=0.05, freedom=math.inf):
    return Estimate(value, error, freedom, 0.0, None, 3, 100)


def test_the_lowest_of_several_figures():
    value, low, high = least([figure(0.5), figure(0.4, 0.1), figure(0.9)])
    assert value == 0.4
    assert low == pytest.approx(0.4 - 1.96 * 0.1, abs=1e-4)
    joint = stats.norm.ppf(1 - 0.025 / 3)
    assert high == pytest.approx(min(0.5 + joint * 0.05, 0.4 + joint * 0.1), abs=1e-4)
    assert least([figure(0.5)]) == (0.5, *figure(0.5).interval())
    unknown = figure(np.nan)
    for of in ([unknown, figure(0.1)], [figure(0.1), unknown]):  # whichever comes first
        assert np.isnan(least(of)).all()


@pytest.mark.parametrize(
    ("values", "families", "found"),
    [
        ([0.9] * 4, 1, (4, 4, 4)),
        ([0.9] * 3 + [0.1], 1, (3, 3, 3)),
        # p of 0.6 is 0.0228: enough if all four are above, twice too much for three of four.
        ([0.6] * 4, 1, (4, 4, 4)),
        ([0.6] * 3 + [0.5], 1, (3, 0, 4)),
        ([0.6] * 4, 2, (4, 0, 4)),  # the better one of two families
        ([0.4] * 4, 1, (0, 0, 0)),
        ([0.4] * 3 + [0.5], 1, (0, 0, 4)),
        ([0.5] * 4, 1, (0, 0, 4)),
    ],
)
def test_how_many_lie_above_by_hand(values, families, found):
    assert how_many([figure(value) for value in values], 0.5, families) == found


@pytest.mark.parametrize("bounds", [None, RATE, CHANGE])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_p_value_and_the_interval_say_the_same(seeds, bounds):
    for hits in (0, 1, 9, 30, 51, 60):
        values = np.repeat([1.0, 0.0], [hits, 60 - hits])[None, None, :, None]
        values = np.repeat(values, seeds, axis=1)
        values[:, -1, :6] = 1 - values[:, -1, :6]
        found = estimate(values, rate, bounds)
        low, high = found.interval()
        assert low <= found.value <= high
        for threshold in (0.005, *np.linspace(0.02, 0.98, 49), low - 1e-3, low + 1e-3):
            if 0 < threshold < 1:
                assert (found.p_above(threshold) < 0.025) == (low > threshold), (hits, threshold)


def test_without_an_error_the_figure_is_what_it_is():
    sure = Estimate(0.5, 0.0, math.inf, 0.0, RATE, 3, 100)
    assert sure.interval() == (0.5, 0.5)
    assert [sure.p_above(threshold) for threshold in (0.4, 0.5, 0.6)] == [0.0, 1.0, 1.0]
    unknown = Estimate(0.5, math.nan, math.nan, 0.0, RATE, 3, 100)
    assert all(map(math.isnan, unknown.interval()))


@pytest.mark.parametrize(("hits", "n"), [(0, 24), (24, 24), (50, 100), (150, 300)])
def test_between_bounds_it_is_wilsons(hits, n):
    at = hits / n
    error = math.sqrt(at * (1 - at) / n) or math.sqrt(2) / n  # two hits more than none
    for least_, most in ((0.0, 1.0), (-1.0, 1.0), (2.0, 6.0)):
        scale = most - least_
        found = Estimate(least_ + scale * at, scale * error, math.inf, 0.0, (least_, most), 3, n)
        low, high = ((bound - least_) / scale for bound in found.interval())
        assert (low, high) == pytest.approx(wilson(hits, n), abs=1e-9)


# --- How often they are right ---------------------------------------------------------------------

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)


def expected(logit, spread):
    """Mean of a rate whose logit is normal."""
    return float((WEIGHTS * special.expit(logit + spread * NODES)).sum() / WEIGHTS.sum())


def covered(rng, seeds, prompts, at, spread, trials, difficulty=1.0):
    """How often the interval of one rate holds its expectation over runs like these.

    Of one run: over prompts like these. Beside it how often it does or says that it may not.
    """
    logit, hits, honest = special.logit(at), 0, 0
    for _ in range(trials):
        run = rng.normal(0, spread, (seeds, 1))
        prompt = rng.normal(0, difficulty, (1, prompts))
        outcomes = rng.random((seeds, prompts)) < special.expit(logit + run + prompt)
        found = estimate(outcomes[None, :, :, None], rate, RATE)
        low, high = found.interval()
        this = logit + run[0, 0] if seeds == 1 else logit
        truth = expected(this, difficulty if seeds == 1 else math.hypot(spread, difficulty))
        hits += low <= truth <= high
        honest += low <= truth <= high or "less than 95 %" in found.over
    return hits / trials, honest / trials


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_coverage_at_a_spread_of_one_logit(seeds):
    """300 prompts: where 95 % is said, it is so; a bootstrap has 31 and 81 % with 1 and 3 seeds."""
    rng = np.random.default_rng(seeds)
    found = np.mean([covered(rng, seeds, 300, at, 1.0, 200)[0] for at in (0.2, 0.5, 0.8)])
    assert 0.925 <= found <= 0.985  # three standard errors are 0.027


RATES, SPREADS = (0.02, 0.1, 0.5, 0.9, 0.98), (0.0, 0.5, 1.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "prompts"), list(itertools.product((1, 2, 3, 5), (24, 300))))
def test_coverage_of_a_rate(seeds, prompts):
    """Nominal, but near a bound where a few seeds differ much; there the interval says so."""
    rng = np.random.default_rng([seeds, prompts])
    print(f"\n{seeds} seeds, {prompts} prompts; rates {RATES}")
    for spread in SPREADS:
        found = [covered(rng, seeds, prompts, at, spread, 400) for at in RATES]
        print(f"spread {spread}: " + " ".join(f"{share:6.1%}" for share, _ in found))
        # A standard error is 1.1 points, and 40 cells are looked at.
        known = 0.915 if spread < 2 else 0.88
        assert min(honest for _, honest in found) >= known, (spread, found)
        assert min(share for share, _ in found) >= (0.915 if seeds == 1 else 0.8), (spread, found)


LANGUAGES = 4


def study(rng, seeds, prompts, rates, spread):
    """Outcomes of several variants in several languages, and their expectations.

    The first variant has no seed; runs with one seed share a part of what sets them apart.
    """
    logits = special.logit(np.array(rates))[:, None] + np.zeros(LANGUAGES)
    logits[1:] += np.linspace(-0.5, 0.5, LANGUAGES)
    prompt = rng.normal(size=(prompts, 1))
    shared = rng.normal(0, spread * math.sqrt(0.5), (seeds, 1, 1))
    outcomes = np.empty((len(rates), seeds, prompts, LANGUAGES))
    for v, row in enumerate(logits):
        own = rng.normal(0, spread * math.sqrt(0.5), (seeds, 1, 1)) + shared
        chance = special.expit(row + prompt + (own if v else 0.0))
        outcomes[v] = rng.random((seeds if v else 1, prompts, LANGUAGES)) < chance
    truth = np.array(
        [
            [expected(x, math.hypot(spread, 1) if v else 1.0) for x in row]
            for v, row in enumerate(logits)
        ]
    )
    return outcomes, truth


def ahead(cells, rival):
    return share(cells) - share(cells, rival)


KINDS = {
    "difference": (
        lambda x: estimate(x[:2], difference, CHANGE).interval(),
        difference,
    ),
    "share": (lambda x: estimate(x[:3], share).interval(), share),
    "lowest": (
        lambda x: least([estimate(x, lambda m, r=r: ahead(m, r)) for r in (3, 4)])[1:],
        lambda m: min(ahead(m, 3), ahead(m, 4)),
    ),
    "count": (
        lambda x: how_many(
            [estimate(x[1:2], lambda m, k=k: m[..., 0, k], RATE) for k in range(LANGUAGES)], 0.6
        )[1:],
        lambda m: (m[1] > 0.6).sum(),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "prompts"), list(itertools.product((2, 3, 5), (24, 300))))
def test_coverage_of_differences_shares_the_lowest_and_counts(seeds, prompts):
    rng = np.random.default_rng([seeds, prompts, 1])
    print(f"\n{seeds} seeds, {prompts} prompts")
    for spread, high in itertools.product(SPREADS, (0.3, 0.7, 0.95)):
        hits = dict.fromkeys(KINDS, 0)
        for _ in range(200):
            outcomes, truth = study(
                rng, seeds, prompts, (0.03, high, 0.85 * high, 0.1, 0.4 * high), spread
            )
            for kind, (interval, statistic) in KINDS.items():
                low, up = interval(outcomes)
                hits[kind] += not (low > statistic(truth) or up < statistic(truth))
        shown = {kind: count / 200 for kind, count in hits.items()}
        print(f"spread {spread}, {high}: " + " ".join(f"{k} {v:6.1%}" for k, v in shown.items()))
        # A standard error is 1.5 points. Differences near 1 are named for it (`over`).
        floors = dict.fromkeys(KINDS, 0.9 if spread < 2 else 0.86)
        floors["difference"] = 0.8 if high == 0.95 and spread >= 1 else floors["difference"]
        assert all(shown[kind] >= floor for kind, floor in floors.items()), (spread, high)


def test_the_step_of_slopes_is_small():
    # A curved statistic: the slope of x cubed at 0.3 is 0.27.
    values = np.repeat([1.0, 0.0], [30, 70])[None, None, :, None]
    curved = estimate(values, lambda m: m[..., 0, 0] ** 3)
    assert curved.error == pytest.approx(0.27 * estimate(values, rate).error, rel=1e-6)
    assert intervals.counted(values) == (1, 100)
