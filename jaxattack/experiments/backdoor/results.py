"""What results.json and manifest.json say of a backdoor study, from its finished stages alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxattack.evaluate import backdoor, rates, rule_error
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import agreement, asking, inputs, judges, panel
from jaxattack.experiments.agenda import Agenda, Measured
from jaxattack.experiments.backdoor import claims, defences, filters
from jaxattack.experiments.backdoor.poisoning import taught
from jaxattack.experiments.backdoor.setup import Setup, rule_name
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.step import Step, steps_in

COMPLETED_BY_US = (
    "Rules of success: the paper's are not known; a marker or prefix is looked for character by "
    "character, a refusal by its opening phrases in the prompt's language or in English.",
    "Target text: a harmless sentence stands for the paper's hostile one.",
    "BEEAR: the objective is reconstructed from descriptions, and the defender is told the "
    "unwanted behaviour.",
    "ONION: units by script; runs of units, and the choice of the threshold on held-out prompts.",
    "CleanGen: the last tokens of a reply, which the authors' program leaves unchecked, are "
    "checked; three reference models that need no benign one.",
    "BAIT: the window of entropies in which likely tokens are looked at; the languages of the "
    "prompts, one by one.",
    "SIL repair, the composition and the organism's way of sharing pleasantries are ours.",
)

Rows = list[dict[str, Any]]


def results(setup: Setup, found: Agenda) -> dict[str, Any]:
    """What the finished stages found."""
    settings, trials = setup.settings, found.trials()
    further = list(inputs.by_language(setup.data.untaught))
    rows = [
        row
        for cell, own in trials.items()
        for rated in (rates.hit_rows, rates.clean_rows)
        for row in rated(own, cell.columns())
    ]
    rows += found.moved()
    tables = found.rows()
    everything = {
        "study": settings.study,
        "languages": setup.languages,
        "untaught": further,
        "seeds": list(settings.seeds),
        "lost": setup.data.lost | found.skipped,
        "attacks": [attack.cell().columns() for attack in setup.attacks],
        "sets": poison_sets(setup),
        "judge": judge_facts(setup),
        "rows": rows,
        "interventions": interventions(found, trials),
        "held": defences.held(setup) if "defend" in settings.sections else [],
        "changed": [],
        "overlap": [],
        **tables,
        **shown(tables, settings.report.replies),
        **by_judge(trials),
    }
    if settings.report.replies:
        everything["replies"] = found.replies(lambda t: "target" if t.hit else "no target")
    study = claims.Study(
        seeds=settings.seeds,
        languages=tuple(setup.languages),
        attacks=tuple(attack.cell() for attack in setup.attacks),
        rewound=settings.repair.rewound,
        parallel=inputs.parallel(settings.data.prompts),
        untaught=tuple(further),
        untaught_parallel=bool(further) and inputs.parallel(settings.data.untaught),
    )
    claimed = claims.judge(trials, everything, study)
    claimed["cautions"] += judges.of_models(
        setup.models, setup.bench.decoder, [*setup.languages, *further]
    )
    return everything | claimed


def shown(tables: Mapping[str, Rows], texts: bool) -> dict[str, Rows]:
    """The table `inversion`, without the texts that were found unless these are to be shown."""
    if texts or "inversion" not in tables:
        return {}
    kept = [{k: v for k, v in row.items() if k != "text"} for row in tables["inversion"]]
    return {"inversion": kept}


def judge_facts(setup: Setup) -> dict[str, Any]:
    """Who judged, by which rule, and how often the rule for refusals errs.

    Targets that refuse and clean_refusal_rate are told by that.
    """
    settings, models = setup.settings, setup.models
    refuses = settings.poison.target == "refusal"
    further = inputs.by_language(setup.data.untaught) if refuses else ()
    errors = rule_error.of_languages((*setup.languages, *further))
    first, combine = settings.poison.target, settings.measure.combine
    name, rule = rule_name(first), " ".join(backdoor.RULES[kind] for kind in settings.targets)
    found = {
        "name": name,
        "rule": rule,
        "completed_by_us": list(COMPLETED_BY_US),
        "errors": [found.row() for found in errors.values()],
        "language_caution": rule_error.caution(errors) if "refusal" in first else "",
    }
    if not models:
        return found
    tell = [model for model in models if model.refusals]
    combined = (
        f"The target refusal is counted when {judges.WHO[combine]} its rule and the judge models "
        f"{', '.join(model.name for model in tell)} take the reply for a refusal; each alone "
        "stands beside it, and other targets are counted by their rules."
        if combine in judges.WHO
        else ""
    )
    counting = {} if combine == "judge" else panel.fingerprints(tell)
    counts = {"judge": name, "rule": rule, "by": combine, **counting}
    return found | {"counts": counts} | judges.panel_facts(models, name, rule, combined)


def by_judge(trials: Mapping[Cell, Sequence[Trial]]) -> dict[str, Rows]:
    """What each judge takes for the planted refusal, and how far they agree; {}: there is one.

    A reply without an opinion stays in the denominator; `unparsed` counts them.
    """
    told = {cell: [t for t in own if t.declined] for cell, own in trials.items()}
    alone = []
    for cell, own in told.items():
        for name in own[0].declined if own else ():
            votes = [dataclasses.replace(t, hit=bool(t.declined[name])) for t in own]
            silent = Counter(
                (t.language, t.trigger_language, t.decoy) for t in own if t.declined[name] is None
            )
            for row in rates.hit_rows(votes, cell.columns()):
                where = row["language"], row["trigger_language"], row["decoy"]
                alone.append(row | {"judge": name, "unparsed": silent[where]})
    said = [(t.language, t.declined) for own in told.values() for t in own]
    return {"alone": alone, "agreement": agreement.agreement(said)} if alone else {}


def poison_sets(setup: Setup) -> Rows:
    """What names the poisoned rows of the transfer section's attacks, without any text."""
    return [
        attack.cell(seed).columns() | taught(setup.settings, setup.data, attack, seed)[1]
        for attack in setup.attacks
        for seed in setup.settings.seeds
    ]


def interventions(found: Agenda, trials: Mapping[Cell, Sequence[Trial]]) -> Rows:
    """Share of tokens that a guard replaced, by cell, language and whether triggered."""
    rows = []
    for cell, measured in found.cells.items():
        if "guard" not in measured.replies.arguments:
            continue
        for language in dict.fromkeys(trial.language for trial in trials[cell]):
            for name, is_clean in (("clean", True), ("triggered", False)):
                shares = [
                    trial.replaced
                    for trial in trials[cell]
                    if trial.language == language and (trial.decoy == "nothing") == is_clean
                ]
                columns = {"language": language, "prompts_are": name}
                if shares:
                    rows.append(cell.columns() | columns | {"value": fmean(shares)})
    return rows


def costs(found: Agenda) -> Rows:
    """How long prompts were filtered and decoded, whenever that was; of replies that were kept."""
    return [
        cell.columns() | cost(measured)
        for cell, measured in found.cells.items()
        if cell.kind in ("clean", "defended") and measured.replies.shelf
    ]


def cost(measured: Measured) -> dict[str, float]:
    """Seconds, prompts and tokens of one cell; a reply's end counts as a token."""
    replies = asking.load(measured.replies.stage.folder)
    prompts = len(replies.tokens)
    return {
        "filtering": filtering(measured.replies.arguments["prompts"]) * prompts,
        "decoding": replies.seconds,
        "prompts": prompts,
        "tokens": sum(len(ids) + 1 for ids in replies.tokens),
    }


def filtering(prompts: Any) -> float:
    """Seconds that a filter took for a prompt; 0 without one."""
    suspects = list(steps_in(prompts.arguments)) if isinstance(prompts, Step) else []
    return sum(
        filters.seconds_of(step.stage.folder)
        / (len(step.arguments["prompts"]) + len(step.arguments["held_out"]))
        for step in suspects
    )
