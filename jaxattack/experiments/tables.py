"""Rows of tables: what is found of masks and weights, as functions of trees alone."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp

from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.experiments.bench import Decoder
from jaxattack.localize import masks, representations, stitching
from jaxattack.localize.overlap import chance_jaccard, jaccard, null_jaccard
from jaxattack.tree import Tree

Rows = list[dict[str, Any]]


def size(chosen: Tree, columns: dict[str, Any]) -> Rows:
    """How large a mask is, of all weights and of the blocks, and how much of it was to be had.

    `mask_scored` is below 1 where fewer weights had a score above 0 than were asked for.
    """
    return [
        {
            **columns,
            "selected": masks.count(chosen),
            "density": masks.density(chosen),
            "block_density": masks.block_density(chosen),
            "mask_scored": masks.filled(chosen, columns["share"]),
        }
    ]


def profile(chosen: Tree, columns: dict[str, Any]) -> Rows:
    """Selected weights of every weight tensor, as rows."""
    sizes = masks.sizes(chosen)
    return [
        {
            **columns,
            "layer": layer,
            "module": module,
            "selected": selected,
            "total": sizes[module, layer],
        }
        for (module, layer), selected in masks.profile(chosen).items()
    ]


def proof(start: Tree, again: Tree, mask: Tree, columns: dict[str, Any]) -> Rows:
    """How many weights were frozen, and how many of them changed a bit."""
    weights, moved = stitching.moved(start, again, mask)
    return [{**columns, "frozen": weights, "moved": moved}]


def capacity(start: Tree, again: Tree, frozen: Tree, columns: dict[str, Any]) -> Rows:
    """One round: what was frozen, whether it stayed, and how far the rest went."""
    weights, moved = stitching.moved(start, again, frozen)
    free = masks.complement(frozen)
    _, used = stitching.moved(start, again, free)
    return [
        {
            **columns,
            "frozen_share": masks.density(frozen),
            "frozen": weights,
            "moved": moved,
            "trainable_left": masks.count(free),
            "used": used,
        }
    ]


def similarity(aligned: Tree, decoder: Decoder, prompts: dict[str, list[Example]]) -> Rows:
    """CKA and cosine of mean states, layer by layer, of every two languages."""
    states = {
        language: representations.mean_states(
            decoder.model, aligned, [prompt_tokens(decoder.tokenizer, row.prompt) for row in rows]
        )
        for language, rows in prompts.items()
    }
    measures = (("cka", representations.cka), ("cosine", representations.cosine))
    return [
        {
            "a": a,
            "b": b,
            "measure": name,
            "layer": layer + 1,
            "value": float(measure(states[a][layer], states[b][layer])),
        }
        for a, b in itertools.combinations(prompts, 2)
        for name, measure in measures
        for layer in range(len(states[a]))
    ]


def overlap(one: Tree, two: Tree, from_one: Tree, from_two: Tree, columns: dict[str, Any]) -> Rows:
    """Jaccard index of two masks, beside random masks and random masks of their densities.

    The latter are drawn from what the two were chosen from: two attacks that move the same few
    weights overlap more by chance.
    """
    low, high = null_jaccard(one, two, movable=(from_one, from_two))
    return [
        {
            **columns,
            "jaccard": jaccard(one, two),
            "chance": chance_jaccard(one, two),
            "null_low": low,
            "null_high": high,
        }
    ]


def by_place(one: Tree, two: Tree, columns: dict[str, Any]) -> Rows:
    """The same within every weight tensor."""
    places = [masks.profile(m) for m in (one, two, masks.intersection(one, two))]
    sizes = masks.sizes(one)
    rows = []
    for place in places[0]:
        a, b, both = (counts[place] for counts in places)
        by_chance = a * b / sizes[place]
        rows.append(
            {
                "a": columns["a"],
                "b": columns["b"],
                "seed": columns["seed"],
                "module": place[0],
                "layer": place[1],
                "jaccard": both / (a + b - both) if a + b else 1.0,
                "chance": by_chance / (a + b - by_chance) if a + b else 1.0,
            }
        )
    return rows


def changed(before: Tree, after: Tree, columns: dict[str, Any]) -> Rows:
    """How many weights changed, of all."""
    everything = jax.tree.map(lambda leaf: jnp.ones_like(leaf, bool), before)
    total, moved = stitching.moved(before, after, everything)
    return [{**columns, "weights": total, "changed": moved}]
