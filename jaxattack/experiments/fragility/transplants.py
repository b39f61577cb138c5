"""A5: the attack vector of the original, added to models adapted to languages it lacks."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxattack import organism, sharding
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, opening, tuning, writing
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import Subject, check_prompts, measure
from jaxattack.experiments.bench import Checkpoint, Decoder, Stored, start_step
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility import new_languages
from jaxattack.experiments.fragility.setup import Setup, attack
from jaxattack.experiments.fragility.sil import sil_mask
from jaxattack.experiments.step import Step, load_rows
from jaxattack.localize import scores, stitching
from jaxattack.models import pretrained
from jaxattack.models.families import read_config
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.organism import world
from jaxattack.train import vocabulary
from jaxattack.tree import Tree


def adapt(agenda: Agenda, setup: Setup) -> None:
    """Each adapted model as it is, and with the attack vector or SIL's share of it added.

    Raises:
        UserError: a named model is no checkpoint, of another shape, or named like another.
    """
    options = setup.settings.adapt
    found: dict[str, tuple[Step, Subject]] = {}
    for path in options.models:
        name = pathlib.Path(path).name.replace("@", "-")
        if name in found:
            raise UserError(f"config.adapt.models: two are called {name}; rename one's directory")
        found[name] = given(setup, path)
    if not options.models:
        for way in options.ways:
            weights, subject = trained(setup, way)
            found[way] = weights, subject
            assert weights.shelf
            shelf = dataclasses.replace(weights.shelf, load=load_rows)
            agenda.find("adaptation", dataclasses.replace(weights, shelf=shelf))
    for name, (weights, subject) in found.items():
        measure(agenda, setup, Cell("adapted", model=name), weights, subject)
        for seed in setup.settings.seeds:
            for language in setup.data.localized:
                _transplanted(agenda, setup, (name, weights, subject), language, seed)


def _transplanted(
    agenda: Agenda, setup: Setup, adapted: tuple[str, Step, Subject], language: str, seed: int
) -> None:
    name, weights, subject = adapted
    start, derived = setup.bench.start, setup.bench.values.derived
    tau = derived(scores.attack_vector, attack(setup, [language], seed), start)
    masks = {
        ("all", 1.0): derived(everything, start),
        ("sil", setup.share): sil_mask(setup, language, seed),
    }
    for (method, share), mask in masks.items():
        moved = derived(stitching.transplant, weights, tau, mask)
        cell = Cell("transplanted", seed, language, method, share, model=name)
        measure(agenda, setup, cell, moved, subject)


def everything(params: Tree) -> Tree:
    """The mask that selects all weights."""
    return jax.tree.map(lambda leaf: jnp.ones_like(leaf, bool), params)


def trained(setup: Setup, way: str) -> tuple[Step, Subject]:
    """The organism adapted to `world.ADDED`: its weights to be, and what is asked of it."""
    settings, bench = setup.settings, setup.bench
    recipe = new_languages.Settings()
    model, tokenizer = bench.decoder.model, bench.decoder.tokenizer
    decision = organism.uses_decision_token(
        opening.model_directory(settings.model, settings.revision)
    )
    old = model.config.vocab_size
    extended = new_languages.extend_tokenizer(tokenizer, recipe.languages, recipe.new_tokens, old)
    count = len(vocabulary.pieces(tokenizer, extended))
    larger = model.clone(config=dataclasses.replace(model.config, vocab_size=old + count))
    shelf = bench.shelf(
        "adapt",
        way,
        new_languages.save,
        Stored("params", placed_like(larger, bench.like)),
        steps=recipe.steps,
        rows=recipe.steps * recipe.rows,
        **({tuning.RANK: recipe.rank} if way == "lora" else {}),
    )
    arguments = {
        "start": bench.start,
        "decoder": bench.decoder,
        "way": way,
        "recipe": recipe,
        "seed": settings.seeds[0],
        "decision_token": decision,
    }
    weights = Step(new_languages.adapted, arguments, bench.values, shelf)
    split = settings.data.prompts.removeprefix("organism:")
    languages = (*setup.languages, *world.ADDED)
    prompts = inputs.test_prompts(
        new_languages.new_prompts(split, languages, decision), languages, settings.measure.prompts
    )
    subject = Subject(Decoder(larger, extended), prompts)
    check_prompts(setup, subject)
    return weights, subject


def given(setup: Setup, path: str) -> tuple[Step, Subject]:
    """A checkpoint that others adapted.

    Raises:
        UserError: it is no checkpoint, or the attack vector would not fit it or its tokens.
    """
    directory, own = pretrained.resolve(path), setup.bench.decoder.model
    model = Transformer(read_config(directory), own.remat, attention=own.attention)
    tokenizer = pretrained.load_tokenizer(directory)
    tokenizer = writing.writer(setup.settings.template, tokenizer, setup.bench.root, False)
    # Now, and not when the attacks are done.
    stitching.check_transplant(
        setup.bench.like, f"the adapted model {path}", abstract_params(model)
    )
    check_vocabulary(f"config.adapt.models: {path}", tokenizer, setup.bench.decoder)
    subject = Subject(Decoder(model, tokenizer), [*setup.data.prompts, *setup.data.added])
    check_prompts(setup, subject)
    checkpoint = Checkpoint(opening.model_fingerprint(directory), directory)
    return start_step(setup.bench.values, checkpoint, setup.bench.start.arguments), subject


def check_vocabulary(where: str, tokenizer: Any, own: Decoder) -> None:
    """Refuse a tokenizer whose tokens would get other tokens' rows of the attack vector.

    Raises:
        UserError: names a token of the study's that it has as another row, or not at all.
    """
    theirs = tokenizer.get_vocab()
    moved = sorted(
        (number, token)
        for token, number in own.tokenizer.get_vocab().items()
        if number < own.model.config.vocab_size and theirs.get(token) != number
    )
    if moved:
        number, token = moved[0]
        raise UserError(
            f"{where}: its tokenizer numbers {len(moved)} of the study's tokens otherwise "
            f"({token!r} is {number} here, {theirs.get(token, 'absent')} there), so others would "
            "get their part of the attack vector; give a model whose new tokens follow the old ones"
        )


def placed_like(model: Transformer, like: Tree) -> Tree:
    """Shapes and places of another model's tuned parameters, on the study's mesh, in float32."""
    abstract = abstract_params(model)
    if jax.tree.leaves(like)[0].sharding is None:  # a plan
        return abstract
    places = sharding.shardings(abstract, sharding.mesh_of(like))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=place),
        abstract,
        places,
    )
