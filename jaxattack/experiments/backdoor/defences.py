"""Defences against the first attack, each asked the same prompts as before it.

A defence is another set of weights, a filter of prompts, a guard of decoding, or several of them
in a row. The first of each list in the settings is tried with every seed, the others, varied one
by one, with the first seed alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxattack.defend import cleangen
from jaxattack.experiments.backdoor import probes
from jaxattack.experiments.backdoor.asked import Asked, Filter, Guarded
from jaxattack.experiments.backdoor.filters import onion_filter
from jaxattack.experiments.backdoor.repairs import held_out_rows, repaired, repaired_by_beear
from jaxattack.experiments.backdoor.sections import Section
from jaxattack.experiments.backdoor.stages import Setup, poisoned, tuned_on
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.wanted import find
from jaxattack.localize import stitching


@dataclasses.dataclass(frozen=True)
class Defended:
    """What a defence makes of a backdoored model; None leaves that part as it is."""

    name: str  # the defence and its setting, as in `defended/<name>`
    weights: Lazy | None = None
    filtered: Filter | None = None
    guarded: Guarded | None = None


def defend(setup: Setup) -> Section:
    """Every defence against the first attack, and how many weights it changes."""
    section = Section()
    attack = setup.attacks[0]
    for seed in setup.settings.seeds:
        suspect = poisoned(setup, attack, seed)
        for name in setup.settings.defences:
            for one in DEFENCES[name](setup, suspect, seed):
                weights = one.weights or suspect
                section.variants.append(
                    Asked(
                        f"defended/{one.name}", seed, weights, attack,
                        probes.short(setup.data, attack), setup.origin, one.filtered, one.guarded,
                    )
                )  # fmt: skip
                if one.weights is not None:
                    label = f"{one.name}-s{seed}"
                    section.findings.append(
                        find(setup.root, setup.memo, "changed", label, changed, suspect,
                             one.weights, variant=f"defended/{one.name}", seed=seed)
                    )  # fmt: skip
    return section


def changed(before, after, variant: str, seed: int) -> list[dict[str, Any]]:
    """How many weights a defence changed."""
    everything = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), before)
    total, moved = stitching.moved(before, after, everything)
    return [{"variant": variant, "seed": seed, "weights": total, "changed": moved}]


def _is_first(setup: Setup, seed: int) -> bool:
    return seed == setup.settings.seeds[0]


# --- ONION --------------------------------------------------------------------------------------


def _onion(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    options = setup.settings.onion
    settings = [(longest, loss) for longest in options.longest for loss in options.losses]
    # Prompts and thresholds do not depend on the seed: with each the strongest clean loss alone.
    if not _is_first(setup, seed):
        settings = [(longest, max(options.losses)) for longest in options.longest]
    for longest, loss in settings:
        yield Defended(f"onion/{longest}@{loss:g}", filtered=onion_filter(setup, longest, loss))


# --- Clean fine-tuning --------------------------------------------------------------------------


def _clean(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    options = setup.settings.clean
    first = options.languages[0], options.rows[0], options.learning_rates[0]
    settings = [first]
    if _is_first(setup, seed):
        settings += [(languages, *first[1:]) for languages in options.languages[1:]]
        settings += [(first[0], rows, first[2]) for rows in options.rows[1:]]
        settings += [(*first[:2], rate) for rate in options.learning_rates[1:]]
    for languages, count, rate in settings:
        rows = held_out_rows(setup, languages, count, seed)
        name = f"clean/{languages}-{count}@{rate:g}"
        weights = tuned_on(
            setup, suspect, rows, f"{name}-s{seed}", seed, epochs=options.epochs,
            batch_size=options.batch_size, learning_rate=rate, accumulate=1,
        )  # fmt: skip
        yield Defended(name, weights)


# --- BEEAR --------------------------------------------------------------------------------------


def _beear(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    layers = setup.settings.beear.layers
    for layer in layers if _is_first(setup, seed) else layers[:1]:
        yield Defended(f"beear/layer-{layer}", repaired_by_beear(setup, suspect, layer, seed))


# --- SIL repair ---------------------------------------------------------------------------------


def _repair(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    options = setup.settings.repair
    fractions = options.fractions if _is_first(setup, seed) else ()
    for knows in options.knows:
        for way in options.ways:
            usual = {"rewind": options.rewound, "scale": options.scaled}[way]
            for fraction in dict.fromkeys((usual, *fractions)):
                weights = repaired(setup, suspect, knows, way, fraction, seed)
                yield Defended(f"repair/{way}-{knows}@{fraction:g}", weights)


# --- CleanGen -----------------------------------------------------------------------------------


def _cleangen(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    for name in setup.settings.cleangen.references:
        yield Defended(f"cleangen/{name}", guarded=guarded(setup, suspect, name, seed))


def guarded(setup: Setup, suspect: Lazy, name: str, seed: int) -> Guarded:
    """Decoding that asks a second model.

    "benign" was trained on the clean set and is what the method asks for; the others can be had
    without one: the model before the tuning, the suspect with its responsible weights rewound,
    and the suspect half-way back to the start.
    """
    start = setup.origin.weights
    reference = {
        "benign": lambda: poisoned(setup, None, seed),
        "start": lambda: start,
        "rewound": lambda: repaired(
            setup, suspect, "blind", "rewind", setup.settings.repair.rewound, seed
        ),
        "half": lambda: setup.memo.derive("half", half_way, suspect, start),
    }[name]()
    options = setup.settings.cleangen
    return Guarded(reference, cleangen.Guard(options.alpha, options.horizon))


def half_way(suspect, start):
    """The weights in the middle between two models."""
    return jax.tree.map(
        lambda a, b: ((a.astype(jnp.float32) + b.astype(jnp.float32)) / 2).astype(a.dtype),
        suspect,
        start,
    )


# --- One after the other ------------------------------------------------------------------------


def _composed(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    """Filter, repair, guarded decoding: none knows the trigger or has a benign model."""
    options = setup.settings
    weights = repaired(setup, suspect, "blind", "rewind", options.repair.rewound, seed)
    yield Defended(
        "composed/onion-repair-cleangen",
        weights,
        onion_filter(setup, max(options.onion.longest), min(options.onion.losses)),
        guarded(setup, weights, "start", seed),
    )


DEFENCES: dict[str, Callable[[Setup, Lazy, int], Iterator[Defended]]] = {
    "onion": _onion,
    "clean": _clean,
    "beear": _beear,
    "cleangen": _cleangen,
    "repair": _repair,
    "composed": _composed,
}
