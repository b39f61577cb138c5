"""Defences against the first attack, each asked the same prompts as before it.

A defence is a function and a row here: another set of weights, a filter of prompts, a guard of
decoding, or several of them. The first of each list in the settings is tried with every seed, the
others, varied one by one, with the first seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxattack.data.wrappers import WRAPPERS
from jaxattack.defend import cleangen
from jaxattack.defend.crow import Crow
from jaxattack.errors import UserError
from jaxattack.experiments import opening
from jaxattack.experiments.backdoor import filters
from jaxattack.experiments.backdoor.defending import Defend, Found, cell_of, is_first, percent
from jaxattack.experiments.backdoor.prompts import short
from jaxattack.experiments.backdoor.repairs import Way, by_beear, by_crow, by_sil
from jaxattack.experiments.backdoor.setup import Defence, Setup
from jaxattack.experiments.backdoor.training import cleaned, held_out_rows, in_words, poisoned
from jaxattack.experiments.bench import Checkpoint
from jaxattack.experiments.step import Step
from jaxattack.models.families import read_config

if TYPE_CHECKING:  # its choices are named here
    from jaxattack.experiments.backdoor.options import Clean


def defences(setup: Setup, suspect: Step, seed: int) -> Found:
    """Every defence that the settings name, with its cell."""
    for name in setup.settings.defences:
        yield from DEFENCES[name](setup, suspect, seed)


# --- ONION --------------------------------------------------------------------------------------


def _onion(setup: Setup, suspect: Step, seed: int) -> Found:
    options = setup.settings.onion
    settings = [(longest, loss) for longest in options.longest for loss in options.losses]
    # Prompts and thresholds do not depend on the seed: with each the strongest clean loss alone.
    if not is_first(setup, seed):
        settings = [(longest, max(options.losses)) for longest in options.longest]
    for longest, loss in settings:
        runs = "single units" if longest == 1 else f"runs up to {longest}"
        words = f"{runs}, {percent(loss)} of clean units lost"
        cell = cell_of(setup, seed, "onion", str(longest), words, loss)
        yield cell, Defence(prompts=onion_filter(setup, longest, loss))


def onion_filter(setup: Setup, longest: int, loss: float) -> Step:
    """Take out runs of up to `longest` units, at a cost of a share `loss` of the clean units.

    Raises:
        UserError: a language without held-out rows, or a scorer that there is not.
    """
    prompts, held_out = short(setup.data, setup.first).rows, setup.data.held_out
    lacking = sorted({row.language for row in prompts} - {row.language for row in held_out})
    if lacking:
        raise UserError(f"ONION: config.data.held_out has no prompts in {lacking[0]!r}")
    directory = opening.model_directory(setup.settings.onion.scorer, None, weights=False)
    read_config(directory)  # now, and not when the models are poisoned
    scorer = Checkpoint(opening.model_fingerprint(directory), directory)
    suspects = filters.inspected(
        setup.bench, scorer, prompts, held_out, longest, setup.settings.mesh
    )
    return filters.filtered(setup.bench, suspects, loss, WRAPPERS[setup.settings.tuning.wrapper])


# --- Clean fine-tuning --------------------------------------------------------------------------


LANGUAGES = {"all": "all languages", "poisoned": "poisoned language", "others": "the others"}


def _tuned_on(options: Clean) -> list[tuple[str, int, float]]:
    """Languages, pairs and rates: the first of each, and the others of one beside it."""
    first = options.languages[0], options.rows[0], options.learning_rates[0]
    return [
        first,
        *((languages, *first[1:]) for languages in options.languages[1:]),
        *((first[0], rows, first[2]) for rows in options.rows[1:]),
        *((*first[:2], rate) for rate in options.learning_rates[1:]),
    ]


def _clean(setup: Setup, suspect: Step, seed: int) -> Found:
    options = setup.settings.clean
    settings = _tuned_on(options)
    for languages, count, rate in settings if is_first(setup, seed) else settings[:1]:
        rows = held_out_rows(setup, languages, count, seed)
        words = f"{in_words(rows, count)}, {LANGUAGES[languages]}, rate {rate:g}"
        cell = cell_of(setup, seed, "clean", f"{languages}-{count}@{rate:g}", words)
        weights = cleaned(
            setup,
            suspect,
            rows,
            f"clean/{cell.setting}-s{seed}",
            seed,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=rate,
            accumulate=1,
        )
        yield cell, Defence(weights)


# --- BEEAR --------------------------------------------------------------------------------------


def _beear(setup: Setup, suspect: Step, seed: int) -> Found:
    layers = setup.settings.beear.layers
    for layer in layers if is_first(setup, seed) else layers[:1]:
        cell = cell_of(setup, seed, "beear", f"layer-{layer}", f"layer {layer}")
        yield cell, Defence(by_beear(setup, suspect, layer, seed))


# --- CROW ---------------------------------------------------------------------------------------


def _crow(setup: Setup, suspect: Step, seed: int) -> Found:
    options = setup.settings.crow
    pairs = in_words(held_out_rows(setup, "all", options.rows, seed), options.rows)
    for weight in options.weights if is_first(setup, seed) else options.weights[:1]:
        loss = Crow(weight, options.step)
        words = f"{pairs}, weight {weight:g}"
        cell = cell_of(setup, seed, "crow", f"weight-{weight:g}", words)
        yield cell, Defence(by_crow(setup, suspect, loss, seed))


# --- SIL repair ---------------------------------------------------------------------------------


KNOWS = {"trigger": "trigger known", "blind": "trigger unknown"}


def _repair(setup: Setup, suspect: Step, seed: int) -> Found:
    options = setup.settings.repair
    usual = {"rewind": options.rewound, "scale": options.scaled}
    others = options.fractions if is_first(setup, seed) else ()
    for knows in options.knows:
        for does in options.ways:
            for share in dict.fromkeys((usual[does], *others)):
                words = f"{does} {percent(share)}, {KNOWS[knows]}"
                cell = cell_of(setup, seed, "repair", f"{does}-{knows}", words, share)
                yield cell, Defence(by_sil(setup, suspect, Way(knows, does, share), seed))


def rewound_blind(setup: Setup, suspect: Step, seed: int) -> Step:
    """The suspect with the responsible weights rewound, found without knowing the trigger."""
    return by_sil(setup, suspect, Way("blind", "rewind", setup.settings.repair.rewound), seed)


# --- CleanGen -----------------------------------------------------------------------------------


REFERENCES = {
    "benign": "benign reference",
    "start": "reference: the model before",
    "rewound": "reference: rewound by SIL",
    "half": "reference: half-way back",
}


def _cleangen(setup: Setup, suspect: Step, seed: int) -> Found:
    for name in setup.settings.cleangen.references:
        cell = cell_of(setup, seed, "cleangen", name, REFERENCES[name])
        yield cell, Defence(guarded=guarded(setup, suspect, name, seed))


def guarded(setup: Setup, suspect: Step, name: str, seed: int) -> Mapping[str, Any]:
    """Decoding that asks a second model.

    "benign" was trained on the clean set and is what the method asks for; the others can be had
    without one: the model before the tuning, the suspect with its responsible weights rewound,
    and the suspect half-way back to the start.
    """
    start = setup.bench.start
    match name:
        case "benign":
            reference = poisoned(setup, None, seed)
        case "rewound":
            reference = rewound_blind(setup, suspect, seed)
        case "half":
            reference = setup.bench.values.derived(cleangen.half_way, suspect, start)
        case _:
            reference = start
    options = setup.settings.cleangen
    return {"reference": reference, "guard": cleangen.Guard(options.alpha, options.horizon)}


# --- One after the other ------------------------------------------------------------------------


def _composed(setup: Setup, suspect: Step, seed: int) -> Found:
    """Filter, repair, guarded decoding: none knows the trigger or has a benign model."""
    options, weights = setup.settings.onion, rewound_blind(setup, suspect, seed)
    words = "ONION + SIL repair + CleanGen"
    yield (
        cell_of(setup, seed, "composed", "onion-repair-cleangen", words),
        Defence(
            weights,
            onion_filter(setup, max(options.longest), min(options.losses)),
            guarded(setup, weights, "start", seed),
        ),
    )


DEFENCES: dict[str, Defend] = {
    "onion": _onion,
    "clean": _clean,
    "beear": _beear,
    "crow": _crow,
    "cleangen": _cleangen,
    "repair": _repair,
    "composed": _composed,
}


# --- The defender's pairs -----------------------------------------------------------------------


def held(setup: Setup) -> list[dict[str, Any]]:
    """How many pairs of its own the defender gave its defences, and how many they ask for.

    Of the first seed; others draw as many.
    """
    options = setup.settings
    clean = dict.fromkeys(each[:2] for each in _tuned_on(options.clean))
    triggered = "trigger" in options.repair.knows and setup.first.place
    wanted = {
        "clean": [*clean],
        "beear": [("all", 2 * options.beear.rows)],
        "crow": [("all", options.crow.rows)],
        "repair": [("all", options.repair.pairs)]
        + [("poisoned", options.repair.pairs)] * bool(triggered),
    }
    return [
        {
            "method": method,
            "languages": languages,
            "wanted": count,
            "pairs": len(held_out_rows(setup, languages, count, options.seeds[0])),
        }
        for method in options.defences
        for languages, count in wanted.get(method, ())
    ]
