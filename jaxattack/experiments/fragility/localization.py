"""A2: which weights carry the attack, beside other ways to choose as many."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jaxattack.experiments import stages
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.stages import BENIGN, Setup
from jaxattack.experiments.wanted import Section
from jaxattack.localize import importance, masks, stitching
from jaxattack.tree import Tree

# Rewound beside SIL's: masks as large as SIL's, and what benign fine-tuning has no part in.
REWOUND = ("random", "matched_random", "magnitude", "weight", "snip", "wanda", "fisher", "benign",
           "sil_minus_benign")  # fmt: skip
# Leaves that "sil_blocks" leaves out: embeddings, head and norms.
OUTSIDE = r"(embed|head|norm|norm_bias)$"


def localize(setup: Setup) -> Section:
    """Masks of every kind, each stitched into the aligned model and rewound in the attacked one."""
    section = Section()
    for seed in setup.settings.seeds:
        for language in setup.localized_languages:
            attacked = stages.attack(setup, [language], seed)
            for (method, fraction), mask in wanted_masks(setup, language, seed).items():
                name = f"{language}/{method}@{fraction:g}"
                section.find(
                    setup, "masks", f"{name}-s{seed}", size, mask,
                    mask=name, language=language, method=method, fraction=fraction, seed=seed,
                )  # fmt: skip
                stitched = setup.memo.derive(
                    "stitch", stitching.stitch, setup.aligned, attacked, mask
                )
                section.measure(setup, f"stitched/{name}", seed, stitched)
                if _is_rewound(setup, method, fraction):
                    rewound = setup.memo.derive(
                        "rewind", stitching.rewind, attacked, setup.aligned, mask
                    )
                    section.measure(setup, f"rewound/{name}", seed, rewound)
                if method in ("sil", "benign") and fraction == _share(setup):
                    name = f"{method}/{language}@{fraction:g}"
                    section.find(
                        setup, "mask_profile", f"{name}-s{seed}", profile, mask,
                        mask=name, seed=seed,
                    )  # fmt: skip
    return section


def _share(setup: Setup) -> float:
    return setup.settings.localize.control_fraction


def _is_rewound(setup: Setup, method: str, fraction: float) -> bool:
    if (method, fraction) == ("sil", _share(setup)):
        return True
    return setup.settings.localize.rewind and (method == "sil" or method in REWOUND)


def wanted_masks(setup: Setup, language: str, seed: int) -> dict[tuple[str, float], Lazy]:
    """SIL's masks at every fraction, the others at the control fraction, by (method, fraction)."""
    options = setup.settings.localize
    scores = sil_scores(setup, language, seed)
    found = {("sil", f): stages.top(setup, scores, f) for f in options.fractions}
    found["sil", _share(setup)] = sil_mask(setup, language, seed)
    for method in (*options.controls, *options.ways):
        mask = MASKS[method](setup, method, language, seed)
        if mask is not None:
            found[method, _share(setup)] = mask
    return found


def sil_scores(setup: Setup, language: str, seed: int, **otherwise: Any) -> Lazy:
    """SIL's scores of the attack in one language."""
    kind = otherwise.get("kind", stages.RESTRICTED)
    attacked = stages.attack(setup, [language], seed, kind)
    gradient = stages.mean_gradient(setup, attacked, language, seed, **otherwise)
    return stages.sil(setup, attacked, gradient)


def sil_mask(setup: Setup, language: str, seed: int, kind: str = stages.RESTRICTED) -> Lazy:
    """SIL's mask at the control fraction, kept as a file."""
    options = setup.settings.localize
    share = options.control_fraction
    mask = stages.top(setup, sil_scores(setup, language, seed, kind=kind), share)
    info = {"method": "sil", "pairs": kind, "fraction": share, "scope": options.scope,
            "at": options.at, "language": language, "seed": seed,
            "model": setup.aligned.lineage}  # fmt: skip
    name = "sil" if kind == stages.RESTRICTED else kind
    return stages.stored_mask(setup, mask, name, f"{language}-s{seed}", info)


# --- Other masks, each a function of (setup, its name, language, seed) ----------------------------


def _random(setup: Setup, method: str, language: str, seed: int) -> Lazy:
    draw = masks.random_like if method == "random" else masks.matched_random_mask
    mask = sil_mask(setup, language, seed)
    return setup.memo.derive(method, draw, mask, seed=seed, draw=language)


def _scored(setup: Setup, method: str, language: str, seed: int) -> Lazy:
    derive = setup.memo.derive
    examples, _ = stages.calibration_pairs(setup, language, seed)
    gradient = functools.partial(stages.gradient, setup, setup.aligned, examples)
    if method == "magnitude":
        scores = stages.attack_size(setup, stages.attack(setup, [language], seed))
    elif method == "weight":
        scores = derive("|theta|", importance.size, setup.aligned)
    elif method == "snip":
        scores = derive("snip", importance.snip, setup.aligned, gradient("abs"))
    elif method == "fisher":
        scores = gradient("square")
    else:
        scores = stages.inputs_of_matrices(setup, examples)
    return stages.top(setup, scores, setup.settings.localize.control_fraction)


def _combined(setup: Setup, method: str, language: str, seed: int) -> Lazy | None:
    languages = setup.localized_languages
    own = sil_mask(setup, language, seed)
    if method == "complement":
        return stages.rest(setup, own)
    if method in ("benign", "sil_minus_benign"):
        if language not in setup.pairs[BENIGN]:
            return None
        benign = sil_mask(setup, language, seed, BENIGN)
        return benign if method == "benign" else setup.memo.derive(method, masks.minus, own, benign)
    if len(languages) < 2:
        return None
    if method == "other":
        following = languages[(languages.index(language) + 1) % len(languages)]
        return sil_mask(setup, following, seed)
    function = masks.union if method == "union" else masks.intersection
    mask = sil_mask(setup, languages[0], seed)
    for code in languages[1:]:
        mask = setup.memo.derive(method, function, mask, sil_mask(setup, code, seed))
    return mask


def _otherwise(setup: Setup, method: str, language: str, seed: int) -> Lazy:
    """SIL with one of its choices made otherwise."""
    way = method.removeprefix("sil_")
    gradient = {
        "aligned": {"at": "aligned"}, "attacked": {"at": "attacked"}, "path": {"at": "path"},
        "mean": {"moment": "sum"},
    }  # fmt: skip
    selection = {"leaf": {"scope": "leaf"}, "row": {"scope": "row"}, "blocks": {"exclude": OUTSIDE}}
    scores = sil_scores(setup, language, seed, **gradient.get(way, {}))
    share = setup.settings.localize.control_fraction
    return stages.top(setup, scores, share, **selection.get(way, {}))


MASKS: dict[str, Callable[[Setup, str, str, int], Lazy | None]] = {
    **dict.fromkeys(("random", "matched_random"), _random),
    **dict.fromkeys(("magnitude", "weight", "snip", "wanda", "fisher"), _scored),
    **dict.fromkeys(
        ("complement", "other", "union", "intersection", "benign", "sil_minus_benign"), _combined
    ),
    **dict.fromkeys(
        ("sil_leaf", "sil_row", "sil_aligned", "sil_attacked", "sil_path", "sil_mean",
         "sil_blocks"), _otherwise
    ),
}  # fmt: skip


def size(
    chosen: Tree, mask: str, language: str, method: str, fraction: float, seed: int
) -> list[dict[str, Any]]:
    """How large a mask is, of all weights and of the blocks, and how much of it was to be had.

    `mask_scored` is below 1 where fewer weights had a score above 0 than were asked for.
    """
    return [
        {"mask": mask, "language": language, "method": method, "fraction": fraction, "seed": seed,
         "selected": masks.count(chosen), "share": masks.density(chosen),
         "share_of_blocks": masks.block_density(chosen),
         "mask_scored": masks.filled(chosen, fraction)}
    ]  # fmt: skip


def sil_movable(setup: Setup, language: str, seed: int, kind: str = stages.RESTRICTED) -> Lazy:
    """The weights that SIL's mask was chosen from, kept as a file."""
    scored = setup.memo.derive(
        "with score", masks.with_score, sil_scores(setup, language, seed, kind=kind)
    )
    info = {"method": "score above 0", "pairs": kind, "language": language, "seed": seed}
    name = "movable" if kind == stages.RESTRICTED else f"movable-{kind}"
    return stages.stored_mask(setup, scored, name, f"{language}-s{seed}", info)


def profile(chosen: Tree, mask: str, seed: int) -> list[dict[str, Any]]:
    """Selected weights of every weight tensor, as rows."""
    sizes = masks.sizes(chosen)
    return [
        {"mask": mask, "layer": layer, "module": module, "selected": selected,
         "total": sizes[module, layer], "seed": seed}
        for (module, layer), selected in masks.profile(chosen).items()
    ]  # fmt: skip
