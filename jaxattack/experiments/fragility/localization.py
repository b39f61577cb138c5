"""A2: which weights carry the attack, beside other ways to choose as many."""

from __future__ import annotations

from jaxattack.experiments import tables
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import find, measure
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility import controls
from jaxattack.experiments.fragility.setup import Setup, attack
from jaxattack.experiments.fragility.sil import sil_mask, sil_scores, top
from jaxattack.experiments.step import Step
from jaxattack.localize import stitching


def localize(agenda: Agenda, setup: Setup) -> None:
    """Masks of every kind, each stitched into the aligned model and rewound in the attacked one."""
    for seed in setup.settings.seeds:
        for language in setup.data.localized:
            for key, mask in chosen_masks(agenda, setup, language, seed).items():
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


def _is_rewound(setup: Setup, method: str, share: float) -> bool:
    if (method, share) == ("sil", setup.share):
        return True
    return setup.settings.localize.rewind and (method == "sil" or controls.is_rewound(method))


def chosen_masks(
    agenda: Agenda, setup: Setup, language: str, seed: int
) -> dict[tuple[str, float], Step]:
    """SIL's masks at every share, the others at one, by method and share."""
    options = setup.settings.localize
    scores = sil_scores(setup, language, seed)
    found = {("sil", f): top(setup, scores, f) for f in options.fractions}
    found["sil", setup.share] = sil_mask(setup, language, seed)
    for method in (*options.controls, *options.ways):
        mask = controls.mask_of(setup, method, language, seed)
        if mask is not None:
            found[method, setup.share] = mask
        else:
            why = f"{method} of {language} needs benign pairs, or other languages localized"
            agenda.skip("config.localize.controls", why)
    return found
