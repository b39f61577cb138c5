"""A2: which weights carry the attack, beside other ways to choose as many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jaxattack.experiments import locating, tables
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility.setup import (
    BENIGN,
    RESTRICTED,
    Setup,
    attack,
    measure,
    seen,
)
from jaxattack.experiments.step import Step, rows_step
from jaxattack.localize import importance, masks, stitching

# Rewound beside SIL's: masks as large as SIL's, and what benign fine-tuning has no part in.
REWOUND = (
    "random",
    "matched_random",
    "magnitude",
    "weight",
    "snip",
    "wanda",
    "fisher",
    "benign",
    "sil_minus_benign",
)
# Leaves that "sil_blocks" leaves out: embeddings, head and norms.
OUTSIDE = r"(embed|head|norm|norm_bias)$"


def localize(agenda: Agenda, setup: Setup) -> None:
    """Masks of every kind, each stitched into the aligned model and rewound in the attacked one."""
    for seed in setup.settings.seeds:
        for language in setup.data.localized:
            for key, mask in chosen_masks(setup, language, seed).items():
                _moved(agenda, setup, language, seed, key, mask)


def _moved(
    agenda: Agenda, setup: Setup, language: str, seed: int, key: tuple[str, float], mask: Step
) -> None:
    """One mask's weights moved, and how large it is."""
    start, derived, (method, share) = setup.bench.start, setup.bench.values.derived, key
    attacked = attack(setup, [language], seed)
    cell = Cell("stitched", seed, language, method, share)
    measure(agenda, setup, cell, derived(stitching.stitch, start, attacked, mask))
    if _is_rewound(setup, method, share):
        rewound = derived(stitching.rewind, attacked, start, mask)
        back = Cell("rewound", seed, language, method, share)
        measure(agenda, setup, back, rewound)
    columns = {"attacked": language, "method": method, "share": share, "seed": seed}
    label = f"{language}-{method}@{share:g}-s{seed}"
    find(agenda, setup, "masks", label, tables.size, mask, columns=columns)
    if method in ("sil", "benign") and share == setup.share:
        find(agenda, setup, "mask_profile", label, tables.profile, mask, columns=columns)


def find(
    agenda: Agenda,
    setup: Setup,
    table: str,
    label: str,
    function: Callable[..., list[dict[str, Any]]],
    *parts: Step,
    **options: Any,
) -> None:
    """Ask for rows of a table, made by a function of steps' values."""
    bench = setup.bench
    rows = rows_step(bench.values, bench.root, table, label, function, *parts, **options)
    agenda.find(table, rows)


def _is_rewound(setup: Setup, method: str, share: float) -> bool:
    if (method, share) == ("sil", setup.share):
        return True
    return setup.settings.localize.rewind and (method == "sil" or method in REWOUND)


def chosen_masks(setup: Setup, language: str, seed: int) -> dict[tuple[str, float], Step]:
    """SIL's masks at every share, the others at one, by method and share."""
    options = setup.settings.localize
    scores = sil_scores(setup, language, seed)
    found = {("sil", f): top(setup, scores, f) for f in options.fractions}
    found["sil", setup.share] = sil_mask(setup, language, seed)
    for method in (*options.controls, *options.ways):
        mask = MASKS[method](setup, method, language, seed)
        if mask is not None:
            found[method, setup.share] = mask
    return found


# --- SIL ----------------------------------------------------------------------------------------


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


# --- Other masks, each a function of (setup, its name, language, seed) and a row -----------------

MaskOf = Callable[[Setup, str, str, int], Step | None]


def _random(setup: Setup, method: str, language: str, seed: int) -> Step:
    draw = masks.random_like if method == "random" else masks.matched_random_mask
    mask = sil_mask(setup, language, seed)
    return setup.bench.values.derived(draw, mask, seed=seed, draw=language)


def _magnitude(setup: Setup, method: str, language: str, seed: int) -> Step:
    attacked = attack(setup, [language], seed)
    change = setup.bench.values.derived(importance.change, setup.bench.start, attacked)
    return top(setup, change, setup.share)


def _weight(setup: Setup, method: str, language: str, seed: int) -> Step:
    return top(setup, setup.bench.values.derived(importance.size, setup.bench.start), setup.share)


def _snip(setup: Setup, method: str, language: str, seed: int) -> Step:
    start = setup.bench.start
    gradient = locating.gradient(setup.bench, start, seen(setup, language, seed), language)
    return top(setup, setup.bench.values.derived(importance.snip, start, gradient), setup.share)


def _fisher(setup: Setup, method: str, language: str, seed: int) -> Step:
    examples = seen(setup, language, seed)
    square = locating.gradient(setup.bench, setup.bench.start, examples, language, "square")
    return top(setup, square, setup.share)


def _wanda(setup: Setup, method: str, language: str, seed: int) -> Step:
    found = locating.wanda(setup.bench, seen(setup, language, seed), language)
    return top(setup, found, setup.share)


def _complement(setup: Setup, method: str, language: str, seed: int) -> Step:
    return setup.bench.values.derived(masks.complement, sil_mask(setup, language, seed))


def _benign(setup: Setup, method: str, language: str, seed: int) -> Step | None:
    if language not in setup.data.pairs[BENIGN]:
        return None
    benign = sil_mask(setup, language, seed, BENIGN)
    if method == "benign":
        return benign
    return setup.bench.values.derived(masks.minus, sil_mask(setup, language, seed), benign)


def _other(setup: Setup, method: str, language: str, seed: int) -> Step | None:
    languages = setup.data.localized
    if len(languages) < 2:
        return None
    following = languages[(languages.index(language) + 1) % len(languages)]
    return sil_mask(setup, following, seed)


def _of_all(setup: Setup, method: str, language: str, seed: int) -> Step | None:
    languages = setup.data.localized
    if len(languages) < 2:
        return None
    function = masks.union if method == "union" else masks.intersection
    mask = sil_mask(setup, languages[0], seed)
    for code in languages[1:]:
        mask = setup.bench.values.derived(function, mask, sil_mask(setup, code, seed))
    return mask


# SIL with one of its choices made otherwise: of the gradient, of the selection.
GRADIENTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "sil_aligned": {"at": "aligned"},
        "sil_attacked": {"at": "attacked"},
        "sil_path": {"at": "path"},
        "sil_mean": {"moment": "sum"},
    }
)
SELECTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "sil_leaf": {"scope": "leaf"},
        "sil_row": {"scope": "row"},
        "sil_blocks": {"exclude": OUTSIDE},
    }
)


def _otherwise(setup: Setup, method: str, language: str, seed: int) -> Step:
    scores = sil_scores(setup, language, seed, **GRADIENTS.get(method, {}))
    return top(setup, scores, setup.share, **SELECTIONS.get(method, {}))


MASKS: Mapping[str, MaskOf] = MappingProxyType(
    {
        "random": _random,
        "matched_random": _random,
        "magnitude": _magnitude,
        "weight": _weight,
        "snip": _snip,
        "wanda": _wanda,
        "fisher": _fisher,
        "complement": _complement,
        "other": _other,
        "union": _of_all,
        "intersection": _of_all,
        "benign": _benign,
        "sil_minus_benign": _benign,
        **dict.fromkeys((*GRADIENTS, *SELECTIONS), _otherwise),
    }
)
