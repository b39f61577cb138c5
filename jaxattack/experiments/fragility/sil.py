"""SIL's gradients, scores and masks of the study's attacks, as steps."""

from __future__ import annotations

import functools
from typing import Any

from jaxattack.experiments import locating
from jaxattack.experiments.attacking import RESTRICTED
from jaxattack.experiments.fragility.setup import Setup, attack, seen
from jaxattack.experiments.step import Step
from jaxattack.localize import importance, masks


def top(setup: Setup, scores: Step, share: float, scope: str = "", exclude: str = "") -> Step:
    """Mask of the highest scores: by default as the settings say."""
    options = setup.settings.localize
    return setup.bench.values.derived(
        masks.top_fraction,
        scores,
        fraction=share,
        scope=scope or options.scope,
        exclude=exclude or options.exclude,
    )


def mean_gradient(
    setup: Setup,
    attacked: Step,
    language: str,
    seed: int,
    kind: str = RESTRICTED,
    at: str = "",
    moment: str = "",
) -> Step:
    """What SIL multiplies the attack vector with.

    Args:
        setup: what the study shares.
        attacked: weights after the attack.
        language: of the pairs that are scored on.
        seed: of their choice.
        kind: of the pairs, restricted or benign.
        at: where the gradient is taken; by default as the settings say.
        moment: of its entries over pairs; by default as the settings say.
    """
    options, bench = setup.settings.localize, setup.bench
    moment = moment or options.mean
    examples = seen(setup, language, seed, kind)

    def gradient(place: Step) -> Step:
        return locating.gradient(bench, place, examples, language, moment)

    match at or options.at:
        case "aligned":  # every attack shares this one
            return gradient(bench.start)
        case "attacked":
            return gradient(attacked)
    between = functools.partial(bench.values.derived, importance.between, bench.start, attacked)
    count = options.path_points
    places = [(i + 0.5) / count for i in range(count)]  # midpoints of equal parts
    found = [gradient(between(place=place)) for place in places]
    return bench.values.derived(importance.mean, *found)


def sil_scores(setup: Setup, language: str, seed: int, **otherwise: Any) -> Step:
    """SIL's scores of the attack in one language."""
    attacked = attack(setup, [language], seed, otherwise.get("kind", RESTRICTED))
    gradient = mean_gradient(setup, attacked, language, seed, **otherwise)
    return locating.sil(setup.bench, attacked, gradient)


def sil_mask(setup: Setup, language: str, seed: int, kind: str = RESTRICTED) -> Step:
    """SIL's mask at the control share, kept as a file."""
    options = setup.settings.localize
    mask = top(setup, sil_scores(setup, language, seed, kind=kind), setup.share)
    info = {
        "method": "sil",
        "pairs": kind,
        "fraction": setup.share,
        "scope": options.scope,
        "at": options.at,
        "language": language,
        "seed": seed,
        "model": setup.bench.start.named,
    }
    name = "sil" if kind == RESTRICTED else kind
    return locating.kept_mask(setup.bench, mask, name, f"{language}-s{seed}", info)


def sil_movable(setup: Setup, language: str, seed: int, kind: str = RESTRICTED) -> Step:
    """The weights that SIL's mask was chosen from, kept as a file."""
    scored = locating.with_score(setup.bench, sil_scores(setup, language, seed, kind=kind))
    info = {"method": "score above 0", "pairs": kind, "language": language, "seed": seed}
    name = "movable" if kind == RESTRICTED else f"movable-{kind}"
    return locating.kept_mask(setup.bench, scored, name, f"{language}-s{seed}", info)
