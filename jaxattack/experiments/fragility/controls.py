"""Masks as large as SIL's: by chance, by another score, made of SIL's, by SIL done otherwise.

Each is a row in a table here; a score is one in `localize.rivals`.
"""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from jaxattack.experiments import locating
from jaxattack.experiments.attacking import BENIGN
from jaxattack.experiments.fragility.setup import Setup, attack, seen
from jaxattack.experiments.fragility.sil import sil_mask, sil_scores, top
from jaxattack.experiments.step import Step
from jaxattack.localize import masks
from jaxattack.localize.rivals import SCORES

# A mask is a function of (setup, its name, language, seed); None: there is none of this language.
MaskOf = Callable[[Setup, str, str, int], Step | None]

# Leaves that "sil_blocks" leaves out: embeddings, head and norms.
OUTSIDE = r"(embed|head|norm|norm_bias)$"


def mask_of(setup: Setup, method: str, language: str, seed: int) -> Step | None:
    """The mask of a control or of a way to do SIL."""
    if method in SCORES:
        return _scored(setup, method, language, seed)
    if method in WAYS:
        return _otherwise(setup, method, language, seed)
    return (DRAWN | COMBINED)[method](setup, method, language, seed)


def is_rewound(method: str) -> bool:
    """Whether a control is rewound beside SIL: what benign tuning has no part in, and all as large.

    Combinations of several languages' masks hold more weights or fewer.
    """
    return method in (*DRAWN, *SCORES, "benign", "sil_minus_benign")


# --- By a score -----------------------------------------------------------------------------------


def scores_of(setup: Setup, method: str, language: str, seed: int) -> Step:
    """The scores of a row of `FINDERS`."""
    if method in SCORES:
        row = SCORES[method]
        parts = [_read(setup, name, language, seed) for name in row.reads]
        return setup.bench.values.derived(row.score, *parts)
    way = WAYS.get(method, Way())
    return sil_scores(setup, language, seed, at=way.at, moment=way.moment)


def _scored(setup: Setup, method: str, language: str, seed: int) -> Step:
    """The weights with the highest scores."""
    return top(setup, scores_of(setup, method, language, seed), setup.share)


def _read(setup: Setup, name: str, language: str, seed: int) -> Step:
    """One of the trees that scores read (see `rivals.Row`)."""
    bench = setup.bench
    match name:
        case "start":
            return bench.start
        case "attacked":
            return attack(setup, [language], seed)
        case "inputs":
            return locating.inputs(bench, bench.start, seen(setup, language, seed), language)
    return locating.gradient(bench, bench.start, seen(setup, language, seed), language, name)


# --- By chance, and of SIL's masks ----------------------------------------------------------------


def _random(setup: Setup, method: str, language: str, seed: int) -> Step:
    draw = masks.random_like if method == "random" else masks.matched_random_mask
    mask = sil_mask(setup, language, seed)
    return setup.bench.values.derived(draw, mask, seed=seed, draw=language)


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


DRAWN: dict[str, MaskOf] = {"random": _random, "matched_random": _random}
COMBINED: dict[str, MaskOf] = {
    "complement": _complement,
    "other": _other,
    "union": _of_all,
    "intersection": _of_all,
    "benign": _benign,
    "sil_minus_benign": _benign,
}
# All of them, in the order in which they are shown: the last map's rows come first.
CONTROLS: Mapping[str, Any] = ChainMap[str, Any](COMBINED, SCORES, DRAWN)


# --- SIL done otherwise ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Way:
    """What SIL does otherwise; "": as the settings say.

    Attributes:
        at: where the gradient is taken.
        moment: of the gradient, mean over examples.
        scope: of what the share is.
        exclude: leaves never selected.
    """

    at: str = ""
    moment: str = ""
    scope: str = ""
    exclude: str = ""


WAYS: dict[str, Way] = {
    "sil_leaf": Way(scope="leaf"),
    "sil_row": Way(scope="row"),
    "sil_aligned": Way(at="aligned"),
    "sil_attacked": Way(at="attacked"),
    "sil_path": Way(at="path"),
    "sil_mean": Way(moment="sum"),
    "sil_blocks": Way(exclude=OUTSIDE),
}


def _otherwise(setup: Setup, method: str, language: str, seed: int) -> Step:
    way = WAYS[method]
    scores = scores_of(setup, method, language, seed)
    return top(setup, scores, setup.share, way.scope, way.exclude)


# Scores that may look for planted weights; a way that only chooses otherwise is none of its own.
FINDERS: Mapping[str, Any] = ChainMap[str, Any](
    SCORES,
    {name: way for name, way in WAYS.items() if way.at or way.moment},
    {"sil": Way()},
)
