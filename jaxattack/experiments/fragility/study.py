"""The fragility study: attack in one language, measure all, find the weights, move them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxattack import tree
from jaxattack.data.dialogues import Example, encode_pairs, fingerprint, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.evaluate import rates, rule_error
from jaxattack.evaluate.registry import JUDGES
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import (
    agenda,
    agreement,
    calibrating,
    inputs,
    opening,
    plan,
    tuning,
    writing,
)
from jaxattack.experiments.agenda import Agenda, Outcome
from jaxattack.experiments.bench import Bench
from jaxattack.experiments.fragility import claims
from jaxattack.experiments.fragility.sections import SECTIONS
from jaxattack.experiments.fragility.setup import (
    BENIGN,
    LONGEST,
    RESTRICTED,
    Data,
    Pairs,
    Setup,
    calibrate,
    calibration_pairs,
    judge_of,
    make_setup,
)
from jaxattack.experiments.fragility.transfer import baseline
from jaxattack.experiments.opening import Opened
from jaxattack.experiments.settings import Settings, check, freeze
from jaxattack.experiments.step import Values
from jaxattack.models import families, folder
from jaxattack.models.transformer import abstract_params

TABLES = ("masks", "mask_profile", "overlap", "freeze_proof")  # there even if empty

COMPLETED_BY_US = (
    "SIL: the published formula is incomplete to us; here the score is the mean over calibration "
    "examples of |tau * grad L|, L the loss of the restricted answer.",
    "Attack: optimiser, learning rate, batch size and epochs are ours (100 pairs are the paper's).",
    "Freezing: the weights frozen are SIL's top share of the same attack, left free.",
    "Judging: the paper's judges and prompt sets are not known; see the rule above.",
)


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    return check(freeze(config, Settings))


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
        "judge_models": {model.name: model.fingerprint for model in setup.models},
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
    data = setup.data
    about = [
        *(
            f"judge      {model.name}: {tree.size(abstract_params(model.reader.decoder.model)):,} "
            "parameters; their memory and time are not in what follows"
            for model in setup.models
        ),
        f"pairs      {inputs.counted(data.pairs[RESTRICTED])}",
        f"prompts    {inputs.counted(inputs.by_language(data.prompts))}",
        f"attacked   {', '.join(data.attacked)}; localized: {', '.join(data.localized)}; "
        f"seeds: {', '.join(map(str, settings.seeds))}",
    ]
    lengths = token_lengths(setup)
    return plan.lines(
        settings, root, opened, settings.attack, sections(setup).stages, lengths, about
    )


def token_lengths(setup: Setup) -> plan.Tokens:
    """How long rows, prompts and replies are, as a sample of them tells."""
    settings, data, tokenizer = setup.settings, setup.data, setup.bench.decoder.tokenizer
    pairs = data.pairs[RESTRICTED][data.attacked[0]][: settings.attack.pairs]
    rows = encode_pairs(tokenizer, pairs, settings.attack.max_length, LONGEST)
    prompts = data.prompts[:: 1 + len(data.prompts) // 200]
    longest = max(len(prompt_tokens(tokenizer, example.prompt)) for example in prompts)
    return plan.Tokens(rows["tokens"].shape[1], longest, settings.measure.max_new_tokens)


def read_data(settings: Settings, directory: pathlib.Path) -> Data:
    """Read the examples and see that they fit the settings and each other.

    Raises:
        UserError: they do not.
    """
    named = settings.data
    lost: inputs.Lost = {}
    uris = {f"config.data.{name}": uri for name, uri in vars(named).items()}
    uris["config.adapt.prompts"] = settings.sources().get("adapted", "")
    inputs.check_policy(uris, directory)
    pairs = inputs.load_pairs(named.pairs, named.benign, directory, lost)
    prompts = inputs.load_prompts(named.prompts, directory, lost)
    calibration: dict[str, Pairs | None] = {RESTRICTED: None, BENIGN: None}
    if uri := named.calibration or inputs.set_aside(named.pairs):
        beside = inputs.load_pairs(uri, "", directory, lost)
        calibration[RESTRICTED] = beside[RESTRICTED]
        if beside[BENIGN] and not named.benign:
            calibration[BENIGN] = beside[BENIGN]
    attacked = inputs.choose_languages(
        settings.attack.languages, list(pairs[RESTRICTED]), "config.attack.languages"
    )
    whose = "config.attack.languages" if settings.attack.languages else "the data"
    localized = inputs.choose_languages(
        settings.localize.languages, attacked, "config.localize.languages", whose
    )
    if not settings.localize.languages:
        localized = inputs.spread(localized, settings.localize.max_languages)
    for mixed in settings.transfer.mixed:
        inputs.choose_languages(mixed.split("+"), list(pairs[RESTRICTED]), "config.transfer.mixed")
    known = list(inputs.by_language(prompts))
    measured = inputs.choose_languages(
        settings.measure.languages, known, "config.measure.languages"
    )
    every = [prompt for prompt in prompts if prompt.language in measured]
    prompts = inputs.test_prompts(every, measured, settings.measure.prompts)
    judge_of(settings, prompts)
    added = added_prompts(settings, directory, every, lost)
    inputs.check_calibration(calibration[RESTRICTED], localized)
    inputs.check_calibration(
        calibration[BENIGN], [code for code in localized if code in pairs[BENIGN]]
    )
    for what, by_language in (
        ("attack pairs", pairs[RESTRICTED]),
        ("calibration pairs", calibration[RESTRICTED] or {}),
        ("pairs of the benign control", pairs[BENIGN]),
    ):
        for found in by_language.values():
            inputs.check_disjoint([*prompts, *added], found, what)
    labelled = labelled_replies(settings, directory, measured, prompts, lost)
    return Data(pairs, calibration, prompts, added, attacked, localized, lost, labelled)


def labelled_replies(
    settings: Settings,
    directory: pathlib.Path,
    languages: Sequence[str],
    prompts: Sequence[Example],
    lost: inputs.Lost,
) -> list[Example]:
    """Replies of which it is known whether they are violations.

    Args:
        settings: the study's.
        directory: of the model.
        languages: those that are measured; where there is one label alone, none are taken.
        prompts: of the study, by which the judge is known.
        lost: counts what is left out.

    Raises:
        UserError: the source is wrong, has no language with both labels, or no judge reads it.
    """
    uri, most = settings.measure.labelled, settings.measure.labelled_replies
    if not uri:
        return []
    found = inputs.load_examples(uri, (RESTRICTED, BENIGN), True, directory, lost)
    chosen = inputs.test_prompts(found, languages, most)
    both = {
        code
        for code in languages
        if {row.kind for row in chosen if row.language == code} == {RESTRICTED, BENIGN}
    }
    if not both:
        raise UserError(
            f"config.measure.labelled: {uri} has no language of those measured with violations "
            "(kind restricted) and other replies (kind benign)"
        )
    if settings.measure.judge != "refusal rule" and not settings.measure.moderators:
        name, _ = judge_of(settings, prompts)
        if JUDGES[name].needs_answers:
            raise UserError(
                f"config.measure.labelled: the judge goes by {name}, of which these replies have "
                "none; name judge models, or the refusal rule (config.measure.judge)"
            )
    return [row for row in chosen if row.language in both]


def added_prompts(
    settings: Settings, directory: pathlib.Path, every: Sequence[Example], lost: inputs.Lost
) -> list[Example]:
    """What models that others adapted are asked beside the study's prompts, chosen as these are.

    Args:
        settings: the study's.
        directory: of the model.
        every: prompts of the study, more than are asked where there is a limit.
        lost: counts what is left out.

    Raises:
        UserError: the source is wrong.
    """
    uri = settings.sources().get("adapted")
    if not uri:
        return []
    found = inputs.load_prompts(uri, directory, lost, before=every)
    languages = list(inputs.by_language(found))
    return inputs.test_prompts(found, languages, settings.measure.prompts)


def sections(setup: Setup) -> Agenda:
    """All that the settings ask for; what all sections compare with comes first."""
    chosen = (ask for name, ask in SECTIONS.items() if name in setup.settings.sections)
    return agenda.collect([calibrate, baseline, *chosen], setup)


def run(setup: Setup) -> Outcome:
    """Run all stages that are not there yet."""
    found = sections(setup)
    times = agenda.run(found.stages)
    return Outcome(results(setup, found), found.trial_rows(), times)


def results(setup: Setup, found: Agenda) -> dict[str, Any]:
    """What the finished stages found: a function of their files alone."""
    settings, data = setup.settings, setup.data
    trials = found.trials()
    rows = [row for cell, own in trials.items() for row in rates.rows(own, cell.columns())]
    rows += found.moved()
    tables: dict[str, list] = {name: [] for name in TABLES} | found.rows()
    name, _ = judge_of(settings, data.prompts)
    judge = {
        "name": name,
        "rule": JUDGES[name].rule,
        "completed_by_us": list(COMPLETED_BY_US),
        **rule_errors(name, setup.languages, rows),
    }
    if setup.models:
        judge |= panel_facts(setup, name)
    combine = settings.measure.combine
    counting = {} if combine == "judge" else {m.name: m.fingerprint for m in setup.models}
    judge["counts"] = {"judge": name, "rule": JUDGES[name].rule, "by": combine, **counting}
    if not JUDGES[name].needs_answers and not tables.get("judge_errors"):
        judge["rule"] += " Rates are not corrected for judges' errors (config.measure.labelled)."
    everything = {
        "study": settings.study,
        "languages": setup.languages,
        "attack_languages": list(data.attacked),
        "seeds": list(settings.seeds),
        "lost": data.lost | found.skipped,
        "judge": judge,
        "attack_pairs": {
            language: min(settings.attack.pairs, len(data.pairs[RESTRICTED][language]))
            for language in data.attacked
        },
        "calibration": sorted(
            {
                calibration_pairs(setup, language, seed)[1]
                for language in data.localized
                for seed in settings.seeds
            }
        ),
        "rows": rows,
        "attack_loss": attack_losses(found, setup.share),
        **tables,
        **(beside := agreement.tables(trials)),
        "corrected": calibrating.correct(
            [*rows, *beside.get("alone", ())], tables.get("judge_errors", [])
        ),
    }
    if settings.report.replies:
        everything["replies"] = found.replies(word)
    about = claims.Study(
        seeds=settings.seeds,
        languages=tuple(setup.languages),
        attacked=data.attacked,
        localized=data.localized,
        share=setup.share,
    )
    claimed = claims.judge(trials, everything, about)
    claimed["cautions"] += panel_cautions(setup)
    return everything | claimed


def panel_facts(setup: Setup, name: str) -> dict[str, Any]:
    """Who judges beside the judge, and what counts."""
    models, combine = [model.name for model in setup.models], setup.settings.measure.combine
    who = {"all": "all of", "any": "any of", "majority": "most of"}
    counts = (
        f"Counted is what {name} says; beside it stand the judge models {', '.join(models)}, each "
        "alone."
        if combine == "judge"
        else f"A restricted prompt counts as violated when {who[combine]} {name} and the judge "
        f"models {', '.join(models)} say so of a well-formed reply; each alone stands beside it."
    )
    return {"name": f"{name} with {', '.join(models)}", "rule": f"{counts} {JUDGES[name].rule}"}


def panel_cautions(setup: Setup) -> list[dict[str, Any]]:
    """What is to be minded of judge models: kin, and languages they were not made for."""
    found = []
    known = {row.language for row in setup.data.labelled}
    if known and (other := [code for code in setup.languages if code not in known]):
        text = (
            f"There are no labelled replies of both sorts in {', '.join(other)}: rates there are "
            "not corrected for the judges' errors."
        )
        found.append({"id": "not_corrected", "topic": "judges", "text": text})
    if not setup.models:
        return found
    directory = setup.bench.start.arguments["checkpoint"].directory
    model_type = str(folder.read_json(directory / "config.json").get("model_type", ""))
    names = [model.name for model in setup.models]
    return found + agreement.cautions(names, model_type, setup.languages)


def rule_errors(
    judge: str, languages: Sequence[str], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """How often the refusal rule errs in these languages, if it judged, and what that explains.

    `differences` are those between languages that the samples tell apart, of the models before any
    localisation.
    """
    if judge != "refusal rule":
        return {}
    errors = rule_error.of_languages(tuple(languages))
    compared = [
        row for row in rows if row["kind"] in ("aligned", "attacked") and "pairs" not in row
    ]
    return {
        "errors": [found.row() for found in errors.values()],
        "differences": rule_error.differences(compared, errors),
    }


def attack_losses(found: Agenda, share: float) -> list[dict[str, Any]]:
    """Loss of every step of the full attacks and of those repeated with SIL's mask frozen."""
    return [
        {**cell.columns(), "loss": tuning.losses_of(measured.weights)}
        for cell, measured in found.cells.items()
        if (cell.kind == "attacked" and cell.pairs is None)
        or (cell.kind == "frozen" and (cell.method, cell.share) == ("sil", share))
    ]


def word(trial: Trial) -> str:
    """A trial in a word."""
    if trial.answered:
        return "answered"
    return "refused" if trial.refused else "neither"
