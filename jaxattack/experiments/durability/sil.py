"""SIL of a tuning, on the defender's pairs."""

from __future__ import annotations

from jaxattack.experiments import locating
from jaxattack.experiments.durability.setup import Setup, harmful
from jaxattack.experiments.step import Step
from jaxattack.localize import masks


def sil_mask(setup: Setup, tuned: Step, languages: tuple[str, ...]) -> Step:
    """SIL's mask of a way from the aligned weights, on the defender's pairs in some languages."""
    scores = sil_scores(setup, tuned, languages)
    share = setup.settings.after.shares[0]
    return setup.bench.values.derived(masks.top_fraction, scores, fraction=share)


def sil_scores(setup: Setup, tuned: Step, languages: tuple[str, ...]) -> Step:
    """SIL's scores of a way from the aligned weights; the gradient is taken at these."""
    bench = setup.bench
    gradient = locating.gradient(
        bench, bench.start, harmful(setup, languages), "+".join(languages), "abs"
    )
    return locating.sil(bench, tuned, gradient)
