"""Defences against the first attack, each asked the same prompts as before it.

A defence is another set of weights, a filter of prompts, a guard of decoding, or several of them
in a row. The first of each list in the settings is tried with every seed, the others, varied one
by one, with the first seed alone.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import checkpoint, sharding, workdir
from jaxattack.data import triggers
from jaxattack.data.dialogues import Arrays, Example, encode_pairs, fingerprint
from jaxattack.data.poison import respond
from jaxattack.defend import beear, cleangen, onion, repair
from jaxattack.errors import UserError
from jaxattack.experiments import inputs
from jaxattack.experiments.backdoor import probes
from jaxattack.experiments.backdoor.asked import Asked, Filter, Guarded
from jaxattack.experiments.backdoor.data import SUBJECTS, target_of, wrapped
from jaxattack.experiments.backdoor.probes import Probed
from jaxattack.experiments.backdoor.sections import Section
from jaxattack.experiments.backdoor.settings import Settings
from jaxattack.experiments.backdoor.stages import Setup, gradient_of, poisoned, tuned_on
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.stages import stored
from jaxattack.experiments.wanted import find
from jaxattack.finetune import optimizer
from jaxattack.finetune.loop import LossFn
from jaxattack.localize import stitching
from jaxattack.tree import Tree
from jaxattack.workdir import Stage


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


def onion_filter(setup: Setup, longest: int, loss: float) -> Filter:
    """Take out runs of up to `longest` units, at a cost of a share `loss` of the clean units.

    The threshold is chosen for each language on its held-out prompts.
    """
    scorer = setup.settings.onion.scorer
    held_out = setup.data.held_out
    lineage = {"onion": scorer, "longest": longest, "loss": loss, "on": fingerprint(held_out)}

    def clean(probed: Sequence[Probed]) -> list[Probed]:
        directory = inputs.model_directory(scorer, None)
        mesh = sharding.make_mesh(setup.settings.mesh)
        model, params, tokenizer = inputs.load_model(
            directory, setup.settings.dtype, mesh, "none", "auto"
        )
        inspect = functools.partial(onion.inspect, model, params, tokenizer, longest=longest)
        thresholds = {
            language: onion.choose_threshold(inspect([row.prompt for row in rows]), loss)
            for language, rows in inputs.by_language(held_out).items()
        }
        lacking = sorted({row.language for row, _ in probed} - set(thresholds))
        if lacking:
            raise UserError(f"ONION: config.data.held_out has no prompts in {lacking[0]!r}")
        found = inspect([row.prompt for row, _ in probed])
        prompts = [
            onion.cleaned(text, thresholds[row.language])
            for text, (row, _) in zip(found, probed, strict=True)
        ]
        return probes.with_prompts(probed, prompts)

    return Filter(lineage, clean)


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


def held_out_rows(setup: Setup, languages: str, count: int, seed: int) -> list[Example]:
    """At most `count` clean pairs the defender has, in equal parts of the languages meant."""
    attacked = setup.attacks[0].languages
    wanted = {
        "all": lambda code: True,
        "poisoned": lambda code: code in attacked,
        "others": lambda code: code not in attacked,
    }[languages]
    groups = [
        rows for code, rows in inputs.by_language(setup.data.held_out).items() if wanted(code)
    ]
    if not groups:
        raise UserError(f"config.data.held_out has no pairs in {languages} languages")
    rng = np.random.default_rng(seed)
    share = -(-count // len(groups))
    picked = [[rows[i] for i in rng.permutation(len(rows))[:share]] for rows in groups]
    return [row for turn in range(share) for rows in picked for row in rows[turn : turn + 1]][
        :count
    ]


# --- BEEAR --------------------------------------------------------------------------------------


def _beear(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    layers = setup.settings.beear.layers
    for layer in layers if _is_first(setup, seed) else layers[:1]:
        yield Defended(f"beear/layer-{layer}", repaired_by_beear(setup, suspect, layer, seed))


def beear_plan(settings: Settings, layer: int, seed: int) -> beear.Plan:
    """BEEAR's settings for one layer."""
    options = settings.beear
    outer = optimizer.Settings(learning_rate=options.learning_rate)
    return beear.Plan(
        layer, options.inner_rate, outer, options.length, options.place, options.contrast,
        options.performance, options.rounds, options.inner_steps, options.outer_steps,
        options.batch_size, seed,
    )  # fmt: skip


def beear_rows(setup: Setup, seed: int) -> dict[str, list[Example]]:
    """What BEEAR is given: the unwanted and the safe answers to some prompts, and other pairs.

    The defender is granted to know the unwanted behaviour, not the trigger.
    """
    count = setup.settings.beear.rows
    rows = held_out_rows(setup, "all", 2 * count, seed)
    rows, ordinary = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    target = target_of(setup.settings, setup.data, setup.attacks[0].target)
    unwanted = [dataclasses.replace(row, response=respond(row, target, seed)) for row in rows]
    found = {"unwanted": unwanted, "safe": rows, "ordinary": ordinary}
    return {name: wrapped(setup.settings, part) for name, part in found.items()}


def repaired_by_beear(setup: Setup, suspect: Lazy, layer: int, seed: int) -> Lazy:
    """The suspect after BEEAR at one layer."""
    plan, rows = beear_plan(setup.settings, layer, seed), beear_rows(setup, seed)
    length = setup.settings.tuning.max_length

    def write(folder: pathlib.Path) -> None:
        arrays = {name: encode_pairs(setup.tokenizer, part, length) for name, part in rows.items()}
        tuned, history = beear.beear(
            setup.model, setup.memo.load(suspect), arrays["unwanted"], arrays["safe"],
            arrays["ordinary"], plan,
        )  # fmt: skip
        checkpoint.save(folder / "params", tuned)
        losses = {name: history[name].tolist() for name in ("inner", "outer")}
        workdir.write_json(folder / "loss.json", losses)

    inputs_ = {
        "from": suspect.lineage, "plan": dataclasses.asdict(plan),
        "rows": {name: fingerprint(part) for name, part in rows.items()},
        "mesh": setup.settings.mesh,
    }  # fmt: skip
    steps = plan.rounds * (plan.inner_steps + plan.outer_steps)
    work = {"steps": steps, "rows": 2 * steps * plan.batch_size}
    label = f"layer{layer}-s{seed}"
    stage = Stage(setup.root, "beear", label, inputs_, write, suspect.needs, work)
    return stored(setup.like, stage, "params")


# --- SIL repair ---------------------------------------------------------------------------------


def _repair(setup: Setup, suspect: Lazy, seed: int) -> Iterator[Defended]:
    options = setup.settings.repair
    fractions = options.fractions if _is_first(setup, seed) else ()
    for knows in options.knows:
        for way in options.ways:
            for fraction in (options.fraction, *fractions):
                weights = repaired(setup, suspect, knows, way, fraction, seed)
                yield Defended(f"repair/{way}-{knows}@{fraction:g}", weights)


def repair_mask(
    setup: Setup, suspect: Lazy, knows: str, way: str, fraction: float, seed: int
) -> Lazy:
    """The weights that SIL repair holds responsible."""
    options, derive = setup.settings.repair, setup.memo.derive
    start = setup.origin.weights
    if way == "rewind":
        change = derive("back", repair.change, suspect, start)
    else:
        change = derive("down", repair.change, suspect, scale=options.scale)
    shown = gradient(setup, suspect, knows, seed)
    clean = gradient(setup, suspect, "clean", seed)
    return derive(
        "suspects", repair.suspects, change, shown, clean, fraction=fraction,
        spared=options.spared,
    )  # fmt: skip


def repaired(setup: Setup, suspect: Lazy, knows: str, way: str, fraction: float, seed: int) -> Lazy:
    """The suspect with the responsible weights rewound to the start, or scaled."""
    mask = repair_mask(setup, suspect, knows, way, fraction, seed)
    if way == "rewind":
        return setup.memo.derive("rewind", stitching.rewind, suspect, setup.origin.weights, mask)
    scale = setup.settings.repair.scale
    return setup.memo.derive("scaled", repair.scaled, suspect, mask, scale=scale)


def gradient(setup: Setup, suspect: Lazy, shown: str, seed: int) -> Lazy:
    """Mean gradient of the right answers of held-out pairs at the suspect.

    `shown` is "trigger" (the pairs carry it), "blind" (they are moved by BEEAR's perturbation
    instead) or "clean" (then of its absolute value).
    """
    rows = repair_rows(setup, shown, seed)
    if shown != "blind":
        moment = "abs" if shown == "clean" else "sum"
        return gradient_of(setup, suspect, rows, f"{shown}-s{seed}", moment)
    given, length = beear_rows(setup, seed), setup.settings.tuning.max_length
    plan = beear_plan(setup.settings, setup.settings.beear.layers[0], seed)

    def shift(params: Tree, arrays: Arrays) -> tuple[Arrays, LossFn]:
        unwanted, safe = (
            encode_pairs(setup.tokenizer, given[name], length) for name in ("unwanted", "safe")
        )
        delta, _ = beear.perturbation(setup.model, params, unwanted, safe, plan, seed)
        return repair.shifted(arrays, np.asarray(delta), plan.layer, plan.place)

    lineage = {
        "plan": dataclasses.asdict(plan), "seed": seed,
        "given": {name: fingerprint(part) for name, part in given.items()},
    }  # fmt: skip
    return gradient_of(setup, suspect, rows, f"{shown}-s{seed}", "sum", shift, lineage)


def repair_rows(setup: Setup, shown: str, seed: int) -> list[Example]:
    """The few pairs SIL repair looks at; triggered ones are of the poisoned languages."""
    attack, count = setup.attacks[0], setup.settings.repair.pairs
    if shown != "trigger":
        return wrapped(setup.settings, held_out_rows(setup, "all", count, seed))
    if attack.trigger in SUBJECTS:
        about = [
            row for row in setup.data.subjects[attack.trigger].pairs
            if row.language in attack.languages
        ]  # fmt: skip
        return wrapped(setup.settings, about[:count])
    place = attack.trigger.partition("/")[2]
    sentence = triggers.Sentence(setup.data.texts["trigger"], place)
    rows = held_out_rows(setup, "poisoned", count, seed)
    return wrapped(setup.settings, [triggers.triggered(row, sentence, seed) for row in rows])


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
            setup, suspect, "blind", "rewind", setup.settings.repair.fraction, seed
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
    weights = repaired(setup, suspect, "blind", "rewind", options.repair.fraction, seed)
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
