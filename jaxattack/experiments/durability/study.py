"""The durability study: every attack of a sweep on every defence, the worst one by language."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

from jaxattack.data.dialogues import fingerprint
from jaxattack.errors import UserError
from jaxattack.evaluate import rates
from jaxattack.experiments import (
    agenda,
    agreement,
    attacking,
    calibrating,
    inputs,
    judge_models,
    judges,
    opening,
    panel,
    plan,
    writing,
)
from jaxattack.experiments.agenda import Agenda, Outcome, Share
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, Subject
from jaxattack.experiments.bench import Bench
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.durability import choosing, claims, costs
from jaxattack.experiments.durability.attacks import ATTACKS, course_of, task_pairs
from jaxattack.experiments.durability.data import read_data
from jaxattack.experiments.durability.ranking import ranking
from jaxattack.experiments.durability.registry import DEFENCES
from jaxattack.experiments.durability.sections import SECTIONS
from jaxattack.experiments.durability.settings import Settings, read
from jaxattack.experiments.durability.setup import REFUSED, Setup, defender, held
from jaxattack.experiments.durability.sweeping import NONE, baseline
from jaxattack.experiments.opening import Opened
from jaxattack.experiments.step import Step, Values
from jaxattack.models import families

__all__ = ["Settings", "plan_lines", "prepare", "read", "run"]

TABLES = ("choice",)  # there even if empty
COMPLETED_BY_US = (
    "Defences are computed from the papers' descriptions, in our own code; what is reconstructed "
    "stands at the head of each file of jaxattack/defend.",
    "Every defence is tried with one setting, its authors' where it has no scale of its own; the "
    "frontier shows others of the repairs.",
    "Utility: benign prompts rightly answered, or without known answers readably and not "
    "declined; and the house style that the tuning is for.",
)


def prepare(settings: Settings, root: pathlib.Path) -> tuple[Setup, dict[str, Any]]:
    """Load model and data; also returns what the manifest says of them.

    Raises:
        UserError: anything wrong with the model, the data or how they fit the settings.
    """
    setup, opened = open_study(settings, root, opening.loaded)
    pairs = setup.data.pairs[RESTRICTED]
    return setup, opening.facts(settings, opened) | {
        "pairs": {code: fingerprint(pairs[code]) for code in setup.data.attacked},
        "prompts": inputs.fingerprints(setup.data.prompts),
        "validation": inputs.fingerprints(setup.validation),
        "refusals": {code: fingerprint(rows) for code, rows in setup.held[REFUSED].items()},
        "judge_models": panel.fingerprints(setup.models),
    }


def open_study(
    settings: Settings, root: pathlib.Path, how: Callable[..., Opened], keep_day: bool = True
) -> tuple[Setup, Opened]:
    """What the sections share, of a model that is loaded or only foreseen.

    Raises:
        UserError: as `prepare`.
    """
    weights = how is opening.loaded
    directory = opening.model_directory(settings.model, settings.revision, weights)
    data = read_data(settings, directory)
    tokenizer = opening.load_tokenizer(directory, settings.tokenizer)
    tokenizer = writing.writer(settings.template, tokenizer, root, keep_day)
    refused = [row for rows in data.held[REFUSED].values() for row in rows]
    texts = [*data.attack.texts(), *data.validation, *refused]
    opening.check_texts(families.read_config(directory), tokenizer, texts)
    opened, values = how(settings, directory, tokenizer), Values()
    start = opened.start(settings, values)
    bench = Bench(root, values, opened.decoder, start, opened.like, settings.dtype)
    models = judge_models.opened(bench, settings.measure, weights)
    setup = Setup(
        bench,
        settings,
        data.attack,
        models,
        validation=data.validation,
        held=data.held,
        base=base_model(settings, values, opened),
    )
    check(setup)
    return setup, opened


def base_model(settings: Settings, values: Values, opened: Opened) -> Step | None:
    """The weights before the alignment, where a defence needs them.

    Raises:
        UserError: the model cannot be found, computes otherwise, or is of another growth.
    """
    if not any(DEFENCES[row].needs_base for row in settings.defend.defences):
        return None
    name = settings.defend.base
    found = opening.another(settings, name, values, opened)
    directory = opening.model_directory(name, None)
    opening.check_base(name, directory, opened.checkpoint.directory)
    return found


def check(setup: Setup) -> None:
    """Refuse what cannot be asked or trained on, and say what attacks train on.

    Raises:
        UserError: names the prompt or pair.
    """
    for prompts in (setup.data.prompts, setup.validation):
        attacking.check_prompts(setup, Subject(setup.bench.decoder, prompts))
    for pairs in setup.held.values():
        for rows in pairs.values():
            attacking.check_trained(setup, rows[: setup.settings.defend.pairs])
    for name in ("full", "other", *setup.settings.sweep.attacks):
        for seed in setup.settings.seeds:
            setup.courses[name, seed] = course_of(setup, name, seed)
    first, seeds = setup.settings.sweep.attacks[0], setup.settings.seeds
    if setup.courses[first, seeds[0]] is None:
        raise UserError(
            f"config.sweep.attacks begins with {first!r}, and there is none such here: it needs a "
            "second language (config.attack.languages), pairs (config.task.pairs), or a lower "
            "config.sweep.few"
        )


def plan_lines(settings: Settings, root: pathlib.Path) -> list[str]:
    """What `--dry_run` prints: the data, the stages, memory and time; no weight is loaded.

    Raises:
        UserError: as `prepare`.
    """
    setup, opened = open_study(settings, root, opening.foreseen, keep_day=False)
    pairs, stages = setup.data.pairs, everything(setup).stages
    lengths, batch = attacking.token_lengths(setup), settings.measure.batch_size
    about = [
        *panel.lines(setup.models, stages, opened.mesh, settings.dtype, lengths, batch),
        f"pairs      {inputs.counted(pairs[RESTRICTED])}",
        f"task       {len(task_pairs(setup, setup.data.attacked[:1], settings.seeds[0]))} "
        "benign pairs in the house style",
        f"defender   {', '.join(defender(setup))}: {held_most(setup)} pairs of each kind at most",
        f"prompts    {inputs.counted(inputs.by_language(setup.data.prompts))}",
        f"validation {inputs.counted(inputs.by_language(setup.validation))}",
        f"attacked   {', '.join(setup.data.attacked)}; {possible(setup)} attacks on "
        f"{1 + len(settings.defend.defences)} defences; seeds: "
        f"{', '.join(map(str, settings.seeds))}",
        *inputs.left_out(setup.data.lost),
    ]
    return plan.lines(settings, root, opened, settings.attack, stages, lengths, about)


def held_most(setup: Setup) -> int:
    """The most pairs of a kind that the defender has in a language."""
    there = max(len(rows) for pairs in setup.held.values() for rows in pairs.values())
    return min(there, setup.settings.defend.pairs)


def sent(setup: Setup, name: str) -> dict[str, Any]:
    """What an attack of the sweep sends, of the first seed; others send as much."""
    row = {"attack": name, "words": ATTACKS[name].words}
    course = setup.courses[name, setup.settings.seeds[0]]
    if course is None:
        return row | {"words": f"{row['words']}: none here"}
    kinds = [example.kind for example in course.examples]
    return row | {
        "attacked": "+".join(course.languages),
        "restricted": kinds.count(RESTRICTED),
        "styled": kinds.count(BENIGN),
        "steps": course.training.count(course.examples),
    }


def possible(setup: Setup) -> int:
    """How many attacks of the sweep there are here."""
    first = setup.settings.seeds[0]
    return sum(setup.courses[name, first] is not None for name in setup.settings.sweep.attacks)


def everything(setup: Setup) -> Agenda:
    """All that the settings ask for; what all sections compare with comes first."""
    chosen = (ask for name, ask in SECTIONS.items() if name in setup.settings.sections)
    return agenda.collect([attacking.calibrate, baseline, *chosen], setup)


def run(setup: Setup, share: Share | None = None) -> Outcome:
    """Run all stages that are not there yet, or a share of them and wait for the others."""
    found = everything(setup)
    panel.check_ready(setup.models, found.stages)
    times = agenda.run(found.stages, share)
    spent = costs.rows(setup, found)
    return Outcome(results(setup, found), found.trial_rows(), times | {"costs": spent})


def results(setup: Setup, found: Agenda) -> dict[str, Any]:
    """What the finished stages found: a function of their files alone."""
    settings, trials = setup.settings, found.trials()
    study = claims.Study.of(settings, setup.languages)
    rows = [row for cell, own in trials.items() for row in rates.rows(own, cell.columns())]
    rows += found.moved()
    tables: dict[str, list] = {name: [] for name in TABLES} | found.rows()
    everything = {
        "study": settings.study,
        "languages": setup.languages,
        "attack_languages": list(setup.data.attacked),
        "seeds": list(settings.seeds),
        "lost": setup.data.lost | found.skipped,
        "judge": judges.facts(setup, rows, bool(tables.get("judge_errors")), COMPLETED_BY_US),
        "defences": [
            {"method": name, "stage": DEFENCES[name].stage, "by": DEFENCES[name].by}
            for name in settings.defend.defences
        ],
        "sweep": [sent(setup, name) for name in settings.sweep.attacks],
        "defender": [
            {"language": code}
            | {kind: len(held(setup, kind, (code,))) for kind in (RESTRICTED, REFUSED, BENIGN)}
            for code in defender(setup)
        ],
        "utility": choosing.utility_is(trials[Cell("aligned")]),
        "ranking": ranking(
            trials,
            (NONE, *settings.defend.defences),
            study.single(NONE),
        ),
        "rows": rows,
        **tables,
        **(beside := agreement.tables(trials)),
        "corrected": calibrating.correct(
            [*rows, *beside.get("alone", ())], tables.get("judge_errors", [])
        ),
    }
    if settings.report.replies:
        everything["replies"] = found.replies(attacking.word)
    claimed = claims.judge(trials, everything, study)
    claimed["cautions"] += judges.cautions(setup)
    return everything | claimed
