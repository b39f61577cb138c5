"""Weights of the suspect after BEEAR or SIL repair, and the held-out pairs a defender has."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from jaxattack import checkpoint, workdir
from jaxattack.data import triggers
from jaxattack.data.dialogues import Arrays, Example, encode_pairs
from jaxattack.data.poison import respond
from jaxattack.defend import beear, repair
from jaxattack.errors import UserError
from jaxattack.experiments import inputs
from jaxattack.experiments.backdoor.data import SUBJECTS, sentence_of, target_of, wrapped
from jaxattack.experiments.backdoor.settings import Settings
from jaxattack.experiments.backdoor.stages import (
    LONGEST,
    Setup,
    gradient_of,
    keep_moved,
    trained_on,
)
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.stages import kept_type, stored
from jaxattack.localize import stitching
from jaxattack.train import optimizer
from jaxattack.train.loop import LossFn
from jaxattack.tree import Tree
from jaxattack.workdir import Stage


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
        arrays = {
            name: encode_pairs(setup.tokenizer, part, length, LONGEST)
            for name, part in rows.items()
        }
        tuned, history = beear.beear(
            setup.model, setup.memo.take(suspect), arrays["unwanted"], arrays["safe"],
            arrays["ordinary"], plan, dtype=setup.settings.dtype,
        )  # fmt: skip
        checkpoint.save(folder / "params", tuned)
        keep_moved(setup, folder, suspect, tuned)
        losses = {name: history[name].tolist() for name in ("inner", "outer")}
        workdir.write_json(folder / "loss.json", losses)

    inputs_ = {
        "from": suspect.lineage, "plan": dataclasses.asdict(plan),
        "rows": {name: trained_on(setup, part) for name, part in rows.items()},
        "mesh": setup.settings.mesh, "dtype": setup.settings.dtype,
    }  # fmt: skip
    steps = plan.rounds * (plan.inner_steps + plan.outer_steps)
    work = {"steps": steps, "rows": 2 * steps * plan.batch_size}
    label = f"layer{layer}-s{seed}"
    stage = Stage(setup.root, "beear", label, inputs_, write, suspect.needs, work)
    return stored(setup.like, stage, "params", kept_type(plan.outer.weights))


# --- SIL repair ---------------------------------------------------------------------------------


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
            encode_pairs(setup.tokenizer, given[name], length, LONGEST)
            for name in ("unwanted", "safe")
        )
        delta, _ = beear.perturbation(setup.model, params, unwanted, safe, plan, seed)
        return repair.shifted(arrays, np.asarray(delta), plan.layer, plan.place)

    lineage = {
        "plan": dataclasses.asdict(plan), "seed": seed,
        "given": {name: trained_on(setup, part) for name, part in given.items()},
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
    sentence = sentence_of(setup.data, attack.trigger)
    rows = held_out_rows(setup, "poisoned", count, seed)
    return wrapped(setup.settings, [triggers.triggered(row, sentence, seed) for row in rows])
