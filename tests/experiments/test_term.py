"""The algebra of figures, and a claim of one's own."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import claim, needs, outcomes, term
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.term import added, best, but, mean, only, rate, total, worst

LANGUAGES = ("en", "th", "de")
CELLS = tuple(Cell("attacked", attacked=code) for code in LANGUAGES)
ALIGNED = Cell("aligned")
A, B, C = CELLS

# Hits [cells, seeds, prompts, languages].
HITS = st.lists(st.booleans(), min_size=4 * 2 * 4 * 3, max_size=4 * 2 * 4 * 3).map(
    lambda hits: np.reshape(hits, (4, 2, 4, 3)).astype(float)
)


def seen(hits):
    found = outcomes.Outcomes(
        (ALIGNED, *CELLS), (0, 1), LANGUAGES, np.asarray(hits), frozenset([ALIGNED]), {}
    )
    return {outcomes.VIOLATION: found}


def close(one, other):
    """Two figures that agree, nothing that cannot be told included."""
    assert one.over == other.over
    for name in ("value", "low", "high", "seeds"):
        a, b = (np.asarray(getattr(f, name), float) for f in (one, other))
        np.testing.assert_allclose(a, b, atol=1e-9, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(HITS)
def test_the_algebra(hits):
    found = seen(hits)
    one, other = added(A, ALIGNED, but("en")), added(B, ALIGNED, but("th"))
    nothing = (one - one).figure(found)
    assert nothing.value == 0.0
    assert set(nothing.seeds) == {0.0}
    # A whole is all of itself, where there is anything to take a share of.
    whole = (total([one, other]) / total([one, other])).figure(found)
    assert whole.value in (None, 1.0)
    assert best([one]) is one
    assert worst([one]) is one
    close(mean([one, one]).figure(found), one.figure(found))
    close((1 - (1 - one)).figure(found), one.figure(found))
    # Less the best is the least of what is left, with the same interval.
    ahead = (one - best([rate(B), rate(C)])).figure(found)
    close(ahead, worst([one - rate(B), one - rate(C)]).figure(found))
    turned = (0 - best([rate(A), rate(B)])).figure(found)
    up = best([rate(A), rate(B)]).figure(found)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-up.value, -up.high, -up.low))
    # Orders do not matter.
    close(best([rate(B), rate(C)]).figure(found), best([rate(C), rate(B)]).figure(found))
    close(total([one, other]).figure(found), (other + one).figure(found))


@settings(max_examples=40, deadline=None)
@given(HITS)
def test_intervals_stay_within_what_a_figure_can_be(hits):
    found = seen(hits)
    figures = (rate(A), added(A, B), 0.02 - added(A, B), mean([rate(A), rate(B)]))
    for each in (*figures, best([rate(A), rate(B)])):
        figure = each.figure(found)
        least, most = getattr(each, "bounds", (0.0, 1.0))
        ordered = np.array([least, figure.low, figure.value, figure.high, most])
        assert (np.diff(ordered) > -1e-12).all()
        assert (figure.n_seeds, figure.n_prompts) == (2, 4)
    count = term.Count(outcomes.VIOLATION, CELLS, 0.5).figure(found)
    assert 0 <= count.low <= count.value <= count.high <= len(LANGUAGES)


@pytest.mark.parametrize("how", [lambda *t: total(t), lambda *t: mean(t), lambda *t: best(t)])
def test_nothing_is_not_measured(how):
    assert not how().measured(seen(np.zeros((4, 2, 4, 3))))
    assert not how(rate(Cell("benign"))).measured(seen(np.zeros((4, 2, 4, 3))))


def test_figures_of_different_prompts_do_not_mix():
    with pytest.raises(ValueError, match="violation_rate and asr"):
        rate(A) - rate(A, metric=outcomes.ASR)


def test_rates_by_hand():
    means = term.Means(np.array([[0.1, 0.2, 0.6], [0.9, 0.3, np.nan]]), (A, B), LANGUAGES)
    assert means.rate(A, only("en")) == pytest.approx(0.1)
    assert means.rate(A, but("en")) == pytest.approx(0.4)
    assert means.rate(B, but("th")) == pytest.approx(0.9)  # what was not measured is left out
    assert np.isnan(means.rate(B, only("de")))


def test_a_claim_of_ones_own():
    hasty, slow = Cell("hasty"), Cell("slow")
    trials = {
        cell.of(seed): [
            Trial(f"q{i}", "restricted", "en", "ok", False, i < hits, "") for i in range(40)
        ]
        for cell, hits in ((hasty, 40), (slow, 4))
        for seed in (0, 1)
    }
    lead = claim.Claim(
        "T1",
        "Haste makes waste.",
        "Haste wastes 50 points more.",
        [claim.Evidence("more waste", rate(hasty) - rate(slow), above=0.5)],
        needs.Needs(),
    )
    found = {outcomes.VIOLATION: outcomes.collect(trials, outcomes.VIOLATION, (0, 1), ("en",))}
    written = claim.judged(lead, found, needs.Facts())
    assert written["verdict"] == "holds"
    assert written["evidence"][0]["value"] == pytest.approx(0.9)
    backwards = dataclasses.replace(lead.evidence[0], above=None, below=0.5)
    other = dataclasses.replace(lead, evidence=[backwards])
    assert claim.judged(other, found, needs.Facts())["verdict"] == "does not hold"
