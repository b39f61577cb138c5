"""A5: the attack vector of the original, added to models adapted to languages it lacks."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import jax.numpy as jnp

from jaxattack import checkpoint, organism, sharding, workdir
from jaxattack.errors import UserError
from jaxattack.experiments import adaptation, inputs, stages, writing
from jaxattack.experiments.fragility.localization import sil_mask
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.stages import Setup, Subject
from jaxattack.experiments.wanted import Finding, Section, Variant
from jaxattack.localize import scores, stitching
from jaxattack.models import pretrained
from jaxattack.models.families import read_config
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.organism import world
from jaxattack.train import vocabulary
from jaxattack.tree import Tree
from jaxattack.workdir import Stage


def adapt(setup: Setup) -> Section:
    """Each adapted model as it is, and with the attack vector or SIL's share of it added.

    Raises:
        UserError: a named model is no checkpoint, of another shape, or named like another.
    """
    section = Section()
    options = setup.settings.adapt
    found: dict[str, tuple[Lazy, Subject]] = {}
    for path in options.models:
        name = pathlib.Path(path).name.replace("@", "-")
        if name in found:
            raise UserError(f"config.adapt.models: two are called {name}; rename one's directory")
        found[name] = given(setup, path)
    if not options.models:
        for how in options.ways:
            params, subject, stage = trained(setup, how)
            found[how] = params, subject
            section.findings.append(Finding("adaptation", stage))
    share = setup.settings.localize.control_fraction
    for name, (params, subject) in found.items():
        section.variants.append(Variant(f"adapted/{name}/tune@1", None, params, subject))
        for seed in setup.settings.seeds:
            for language in setup.localized_languages:
                attacked = stages.attack(setup, [language], seed)
                derive = setup.memo.derive
                tau = derive("tau", scores.attack_vector, attacked, setup.aligned)
                masks = {
                    "all@1": derive("all", everything, setup.aligned),
                    f"sil@{share:g}": sil_mask(setup, language, seed),
                }
                for part, mask in masks.items():
                    moved = derive("transplant", stitching.transplant, params, tau, mask)
                    variant = f"transplanted/{language}/{name}-{part}"
                    section.variants.append(Variant(variant, seed, moved, subject))
    return section


def everything(params: Tree) -> Tree:
    """The mask that selects all weights."""
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)


def trained(setup: Setup, how: str) -> tuple[Lazy, Subject, Stage]:
    """The organism adapted to `world.ADDED`: its weights to be, and what is asked of it."""
    recipe = adaptation.Settings()
    seed = setup.settings.seeds[0]
    model, tokenizer = setup.model, setup.subject.tokenizer
    decision = organism.uses_decision_token(
        inputs.model_directory(setup.settings.model, setup.settings.revision)
    )
    old = model.config.vocab_size
    extended = adaptation.extend_tokenizer(tokenizer, recipe.languages, recipe.new_tokens, old)
    count = len(vocabulary.pieces(tokenizer, extended))
    config = dataclasses.replace(model.config, vocab_size=old + count)
    larger = model.clone(config=config)

    def write(folder: pathlib.Path) -> None:
        _, params, _, info = adaptation.adapt(
            setup.memo.load(setup.aligned), model, tokenizer, how, recipe, seed, decision
        )
        checkpoint.save(folder / "params", params)
        row = {"how": how, "languages": list(recipe.languages), "new_tokens": info["new_tokens"],
               "steps": recipe.steps, "loss_first": info["loss"][0],
               "loss_last": info["loss"][-1]}  # fmt: skip
        workdir.write_json(folder / "rows.json", [row])

    stage_inputs = {
        "from": setup.aligned.lineage, "recipe": dataclasses.asdict(recipe), "how": how,
        "seed": seed, "dtype": setup.settings.dtype,
    }  # fmt: skip
    work = {"steps": recipe.steps, "rows": recipe.steps * recipe.rows}
    stage = Stage(setup.root, "adapt", how, stage_inputs, write, work=work)
    like = placed_like(larger, setup)
    params = Lazy({"stage": stage.id}, lambda: stages.read(stage.run(), "params", like), (stage,))
    split = setup.settings.data.prompts.removeprefix("organism:")
    languages = (*setup.languages, *world.ADDED)
    prompts = inputs.test_prompts(
        adaptation.new_prompts(split, languages, decision),
        languages,
        setup.settings.measure.prompts,
    )
    subject = Subject(larger, extended, prompts)
    stages.check_prompts(setup.settings, subject)
    return params, subject, stage


def given(setup: Setup, path: str) -> tuple[Lazy, Subject]:
    """A checkpoint that others adapted.

    Raises:
        UserError: it is no checkpoint, or the attack vector would not fit it.
    """
    directory = pretrained.resolve(path)
    model = Transformer(read_config(directory), setup.model.remat, attention=setup.model.attention)
    tokenizer = pretrained.load_tokenizer(directory)
    tokenizer = writing.writer(setup.settings.template, tokenizer, setup.root, keep_day=False)
    # Now, and not when the attacks are done.
    stitching.check_transplant(setup.like, f"the adapted model {path}", abstract_params(model))

    def load() -> Tree:
        mesh = sharding.mesh_of(setup.like)
        return pretrained.load_pretrained(directory, setup.settings.dtype, mesh)[1]

    prompts = list(setup.subject.prompts)
    if setup.settings.adapt.prompts:
        prompts += inputs.load_prompts(setup.settings.adapt.prompts, directory)
    subject = Subject(model, tokenizer, prompts)
    stages.check_prompts(setup.settings, subject)
    weights = Lazy({"model": inputs.model_fingerprint(directory)}, load)
    return weights.beside(setup.aligned), subject


def placed_like(model: Transformer, setup: Setup) -> Tree:
    """Shapes and places of another model's tuned parameters, on the study's mesh, in float32."""
    abstract = abstract_params(model)
    if jax.tree.leaves(setup.like)[0].sharding is None:  # a plan
        return abstract
    places = sharding.shardings(abstract, sharding.mesh_of(setup.like))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=place),
        abstract,
        places,
    )
