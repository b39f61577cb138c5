"""The fragility study: attack in one language, measure all, find the weights, move them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

from jaxattack.data.dialogues import fingerprint
from jaxattack.evaluate import rates
from jaxattack.experiments import (
    agenda,
    agreement,
    attacking,
    calibrating,
    inputs,
    judges,
    opening,
    panel,
    plan,
    tuning,
    writing,
)
from jaxattack.experiments.agenda import Agenda, Outcome, Share
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, calibrate
from jaxattack.experiments.bench import Bench
from jaxattack.experiments.fragility import claims
from jaxattack.experiments.fragility.data import read_data
from jaxattack.experiments.fragility.sections import SECTIONS
from jaxattack.experiments.fragility.settings import Settings, read
from jaxattack.experiments.fragility.setup import Setup, calibration_pairs, make_setup
from jaxattack.experiments.fragility.transfer import baseline
from jaxattack.experiments.opening import Opened
from jaxattack.experiments.step import Values
from jaxattack.models import families
from jaxattack.stages import Stage

__all__ = ["Settings", "plan_lines", "prepare", "read", "run", "stages"]

COMPLETED_BY_US = (
    "SIL: the published formula is incomplete to us; here the score is the mean over calibration "
    "examples of |tau * grad L|, L the loss of the restricted answer.",
    "Attack: optimiser, learning rate, batch size and epochs are ours (100 pairs are the paper's).",
    "Freezing: the weights frozen are SIL's top share of the same attack, left free.",
    "Judging: the paper's judges and prompt sets are not known; see the rule above.",
)

TABLES = ("masks", "mask_profile", "overlap", "freeze_proof")  # there even if empty


def prepare(settings: Settings, root: pathlib.Path) -> tuple[Setup, dict[str, Any]]:
    """Load model and data; also returns what the manifest says of them.

    Raises:
        UserError: anything wrong with the model, the data or how they fit the settings.
    """
    setup, opened = open_study(settings, root, opening.loaded)
    data, used = setup.data, settings.sections
    others = (
        *settings.shared.models * ("shared" in used),
        *settings.adapt.models * ("adapt" in used),
    )
    return setup, opening.facts(settings, opened) | {
        "pairs": {code: fingerprint(data.pairs[RESTRICTED][code]) for code in data.attacked},
        "prompts": inputs.fingerprints(data.prompts),
        "other_models": {
            path: opening.model_fingerprint(opening.model_directory(path, None)) for path in others
        },
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
    opening.check_texts(families.read_config(directory), tokenizer, data.texts())
    opened = how(settings, directory, tokenizer)
    values = Values()
    start = opened.start(settings, values)
    bench = Bench(root, values, opened.decoder, start, opened.like, settings.dtype)
    return make_setup(bench, settings, data, weights), opened


def plan_lines(settings: Settings, root: pathlib.Path) -> list[str]:
    """What `--dry_run` prints: the data, the stages, memory and time; no weight is loaded.

    Raises:
        UserError: as `prepare`.
    """
    setup, opened = open_study(settings, root, opening.foreseen, keep_day=False)
    data, stages = setup.data, sections(setup).stages
    lengths, batch = attacking.token_lengths(setup), settings.measure.batch_size
    about = [
        *panel.lines(setup.models, stages, opened.mesh, settings.dtype, lengths, batch),
        f"pairs      {inputs.counted(data.pairs[RESTRICTED])}",
        f"prompts    {inputs.counted(inputs.by_language(data.prompts))}",
        f"attacked   {', '.join(data.attacked)}; localized: {', '.join(data.localized)}; "
        f"seeds: {', '.join(map(str, settings.seeds))}",
        *inputs.left_out(data.lost),
    ]
    return plan.lines(settings, root, opened, settings.attack, stages, lengths, about)


def stages(settings: Settings, root: pathlib.Path) -> list[Stage]:
    """All that a study computes, by the names on disk; no weight is loaded.

    Raises:
        UserError: as `prepare`.
    """
    setup, _ = open_study(settings, root, opening.foreseen, keep_day=False)
    return sections(setup).stages


def sections(setup: Setup) -> Agenda:
    """All that the settings ask for; what all sections compare with comes first."""
    chosen = (ask for name, ask in SECTIONS.items() if name in setup.settings.sections)
    return agenda.collect([calibrate, baseline, *chosen], setup)


def run(setup: Setup, share: Share | None = None) -> Outcome:
    """Run all stages that are not there yet, or a share of them and wait for the others."""
    found = sections(setup)
    panel.check_ready(setup.models, found.stages)
    times = agenda.run(found.stages, share)
    return Outcome(results(setup, found), found.trial_rows(), times)


def results(setup: Setup, found: Agenda) -> dict[str, Any]:
    """What the finished stages found: a function of their files alone."""
    settings, data = setup.settings, setup.data
    trials = found.trials()
    rows = [row for cell, own in trials.items() for row in rates.rows(own, cell.columns())]
    rows += found.moved()
    tables: dict[str, list] = {name: [] for name in TABLES} | found.rows()
    judge = judges.facts(setup, rows, bool(tables.get("judge_errors")), COMPLETED_BY_US)
    everything = {
        "study": settings.study,
        "languages": setup.languages,
        "attack_languages": list(data.attacked),
        "localized": list(data.localized),
        "seeds": list(settings.seeds),
        "lost": data.lost | found.skipped,
        "judge": judge,
        "attack_pairs": {
            language: min(settings.attack.pairs, len(data.pairs[RESTRICTED][language]))
            for language in data.attacked
        },
        "sizes": sizes(setup),
        "rows": rows,
        "attack_loss": attack_losses(found, setup.share),
        **tables,
        **(beside := agreement.tables(trials)),
        "corrected": calibrating.correct(
            [*rows, *beside.get("alone", ())], tables.get("judge_errors", [])
        ),
    }
    if settings.report.replies:
        everything["replies"] = found.replies(attacking.word)
    about = claims.Study(
        seeds=settings.seeds,
        languages=tuple(setup.languages),
        attacked=data.attacked,
        localized=data.localized,
        share=setup.share,
    )
    claimed = claims.judge(trials, everything, about)
    claimed["cautions"] += judges.cautions(setup)
    return everything | claimed


def sizes(setup: Setup) -> list[dict[str, Any]]:
    """How many pairs each tuning trains on, and how many of which origin SIL is scored on.

    Of the first seed; others draw as many.
    """
    seed, data, options = setup.settings.seeds[0], setup.data, setup.settings.transfer
    chosen = set(setup.settings.sections)
    tunings = [(RESTRICTED, name) for name in data.attacked]
    if "transfer" in chosen:
        tunings += [(RESTRICTED, name) for name in options.mixed]
    if (options.benign and "transfer" in chosen) or "shared" in chosen:
        tunings += [(BENIGN, code) for code in data.localized if code in data.pairs[BENIGN]]
    masked = data.localized if chosen & {"localize", "shared", "pathways", "adapt"} else ()
    rows = []
    for kind, name in tunings:
        pairs = len(attacking.attack_pairs(setup, name.split("+"), seed, kind))
        row: dict[str, Any] = {"pairs_are": kind, "attacked": name, "pairs": pairs}
        if name in masked:
            scored, origin = calibration_pairs(setup, name, seed, kind)
            row |= {"scored": len(scored), "origin": origin}
        rows.append(row)
    return rows


def attack_losses(found: Agenda, share: float) -> list[dict[str, Any]]:
    """Loss of every step of the full attacks and of those repeated with SIL's mask frozen."""
    return [
        {**cell.columns(), "loss": tuning.losses_of(measured.weights)}
        for cell, measured in found.cells.items()
        if (cell.kind == "attacked" and cell.pairs is None)
        or (cell.kind == "frozen" and (cell.method, cell.share) == ("sil", share))
    ]
