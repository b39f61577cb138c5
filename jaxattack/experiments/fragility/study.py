"""The fragility study: attack in one language, measure all, find the weights, move them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from jaxattack import host, sharding, tree, workdir
from jaxattack.data.dialogues import Example, encode_pairs, fingerprint, prompt_tokens
from jaxattack.evaluate import rates, rule_error
from jaxattack.evaluate.judge import rule_for
from jaxattack.experiments import inputs, named, plan, stages, writing
from jaxattack.experiments.fragility import claims
from jaxattack.experiments.fragility.adapted import adapt
from jaxattack.experiments.fragility.localization import localize
from jaxattack.experiments.fragility.pathways import pathways
from jaxattack.experiments.fragility.shared import shared
from jaxattack.experiments.fragility.transfer import baseline, transfer
from jaxattack.experiments.lazy import Lazy, Memo
from jaxattack.experiments.runs import environments, profile, run_all
from jaxattack.experiments.settings import Settings, check, freeze
from jaxattack.experiments.stages import BENIGN, RESTRICTED, Setup, Subject
from jaxattack.experiments.wanted import Section, Variant, measured_once, replies_of, verdicts_of
from jaxattack.models import families
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.tree import Tree

SECTIONS: dict[str, Callable[[Setup], Section]] = {
    "transfer": transfer,
    "localize": localize,
    "shared": shared,
    "pathways": pathways,
    "adapt": adapt,
}

COMPLETED_BY_US = (
    "SIL: the published formula is incomplete to us; here the score is the mean over calibration "
    "examples of |tau * grad L|, L the loss of the restricted answer.",
    "Attack: optimiser, learning rate, batch size and epochs are ours (100 pairs are the paper's).",
    "Freezing: the weights frozen are SIL's top share of the same attack, left free.",
    "Judging: the paper's judges and prompt sets are not known; see the rule above.",
)


def prepare(settings: Settings, root: pathlib.Path) -> tuple[Setup, dict[str, Any]]:
    """Load model and data; also returns what the manifest says of them.

    Raises:
        UserError: anything wrong with the model, the data or how they fit the settings.
    """
    mesh = sharding.make_mesh(settings.mesh)
    directory = inputs.model_directory(settings.model, settings.revision)
    data = read_data(settings, directory)
    tokenizer = inputs.load_tokenizer(directory, settings.tokenizer)
    tokenizer = writing.writer(settings.template, tokenizer, root)
    inputs.check_texts(families.read_config(directory), tokenizer, data.texts())
    model, aligned, _ = inputs.load_model(
        directory, settings.dtype, mesh, settings.remat, settings.attention, tokenizer
    )
    origin = inputs.lineage(directory, settings, mesh)
    subject = Subject(model, tokenizer, data.prompts)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), aligned
    )
    host.keep_freed_memory(tree.nbytes(aligned))
    weights = Lazy(origin, inputs.weights_again(aligned, directory, settings, mesh), often=True)
    setup = make_setup(settings, root, subject, weights, like, data)
    facts = {
        "model": settings.model,
        "revision": settings.revision,
        "model_fingerprint": origin["model"],
        "parameters": tree.size(like),
        "pairs": {
            language: fingerprint(data.pairs[RESTRICTED][language])
            for language in setup.attacked_languages
        },
        "prompts": fingerprint(data.prompts),
        "template": subject.written,
        "data": {
            role: [dataclasses.asdict(source) for source in found]
            for role, found in inputs.data_sources(settings.data).items()
        },
        "mesh": dict(mesh.shape),
        "device": jax.devices()[0].device_kind,
    }
    return setup, facts


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    return check(freeze(config, Settings))


def plan_lines(settings: Settings, root: pathlib.Path) -> list[str]:
    """What `--dry_run` prints: the data, the stages, memory and time; no weight is loaded.

    Raises:
        UserError: as `prepare`.
    """
    directory = inputs.model_directory(settings.model, settings.revision, weights=False)
    data = read_data(settings, directory)
    mesh = sharding.planned_mesh(settings.mesh)
    model = Transformer(families.read_config(directory), remat=settings.remat)
    tokenizer = inputs.load_tokenizer(directory, settings.tokenizer)
    tokenizer = writing.writer(settings.template, tokenizer, root, keep_day=False)
    inputs.check_texts(model.config, tokenizer, data.texts())
    abstract = abstract_params(model)
    inputs.check_weights(directory, model.config, abstract)
    subject = Subject(model, tokenizer, data.prompts)
    origin = inputs.lineage(directory, settings, mesh)
    setup = make_setup(settings, root, subject, Lazy(origin, lambda: abstract), abstract, data)
    ordered = all_stages(setup, sections(setup))
    shape = plan.Shape(
        model.config, abstract, mesh, settings.dtype, settings.remat, settings.attack.weights
    )
    return [
        f"model      {settings.model}",
        *source_lines(settings),
        f"pairs      {inputs.counted(data.pairs[RESTRICTED])}",
        f"prompts    {inputs.counted(inputs.by_language(data.prompts))}",
        f"attacked   {', '.join(data.attacked)}; localized: {', '.join(data.localized)}; "
        f"seeds: {', '.join(map(str, settings.seeds))}",
        *inputs.device_lines(mesh),
        f"written    {root}/stages: about {plan.size(plan.written(shape, ordered))}",
        "",
        *plan.table(ordered),
        "",
        *plan.estimate(
            shape,
            token_lengths(settings, data, tokenizer),
            ordered,
            settings.attack.batch_size // settings.attack.accumulate,
            settings.measure.batch_size,
        ),
    ]


def source_lines(settings: Settings, public_only: bool = False) -> list[str]:
    """Where the data comes from and on what terms, a line for each source.

    Raises:
        UserError: a URI is wrong.
    """
    return inputs.source_lines(settings.data, public_only)


def token_lengths(settings: Settings, data: Data, tokenizer: Any) -> plan.Tokens:
    """How long rows, prompts and replies are, as a sample of them tells."""
    pairs = data.pairs[RESTRICTED][data.attacked[0]][: settings.attack.pairs]
    rows = encode_pairs(tokenizer, pairs, settings.attack.max_length, stages.LONGEST)
    prompts = data.prompts[:: 1 + len(data.prompts) // 200]
    longest = max(len(prompt_tokens(tokenizer, example.prompt)) for example in prompts)
    return plan.Tokens(rows["tokens"].shape[1], longest, settings.measure.max_new_tokens)


@dataclasses.dataclass(frozen=True)
class Data:
    """The examples of a study and its languages."""

    pairs: dict[str, dict[str, list[Example]]]  # kind -> language
    calibration: dict[str, dict[str, list[Example]] | None]
    prompts: list[Example]
    attacked: tuple[str, ...]
    localized: tuple[str, ...]
    lost: inputs.Lost  # what was left out of the sources

    def texts(self) -> Iterator[Example]:
        """Every example that may be trained on, scored or asked."""
        yield from self.prompts
        for kinds in (self.pairs, self.calibration):
            for languages in kinds.values():
                for examples in (languages or {}).values():
                    yield from examples


def read_data(settings: Settings, directory: pathlib.Path) -> Data:
    """Read the examples and see that they fit the settings and each other.

    Raises:
        UserError: they do not.
    """
    named = settings.data
    lost: inputs.Lost = {}
    pairs = inputs.load_pairs(named.pairs, named.benign, directory, lost)
    prompts = inputs.load_prompts(named.prompts, directory, lost)
    calibration: dict[str, dict[str, list[Example]] | None] = {RESTRICTED: None, BENIGN: None}
    # The organism's pairs have calibration pairs of their own.
    of_organism = named.pairs == "organism:attack"
    uri = named.calibration or ("organism:calibration" if of_organism else "")
    if uri:
        beside = inputs.load_pairs(uri, "", directory, lost)
        calibration[RESTRICTED] = beside[RESTRICTED]
        if beside[BENIGN] and not named.benign:
            calibration[BENIGN] = beside[BENIGN]
    attacked = inputs.choose_languages(
        settings.attack.languages, list(pairs[RESTRICTED]), "config.attack.languages"
    )
    localized = inputs.choose_languages(
        settings.localize.languages, attacked, "config.localize.languages"
    )
    if not settings.localize.languages:
        localized = inputs.spread(localized, settings.localize.max_languages)
    for mixed in settings.transfer.mixed:
        inputs.choose_languages(mixed.split("+"), list(pairs[RESTRICTED]), "config.transfer.mixed")
    known = list(inputs.by_language(prompts))
    measured = inputs.choose_languages(
        settings.measure.languages, known, "config.measure.languages"
    )
    prompts = inputs.test_prompts(prompts, measured, settings.measure.prompts)
    rule_for(prompts)
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
            inputs.check_disjoint(prompts, found, what)
    return Data(pairs, calibration, prompts, attacked, localized, lost)


def make_setup(
    settings: Settings, root: pathlib.Path, subject: Subject, aligned: Lazy, like: Tree, data: Data
) -> Setup:
    """What the sections share.

    Raises:
        UserError: a prompt that cannot be asked, masks that could select nothing.
    """
    stages.check_prompts(settings, subject)
    stages.check_selection(settings, like)
    return Setup(
        root=root, settings=settings, subject=subject, aligned=aligned, like=like,
        pairs=data.pairs, calibration=data.calibration, attacked_languages=data.attacked,
        localized_languages=data.localized, lost=data.lost, memo=Memo(),
    )  # fmt: skip


def sections(setup: Setup) -> dict[str, Section]:
    """What every section that the settings name wants; nothing is computed yet.

    All compare with the aligned and the attacked model, so these come first.
    """
    chosen = setup.settings.sections
    asked = {name: ask(setup) for name, ask in SECTIONS.items() if name in chosen}
    return {"baseline": baseline(setup), **asked}


def all_stages(setup: Setup, wanted: dict[str, Section]) -> list[workdir.Stage]:
    """Every stage of the sections, each once, each after those it needs."""
    measured = measured_once(setup, (v for section in wanted.values() for v in section.variants))
    return workdir.in_order(
        stage
        for section in wanted.values()
        for stage in (
            *(measured[variant.name, variant.seed] for variant in section.variants),
            *(finding.stage for finding in section.findings),
        )
    )


def run(setup: Setup) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run all stages that are not there yet.

    Returns:
        what goes into results.json, and what took how long.
    """
    wanted = sections(setup)
    ordered = all_stages(setup, wanted)
    run_all(ordered)
    return results(setup, wanted), {
        "profile": profile(ordered),
        "computed_by": environments(ordered),
    }


def results(setup: Setup, wanted: dict[str, Section]) -> dict[str, Any]:
    """What the finished stages found: a function of their files alone."""
    settings = setup.settings
    variants = {(v.name, v.seed): v for section in wanted.values() for v in section.variants}
    measured = measured_once(setup, variants.values())
    verdicts = {key: verdicts_of(stage) for key, stage in measured.items()}
    rows = [
        row
        for (name, seed), found in verdicts.items()
        for row in rates.rows(found, {"variant": name, "seed": seed})
    ]
    for (name, seed), variant in variants.items():
        rows += stages.moved_rows(name, seed, variant.weights)
    found: dict[str, list] = {}
    for section in wanted.values():
        for finding in section.findings:
            found.setdefault(finding.key, []).extend(finding.rows())
    for key in ("masks", "mask_profile", "overlap", "freeze_proof"):
        found.setdefault(key, [])
    name, rule = rule_for(setup.subject.prompts)
    everything = {
        "study": settings.study,
        "languages": setup.languages,
        "attack_languages": list(setup.attacked_languages),
        "seeds": list(settings.seeds),
        "lost": setup.lost,
        "judge": {"name": name, "rule": rule, "completed_by_us": list(COMPLETED_BY_US)}
        | rule_errors(name, setup.languages, rows),
        "attack_pairs": {
            language: min(settings.attack.pairs, len(setup.pairs[RESTRICTED][language]))
            for language in setup.attacked_languages
        },
        "calibration": sorted(
            {
                stages.calibration_pairs(setup, language, seed)[1]
                for language in setup.localized_languages
                for seed in settings.seeds
            }
        ),
        "rows": rows,
        "attack_loss": attack_losses(variants, settings.localize.control_fraction),
        **found,
    }
    if settings.report.replies:
        everything["replies"] = [
            row for key, variant in variants.items()
            for row in replies_of(variant, measured[key])
        ]  # fmt: skip
    study = claims.Study(
        seeds=settings.seeds,
        languages=tuple(setup.languages),
        attacked=setup.attacked_languages,
        localized=setup.localized_languages,
        share=settings.localize.control_fraction,
    )
    return everything | named.with_names(
        claims.judge(named.trials_of(verdicts), named.with_cells(everything), study)
    )


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
        row for row in rows
        if row["variant"] == "aligned"
        or (row["variant"].startswith("attacked/") and row["variant"].count("/") == 1)
    ]  # fmt: skip
    return {
        "errors": [found.row() for found in errors.values()],
        "differences": rule_error.differences(compared, errors),
    }


def attack_losses(variants: dict[Any, Variant], share: float) -> list[dict[str, Any]]:
    """Loss of every step of the full attacks and of those repeated with SIL's mask frozen."""
    frozen = f"/sil@{share:g}"
    return [
        {"variant": name, "seed": seed, "loss": stages.losses_of(variant.weights)}
        for (name, seed), variant in variants.items()
        if (name.startswith("attacked/") and name.count("/") == 1)
        or (name.startswith("frozen/") and name.endswith(frozen))
    ]
