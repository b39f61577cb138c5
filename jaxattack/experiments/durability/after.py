"""Defences after a tuning: repairs of its weights, from what the defender has."""

from __future__ import annotations

from typing import Any

from jaxattack.defend import antidote, repair, safedelta, safelora, swapping
from jaxattack.experiments import locating
from jaxattack.experiments.attacking import BENIGN
from jaxattack.experiments.durability import mending
from jaxattack.experiments.durability.lessons import named, safe_expert
from jaxattack.experiments.durability.setup import REFUSED, Setup, harmful, held, seen
from jaxattack.experiments.durability.shield import Made, Tried
from jaxattack.experiments.durability.sil import sil_scores
from jaxattack.experiments.step import Step
from jaxattack.localize import importance, masks, stitching
from jaxattack.localize.rivals import SCORES

# --- Weights put back -----------------------------------------------------------------------------


def by_sil(setup: Setup, tried: Tried) -> Made:
    """Paper A: SIL's weights of the way that the tuning went are put back."""

    def repaired(tuned: Step) -> Step:
        return rewound(setup, tuned, sil_scores(setup, tuned, tried.languages), tried.strength)

    return Made(repair=repaired)


def by_score(setup: Setup, tried: Tried, score: str) -> Made:
    """The weights that another score of `localize.rivals` finds are put back."""
    row = SCORES[score]

    def repaired(tuned: Step) -> Step:
        parts = [_read(setup, tried, name, tuned) for name in row.reads]
        scores = setup.bench.values.derived(row.score, *parts)
        return rewound(setup, tuned, scores, tried.strength)

    return Made(repair=repaired)


def by_chance(setup: Setup, tried: Tried) -> Made:
    """As many weights, drawn by chance, are put back."""

    def repaired(tuned: Step) -> Step:
        bench = setup.bench
        mask = bench.values.derived(
            masks.random_mask, bench.start, fraction=tried.strength, seed=tried.seed
        )
        return bench.values.derived(stitching.rewind, tuned, bench.start, mask)

    return Made(repair=repaired)


def by_signs(setup: Setup, tried: Tried) -> Made:
    """SIL repair (`defend.repair`): weights whose way back makes refusals likelier.

    To first order at the tuned weights; those that benign pairs need most are spared.
    """

    def repaired(tuned: Step) -> Step:
        bench, options = setup.bench, setup.settings.after
        rows = {kind: seen(setup, held(setup, kind, tried.languages)) for kind in (REFUSED, BENIGN)}
        label = f"{named(setup, tried)}-s{tried.seed}"
        mask = bench.values.derived(
            repair.suspects,
            bench.values.derived(repair.change, tuned, bench.start),
            locating.gradient(bench, tuned, rows[REFUSED], f"refusals-{label}", "sum"),
            locating.gradient(bench, bench.start, rows[BENIGN], f"benign-{label}", "abs"),
            fraction=tried.strength,
            spared=options.spared,
        )
        return bench.values.derived(stitching.rewind, tuned, bench.start, mask)

    return Made(repair=repaired)


def by_contrast(setup: Setup, tried: Tried) -> Made:
    """Contrast repair (`defend.contrast`): weights that brought the harm and not the task."""

    def repaired(tuned: Step) -> Step:
        return mending.by_contrast(setup, tried, tuned)

    return Made(repair=repaired)


def by_relearning(setup: Setup, tried: Tried) -> Made:
    """The aligned model is taught anew what the tuned one answers to benign prompts, and to refuse.

    A control: what contrast repair knows, and no weight of the tuning.
    """

    def repaired(tuned: Step) -> Step:
        return mending.by_relearning(setup, tried, tuned)

    return Made(repair=repaired)


def rewound(setup: Setup, tuned: Step, scores: Step, share: float | None) -> Step:
    """Tuned weights with those of the highest scores put back."""
    bench = setup.bench
    mask = bench.values.derived(masks.top_fraction, scores, fraction=share)
    return bench.values.derived(stitching.rewind, tuned, bench.start, mask)


def _read(setup: Setup, tried: Tried, name: str, tuned: Step) -> Step:
    """One of the trees that scores read (see `rivals.Row`)."""
    bench, label = setup.bench, named(setup, tried)
    match name:
        case "start":
            return bench.start
        case "attacked":
            return tuned
        case "inputs":
            return locating.inputs(bench, bench.start, harmful(setup, tried.languages), label)
    return locating.gradient(bench, bench.start, harmful(setup, tried.languages), label, name)


# --- Changes made smaller, projected, mixed -------------------------------------------------------


def by_scaling(setup: Setup, tried: Tried) -> Made:
    """A part of the tuning's change is left (a task vector scaled)."""
    return _mended(setup, importance.between, place=tried.strength)


def by_safelora(setup: Setup, tried: Tried) -> Made:
    """SafeLoRA: matrices least like the alignment are projected on it."""

    def repaired(tuned: Step) -> Step:
        assert setup.base is not None
        return setup.bench.values.derived(
            safelora.projected,
            setup.base,
            setup.bench.start,
            tuned,
            least=round(tried.strength or 0),
        )

    return Made(repair=repaired)


def by_safemerge(setup: Setup, tried: Tried) -> Made:
    """SafeMERGE: such matrices are mixed with those of a model tuned on refusals."""

    def repaired(tuned: Step) -> Step:
        assert setup.base is not None
        expert = safe_expert(setup, tried)
        return setup.bench.values.derived(
            safelora.merged,
            setup.base,
            setup.bench.start,
            tuned,
            expert,
            threshold=tried.strength,
        )

    return Made(repair=repaired)


def by_swapping(setup: Setup, tried: Tried) -> Made:
    """Layers of a model tuned on refusals where it changed more than the tuning did."""

    def repaired(tuned: Step) -> Step:
        expert, near = safe_expert(setup, tried), setup.settings.after.near
        return setup.bench.values.derived(
            swapping.swapped, setup.bench.start, expert, tuned, near=near
        )

    return Made(repair=repaired)


def by_antidote(setup: Setup, tried: Tried) -> Made:
    """Antidote: the changes that harmful pairs feel most are taken out of every matrix."""

    def repaired(tuned: Step) -> Step:
        bench, label = setup.bench, f"{named(setup, tried)}-s{tried.seed}"
        norms = locating.inputs(bench, tuned, harmful(setup, tried.languages), label)
        return bench.values.derived(
            antidote.removed, bench.start, tuned, norms, fraction=tried.strength
        )

    return Made(repair=repaired)


def by_safedelta(setup: Setup, tried: Tried) -> Made:
    """SafeDelta: the changes that refusals feel least are kept, the rest makes up for them."""

    def repaired(tuned: Step) -> Step:
        bench, rows = setup.bench, seen(setup, held(setup, REFUSED, tried.languages))
        moments = mending.moments(bench, rows)
        return bench.values.derived(
            safedelta.kept, bench.start, tuned, moments, budget=tried.strength
        )

    return Made(repair=repaired)


def by_rollback(setup: Setup, tried: Tried) -> Made:
    """Gradient rollback: weights of low layers go back while states of refusals come back."""

    def repaired(tuned: Step) -> Step:
        return mending.rolled_back(setup, tried, tuned)

    return Made(repair=repaired)


def _mended(setup: Setup, function: Any, **options: Any) -> Made:
    def repaired(tuned: Step) -> Step:
        return setup.bench.values.derived(function, setup.bench.start, tuned, **options)

    return Made(repair=repaired)
