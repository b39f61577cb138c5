"""Rows of how well scores find weights of which it is known that they were to be found."""

from __future__ import annotations

from typing import Any

from jaxattack.localize import masks, planting, ranking
from jaxattack.tree import Tree

# Sizes of the selection, in multiples of what is planted; the first has a name of its own.
SIZES = {"": 1.0, "_half": 0.5, "_twice": 2.0}

Rows = list[dict[str, Any]]


def found(scores: Tree, wanted: Tree, columns: dict[str, Any]) -> Rows:
    """Precision and recall of the highest scores, and of the whole ranking, in the layers' weights.

    Precision and recall are equal at the size of what is wanted, where so many have a score.

    Args:
        scores: a tree like the parameters, none negative.
        wanted: a mask of the layers' weights.
        columns: of the row.
    """
    scores, wanted = planting.of_blocks(scores), planting.of_blocks(wanted)
    ranked = ranking.ranked(scores, wanted)
    chosen = {name: _top(scores, wanted, times) for name, times in SIZES.items()}
    ranks = {"average_precision": ranked.average_precision, "auroc": ranked.auroc}
    return [{**columns, **_about(wanted), **_hits(chosen, wanted), **ranks}]


def matched(scores: Tree, wanted: Tree, seed: int, draw: str, columns: dict[str, Any]) -> Rows:
    """The same of weights at random, in every tensor as many as have the highest scores.

    What is found by knowing the tensors alone. There is no ranking.
    """
    scores, wanted = planting.of_blocks(scores), planting.of_blocks(wanted)
    chosen = {
        name: masks.matched_random_mask(_top(scores, wanted, times), seed, f"{draw}{name}")
        for name, times in SIZES.items()
    }
    ranks = {"average_precision": None, "auroc": None}
    return [{**columns, **_about(wanted), **_hits(chosen, wanted), **ranks}]


def _top(scores: Tree, wanted: Tree, times: float) -> Tree:
    return masks.top_fraction(scores, min(1.0, times * masks.density(wanted)))


def _about(wanted: Tree) -> dict[str, Any]:
    """How many weights are wanted, and as what share: what precision is by chance."""
    return {"planted": masks.count(wanted), "chance": masks.density(wanted)}


def _hits(chosen: dict[str, Tree], wanted: Tree) -> dict[str, float]:
    columns: dict[str, float] = {}
    of = masks.count(wanted)
    for name, mask in chosen.items():
        hits, selected = masks.count(masks.intersection(mask, wanted)), masks.count(mask)
        columns[f"precision{name}"] = hits / selected if selected else 0.0
        columns[f"recall{name}"] = hits / of
    return columns
