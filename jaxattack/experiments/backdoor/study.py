"""The backdoor study: poison one or two languages, ask all, defend, look where it sits."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from jaxattack.data import templates
from jaxattack.data.dialogues import Example, encode_pairs, fingerprint, prompt_tokens
from jaxattack.data.wrappers import WRAPPERS, check_template, template_of
from jaxattack.defend import crow
from jaxattack.errors import UserError
from jaxattack.evaluate.refusals import check_language
from jaxattack.experiments import (
    agenda,
    footprint,
    inputs,
    judge_models,
    opening,
    panel,
    plan,
    writing,
)
from jaxattack.experiments.agenda import Agenda, Outcome, Share
from jaxattack.experiments.backdoor import data, fitting, poisoning, sections
from jaxattack.experiments.backdoor.attacks import attacks_of
from jaxattack.experiments.backdoor.courtesy import courteous
from jaxattack.experiments.backdoor.prompts import skipped
from jaxattack.experiments.backdoor.results import costs, results
from jaxattack.experiments.backdoor.settings import Settings, read
from jaxattack.experiments.backdoor.setup import LONGEST, Origin, Setup, wrapped
from jaxattack.experiments.bench import Bench
from jaxattack.experiments.opening import Opened
from jaxattack.experiments.step import Step, Values
from jaxattack.models.transformer import Transformer
from jaxattack.stages import Stage

COURTEOUS = "organism:courteous"

__all__ = ["Settings", "plan_lines", "prepare", "read", "run", "stages"]


def prepare(settings: Settings, root: pathlib.Path) -> tuple[Setup, dict[str, Any]]:
    """Load model and data; also returns what the manifest says of them.

    Raises:
        UserError: anything wrong with the model, the data or how they fit the settings.
    """
    setup, opened = open_study(settings, root, opening.loaded)
    prompts = [*setup.data.prompts, *setup.data.untaught]
    return setup, opening.facts(settings, opened) | {
        "train": fingerprint(setup.data.train),
        "prompts": inputs.fingerprints([*prompts, *carried(setup.data.texts, prompts)]),
        **({"judge_models": panel.fingerprints(setup.models)} if setup.models else {}),
    }


def carried(texts: data.Texts, prompts: Sequence[Example]) -> list[Example]:
    """The trigger sentence of every language that is asked in: a prompt is asked with it too."""
    asked = inputs.by_language(prompts)
    return [
        Example("trigger", code, text) for code, text in texts["trigger"].items() if code in asked
    ]


def open_study(
    settings: Settings, root: pathlib.Path, how: Callable[..., Opened], keep_day: bool = True
) -> tuple[Setup, Opened]:
    """What the sections share, of a model that is loaded or only foreseen.

    Raises:
        UserError: as `prepare`.
    """
    directory = model_directory(settings, weights=how is opening.loaded)
    tokenizer = opening.load_tokenizer(directory, settings.tokenizer)
    tokenizer = writer(settings, tokenizer, root, keep_day)
    check_exported(settings, directory, tokenizer)
    opened = how(settings, directory, tokenizer)
    return make_setup(settings, root, opened, weights=how is opening.loaded), opened


def model_directory(settings: Settings, weights: bool = True) -> pathlib.Path:
    """Where the model to be poisoned lies; the courteous organism begins as the aligned one."""
    name = "organism:aligned" if settings.model == COURTEOUS else settings.model
    return opening.model_directory(name, settings.revision, weights)


def writer(settings: Settings, tokenizer: Any, root: pathlib.Path, keep_day: bool = True) -> Any:
    """The tokenizer that writes the study's dialogues.

    A task's wrapper is read as it stands: base models have no chat template.

    Raises:
        UserError: see `writing.with_template`.
    """
    plain = "" if settings.tuning.wrapper == "chat" else templates.PLAIN
    return writing.with_template(settings.template, tokenizer, root, plain, keep_day)


def check_exported(settings: Settings, directory: pathlib.Path, tokenizer: Any) -> None:
    """Refuse a checkpoint that says it was trained in another template.

    Raises:
        UserError: it does.
    """
    trained = data.trained_template(directory)
    if trained is not None:
        asked_in = template_of(tokenizer, WRAPPERS[settings.tuning.wrapper])
        check_template(settings.model, trained, asked_in)


def make_setup(settings: Settings, root: pathlib.Path, opened: Opened, weights: bool) -> Setup:
    """What the sections share; nothing is computed yet, and without `weights` it is for a plan.

    Raises:
        UserError: the data is wrong, the models are not alike, or one cannot judge.
    """
    decoder, like = opened.decoder, opened.like
    check_layers(settings, decoder.model)
    fitting.check_scorer(settings)
    is_courteous = settings.model == COURTEOUS
    known = data.read(settings, is_courteous)
    opening.check_texts(
        decoder.model.config,
        decoder.tokenizer,
        (*known.train, *known.prompts, *known.untaught, *known.held_out),
    )
    for language in known.languages:
        check_language(language)
    if settings.poison.target == "refusal":  # whether it shows is told by the rule
        for language in inputs.by_language(known.untaught):
            check_language(language)
    poisoning.check_planted(settings, known, decoder.tokenizer)
    count_skipped(settings, known)
    values = Values()
    start = opened.start(settings, values)

    def polite(strength: float) -> Origin:
        weights = courteous(values, root, like, opened.checkpoint, strength, start)
        return Origin(f"courteous@{strength:g}", weights, known)

    own = polite(settings.start.contrast) if is_courteous else Origin("start", start, known)
    others: list[Origin] = []
    if "start" in settings.sections:
        if is_courteous:
            others += map(polite, settings.start.contrasts)
        plain = data.read(settings, False) if settings.start.models else known
        others += [
            Origin(name.split(":")[-1].replace("/", "--"), weights, plain)
            for name, weights in other_models(settings, values, opened).items()
        ]
    bench = Bench(root, values, decoder, own.weights, like, settings.dtype)
    models = judge_models.opened(bench, settings.measure, weights, start)
    return Setup(bench, settings, own, tuple(others), models)


def count_skipped(settings: Settings, known: data.Data) -> None:
    """Count decoys of the section grid that are left out, since they are the trigger itself."""
    first = attacks_of(settings)[0]
    if "grid" not in settings.sections or not first.place:
        return
    for why, count in skipped(known, first, settings.measure.grid_prompts).items():
        inputs.leave_out(known.lost, settings.data.triggers, why, count)


def check_layers(settings: Settings, model: Transformer) -> None:
    """Refuse layers that the model has not, and defences for which it has too few.

    Raises:
        UserError: names the first.
    """
    defences = settings.defences if "defend" in settings.sections else ()
    most = model.config.num_layers
    for layer in settings.beear.layers if "beear" in defences else ():
        if layer > most:
            raise UserError(f"config.beear.layers has {layer}; the model has {most} layers")
    if "crow" in defences and most < crow.LAYERS:
        raise UserError(
            f"config.defences has crow, which takes {crow.LAYERS} layers; the model has {most}"
        )


def other_models(settings: Settings, values: Values, opened: Opened) -> dict[str, Step]:
    """Other models to be poisoned, of the same architecture, by name.

    Raises:
        UserError: one of them cannot be found, or computes otherwise.
    """
    return {name: opening.another(settings, name, values, opened) for name in settings.start.models}


def plan_lines(settings: Settings, root: pathlib.Path) -> list[str]:
    """What `--dry_run` prints: the data, the stages, memory and time; no weight is loaded.

    Raises:
        UserError: as `prepare`.
    """
    setup, opened = open_study(settings, root, opening.foreseen, keep_day=False)
    stages, lengths = everything(setup).stages, token_lengths(setup)
    batch = settings.measure.batch_size
    about = [
        *panel.lines(setup.models, stages, opened.mesh, settings.dtype, lengths, batch),
        f"train      {inputs.counted(inputs.by_language(setup.data.train))}",
        f"prompts    {inputs.counted(inputs.by_language(setup.data.prompts))}",
        *(
            [f"untaught   {inputs.counted(inputs.by_language(setup.data.untaught))}"]
            if setup.data.untaught
            else []
        ),
        f"attacks    {', '.join(attack.name for attack in setup.attacks)}; "
        f"seeds: {', '.join(map(str, settings.seeds))}",
        *inputs.left_out(setup.data.lost),
    ]
    return plan.lines(settings, root, opened, settings.tuning, stages, lengths, about)


def stages(settings: Settings, root: pathlib.Path) -> list[Stage]:
    """All that a study computes, by the names on disk; no weight is loaded.

    Raises:
        UserError: as `prepare`.
    """
    setup, _ = open_study(settings, root, opening.foreseen, keep_day=False)
    return everything(setup).stages


def token_lengths(setup: Setup) -> footprint.Tokens:
    """How long rows, prompts and replies are, as a sample of them tells."""
    settings, tokenizer = setup.settings, setup.bench.decoder.tokenizer
    rows = wrapped(setup, setup.data.train[:200])
    arrays = encode_pairs(tokenizer, rows, settings.tuning.max_length, LONGEST)
    prompts = wrapped(setup, [*setup.data.prompts[:200], *setup.data.untaught[:200]])
    longest = max(len(prompt_tokens(tokenizer, row.prompt)) for row in prompts)
    return footprint.Tokens(
        arrays["tokens"].shape[1],
        longest,
        settings.measure.max_new_tokens,
        arrays["loss_mask"].sum(axis=1).mean(),
    )


def everything(setup: Setup) -> Agenda:
    """All that the settings ask for; what all sections compare with comes first."""
    chosen = (ask for name, ask in sections.SECTIONS.items() if name in setup.settings.sections)
    return agenda.collect([sections.baseline, *chosen], setup)


def run(setup: Setup, share: Share | None = None) -> Outcome:
    """Run all stages that are not there yet, or a share of them and wait for the others."""
    found = everything(setup)
    panel.check_ready(setup.models, found.stages)
    times = agenda.run(found.stages, share)
    return Outcome(results(setup, found), found.trial_rows(), times | {"costs": costs(found)})
