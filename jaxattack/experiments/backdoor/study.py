"""The backdoor study: poison one or two languages, ask all, defend, look where it sits."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jaxattack import host, sharding, tree, workdir
from jaxattack.data import templates
from jaxattack.data.dialogues import encode_pairs, fingerprint, prompt_tokens
from jaxattack.data.wrappers import WRAPPERS, check_template, template_of
from jaxattack.errors import UserError
from jaxattack.evaluate import backdoor, rule_error
from jaxattack.evaluate.refusals import check_language
from jaxattack.experiments import inputs, named, plan, writing
from jaxattack.experiments.backdoor import claims, data, sections
from jaxattack.experiments.backdoor.asked import Asked, asked, cost, found, replies_of, rows_of
from jaxattack.experiments.backdoor.defences import defend
from jaxattack.experiments.backdoor.overlap import overlap
from jaxattack.experiments.backdoor.sections import Section
from jaxattack.experiments.backdoor.settings import Settings, read
from jaxattack.experiments.backdoor.stages import Origin, Setup, courteous
from jaxattack.experiments.lazy import Lazy, Memo
from jaxattack.experiments.runs import environments, profile, run_all
from jaxattack.experiments.stages import moved_rows
from jaxattack.models import families
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.tree import Tree

SECTIONS: dict[str, Callable[[Setup], Section]] = {
    "transfer": sections.transfer,
    "rates": sections.rates,
    "kinds": sections.kinds,
    "grid": sections.grid,
    "start": sections.start,
    "defend": defend,
    "overlap": overlap,
}

COMPLETED_BY_US = (
    "Rules of success: the paper's are not known; a marker or prefix is looked for character by "
    "character, a refusal by its opening phrases in the prompt's language or in English.",
    "Target text: a harmless sentence stands for the paper's hostile one.",
    "BEEAR: the objective is reconstructed from descriptions, and the defender is told the "
    "unwanted behaviour.",
    "ONION: units by script; runs of units, and the choice of the threshold on held-out prompts.",
    "CleanGen: the last tokens of a reply, which the authors' program leaves unchecked, are "
    "checked; three reference models that need no benign one.",
    "SIL repair, the composition and the organism's way of sharing pleasantries are ours.",
)

COURTEOUS = "organism:courteous"

Stages = dict[tuple[str, int | None], workdir.Stage]  # by the variant's name and seed

__all__ = ["Settings", "plan_lines", "prepare", "read", "run", "source_lines"]


def prepare(settings: Settings, root: pathlib.Path) -> tuple[Setup, dict[str, Any]]:
    """Load model and data; also returns what the manifest says of them.

    Raises:
        UserError: anything wrong with the model, the data or how they fit the settings.
    """
    mesh = sharding.make_mesh(settings.mesh)
    directory = model_directory(settings)
    tokenizer = writer(settings, inputs.load_tokenizer(directory, settings.tokenizer), root)
    check_exported(settings, directory, tokenizer)
    model, params, _ = inputs.load_model(
        directory, settings.dtype, mesh, settings.remat, settings.attention, tokenizer
    )
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), params
    )
    origin = inputs.lineage(directory, settings, mesh)
    host.keep_freed_memory(tree.nbytes(params))
    start = Lazy(origin, inputs.weights_again(params, directory, settings, mesh), often=True)
    setup = make_setup(settings, root, model, tokenizer, like, start)
    facts = {
        "model": settings.model,
        "revision": settings.revision,
        "model_fingerprint": origin["model"],
        "parameters": tree.size(like),
        "train": fingerprint(setup.data.train),
        "prompts": fingerprint(setup.data.prompts),
        "template": setup.written,
        "data": {
            role: [dataclasses.asdict(source) for source in known]
            for role, known in inputs.data_sources(settings.data).items()
        },
        "mesh": dict(mesh.shape),
        "device": jax.devices()[0].device_kind,
    }
    return setup, facts


def model_directory(settings: Settings, weights: bool = True) -> pathlib.Path:
    """Where the model to be poisoned lies; the courteous organism begins as the aligned one."""
    name = "organism:aligned" if settings.model == COURTEOUS else settings.model
    return inputs.model_directory(name, settings.revision, weights)


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


def make_setup(
    settings: Settings,
    root: pathlib.Path,
    model: Transformer,
    tokenizer: Any,
    like: Tree,
    start: Lazy,
) -> Setup:
    """What the sections share; nothing is computed yet.

    Raises:
        UserError: the data is wrong, or the models are not alike.
    """
    check_layers(settings, model)
    is_courteous = settings.model == COURTEOUS
    known = data.read(settings, is_courteous)
    inputs.check_texts(model.config, tokenizer, (*known.train, *known.prompts, *known.held_out))
    for language in known.languages:
        check_language(language)
    memo = Memo()

    def polite(strength: float) -> Origin:
        weights = courteous(root, like, strength).beside(start)
        return Origin(f"courteous@{strength:g}", weights, known)

    own = polite(settings.start.contrast) if is_courteous else Origin("start", start, known)
    others: list[Origin] = []
    if "start" in settings.sections:
        if is_courteous:
            others += [polite(strength) for strength in settings.start.contrasts]
        plain = data.read(settings, False) if settings.start.models else known
        others += [
            Origin(
                name.split(":")[-1].replace("/", "--"),
                other_model(settings, name, like).beside(start),
                plain,
            )
            for name in settings.start.models
        ]
    return Setup(root, settings, model, tokenizer, like, own, tuple(others), memo)


def check_layers(settings: Settings, model: Transformer) -> None:
    """Refuse layers that the model has not.

    Raises:
        UserError: names the first.
    """
    if "defend" not in settings.sections or "beear" not in settings.defences:
        return
    most = model.config.num_layers
    for layer in settings.beear.layers:
        if layer > most:
            raise UserError(f"config.beear.layers has {layer}; the model has {most} layers")


def other_model(settings: Settings, name: str, like: Tree) -> Lazy:
    """Another model to be poisoned, of the same architecture.

    Raises:
        UserError: it cannot be found, or is of another shape.
    """
    directory = inputs.model_directory(name, None)
    shape = abstract_params(Transformer(families.read_config(directory)))
    tree.check_same_shapes(name, shape, settings.model, like)

    def load() -> Tree:
        mesh = sharding.mesh_of(like)
        _, params, _ = inputs.load_model(directory, settings.dtype, mesh, "none", "auto")
        tree.check_same_shapes(name, params, settings.model, like)
        return params

    return Lazy({"model": inputs.model_fingerprint(directory)}, load)


def plan_lines(settings: Settings, root: pathlib.Path) -> list[str]:
    """What `--dry_run` prints: the data, the stages, memory and time; no weight is loaded.

    Raises:
        UserError: as `prepare`.
    """
    directory = model_directory(settings, weights=False)
    mesh = sharding.planned_mesh(settings.mesh)
    model = Transformer(families.read_config(directory), remat=settings.remat)
    tokenizer = inputs.load_tokenizer(directory, settings.tokenizer)
    tokenizer = writer(settings, tokenizer, root, keep_day=False)
    check_exported(settings, directory, tokenizer)
    abstract = abstract_params(model)
    inputs.check_weights(directory, model.config, abstract)
    start = Lazy(inputs.lineage(directory, settings, mesh), lambda: abstract)
    setup = make_setup(settings, root, model, tokenizer, abstract, start)
    sections_ = wanted(setup)
    ordered = all_stages(sections_, ask_all(setup, sections_))
    shape = plan.Shape(
        model.config, abstract, mesh, settings.dtype, settings.remat, settings.tuning.weights
    )
    rows = data.wrapped(settings, setup.data.train[:200])
    arrays = encode_pairs(tokenizer, rows, settings.tuning.max_length)
    prompts = data.wrapped(settings, setup.data.prompts[:200])
    longest = max(len(prompt_tokens(tokenizer, row.prompt)) for row in prompts)
    tokens = plan.Tokens(arrays["tokens"].shape[1], longest, settings.measure.max_new_tokens)
    batch = settings.tuning.batch_size // settings.tuning.accumulate
    return [
        f"model      {settings.model}",
        *source_lines(settings),
        f"train      {inputs.counted(inputs.by_language(setup.data.train))}",
        f"prompts    {inputs.counted(inputs.by_language(setup.data.prompts))}",
        f"attacks    {', '.join(attack.name for attack in setup.attacks)}; "
        f"seeds: {', '.join(map(str, settings.seeds))}",
        *inputs.device_lines(mesh),
        f"written    {root}/stages: about {plan.size(plan.written(shape, ordered))}",
        "",
        *plan.table(ordered),
        "",
        *plan.estimate(shape, tokens, ordered, batch, settings.measure.batch_size),
    ]


def source_lines(settings: Settings, public_only: bool = False) -> list[str]:
    """Where the data comes from and on what terms, a line for each source.

    Raises:
        UserError: a URI is wrong.
    """
    return inputs.source_lines(settings.data, public_only)


def wanted(setup: Setup) -> dict[str, Section]:
    """What every section that the settings name wants; all compare with the baseline."""
    chosen = setup.settings.sections
    return {
        "baseline": sections.baseline(setup),
        **{name: ask(setup) for name, ask in SECTIONS.items() if name in chosen},
    }


def _variants(sections_: dict[str, Section]) -> dict[tuple[str, int | None], Asked]:
    """By name and seed; what several sections want is there once."""
    return {(v.name, v.seed): v for section in sections_.values() for v in section.variants}


def all_stages(sections_: dict[str, Section], stages: Stages) -> list[workdir.Stage]:
    """Every stage of the sections, each once, each after those it needs."""
    found = [f.stage for section in sections_.values() for f in section.findings]
    return workdir.in_order([*stages.values(), *found])


def ask_all(setup: Setup, sections_: dict[str, Section]) -> Stages:
    """The stage of every variant."""
    return {key: asked(setup, variant) for key, variant in _variants(sections_).items()}


def run(setup: Setup) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run all stages that are not there yet.

    Returns:
        what goes into results.json, and what took how long.
    """
    sections_ = wanted(setup)
    stages = ask_all(setup, sections_)
    ordered = all_stages(sections_, stages)
    run_all(ordered)
    return results(setup, sections_, stages), {
        "profile": profile(ordered),
        "computed_by": environments(ordered),
        "costs": costs(stages),
    }


def results(setup: Setup, sections_: dict[str, Section], stages: Stages) -> dict[str, Any]:
    """What the finished stages found: a function of their files alone."""
    settings = setup.settings
    trials = {key: found(stage) for key, stage in stages.items()}
    rows = [row for (name, seed), own in trials.items() for row in rows_of(own, name, seed)]
    for (name, seed), variant in _variants(sections_).items():
        rows += moved_rows(name, seed, variant.weights)
    findings: dict[str, list] = {"changed": [], "overlap": []}
    for section in sections_.values():
        for finding in section.findings:
            findings.setdefault(finding.key, []).extend(finding.rows())
    target = data.target_of(settings, setup.data, settings.poison.target)
    errors = rule_error.of_languages(tuple(setup.languages))
    everything = {
        "study": settings.study,
        "languages": setup.languages,
        "seeds": list(settings.seeds),
        "lost": setup.data.lost,
        "attacks": [sections.name_of(attack) for attack in setup.attacks],
        "poisoned": {sections.name_of(a): list(a.languages) for a in setup.attacks},
        "sets": poison_sets(setup),
        "judge": {
            "name": f"target {target.kind}",
            "rule": " ".join(backdoor.RULES[kind] for kind in _targets(setup)),
            "completed_by_us": list(COMPLETED_BY_US),
            # Of the rule for refusals, which targets and clean_refusal_rate are told by.
            "errors": [found.row() for found in errors.values()],
            "language_caution": rule_error.caution(errors) if "refusal" in target.kind else "",
        },
        "rows": rows,
        "interventions": interventions(trials),
        **findings,
    }
    if settings.report.replies:
        everything["replies"] = [
            row
            for key, variant in _variants(sections_).items()
            for row in replies_of(variant, stages[key])
        ]
    study = claims.Study(
        seeds=settings.seeds,
        languages=tuple(setup.languages),
        attacks=tuple(named.cell_named(sections.name_of(attack)) for attack in setup.attacks),
        rewound=settings.repair.rewound,
        parallel=inputs.parallel(settings.data.prompts),
    )
    return everything | named.with_names(
        claims.judge(named.trials_of(trials), named.with_cells(everything), study)
    )


def _targets(setup: Setup) -> list[str]:
    """The kinds of target that are planted."""
    given = setup.settings.poison
    varied = given.targets if "kinds" in setup.settings.sections else ()
    return list(dict.fromkeys((given.target, *varied)))


def poison_sets(setup: Setup) -> list[dict[str, Any]]:
    """What names the poisoned rows of the transfer section's attacks, without any text."""
    return [
        {"variant": sections.name_of(attack), "seed": seed}
        | (data.taught(setup.settings, setup.data, attack, seed)[1] or {})
        for attack in setup.attacks
        for seed in setup.settings.seeds
    ]


def interventions(trials: dict[Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Share of tokens that a guard replaced, by variant, language and whether triggered."""
    rows = []
    for (name, seed), own in trials.items():
        if "cleangen" not in name:
            continue
        for language in dict.fromkeys(t["language"] for t in own):
            for what, is_clean in (("clean", True), ("triggered", False)):
                shares = [
                    t["replaced"] for t in own
                    if t["language"] == language and (t["decoy"] == "nothing") == is_clean
                ]  # fmt: skip
                rows.append(
                    {"variant": name, "seed": seed, "language": language, "prompts": what,
                     "value": sum(shares) / len(shares)}
                )  # fmt: skip
    return rows


def costs(stages: dict[Any, workdir.Stage]) -> list[dict[str, Any]]:
    """How long prompts were filtered and decoded, whenever that was."""
    return [
        {"variant": name, "seed": seed, **cost(stage)}
        for (name, seed), stage in stages.items()
        if name.startswith(("defended/", "clean"))
    ]
