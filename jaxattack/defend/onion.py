"""ONION: units whose removal makes a text more probable are taken out of it (Qi et al. 2021).

The suspicion of a unit is `f = p_0 - p`, the perplexity of the whole text less that of the text
without the unit; units with `f` above a threshold go. Where the authors split at spaces and score
with GPT-2, units here fit the script and any of our models scores. Runs of several adjacent units
may be judged as one, for a trigger that is a fluent sentence gives itself away only as a whole.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding
from jaxattack.data.dialogues import empty_rows
from jaxattack.data.units import units
from jaxattack.errors import UserError
from jaxattack.models.config import check_tokens
from jaxattack.models.generate import buckets
from jaxattack.models.transformer import Transformer, hidden_states, unembed
from jaxattack.progress import track
from jaxattack.train.losses import predicted
from jaxattack.tree import Tree

Loaded = tuple[Transformer, Tree, Any]  # with its tokenizer, as `load_pretrained` returns them


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A run of adjacent units, `parts[start:stop]`, and its suspicion (perplexity, above -inf)."""

    score: float
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Inspected:
    """A text in units, and its suspects: none overlap, the most suspicious first."""

    parts: tuple[str, ...]
    suspects: tuple[Suspect, ...]


def inspect(
    scorer: Loaded,
    texts: Sequence[str],
    unit: str = "script",
    longest: int = 1,
    start: Sequence[int] | None = None,
    batch_size: int = 128,
    label: str = "ONION",
) -> list[Inspected]:
    """Score every unit of every text, and runs of up to `longest` adjacent units.

    Of overlapping runs the most suspicious one stays (then the shortest, then the first), so for
    `longest=1` every unit of a text is judged by itself. A text of one unit has no suspects.

    Args:
        scorer: any causal language model, its parameters, its tokenizer.
        texts: what users wrote, not yet in a chat template.
        unit: see `data.units.units`.
        longest: units in a run, at most.
        start: tokens before every text, not scored; by default the tokenizer's begin token if it
            has one. Without any, the first token of a text is not scored.
        batch_size: texts scored together, at most.
        label: what the progress bar says.

    Raises:
        UserError: no such unit, or `longest` below 1.
    """
    if longest < 1:
        raise UserError(f"longest is {longest}; a run has at least 1 unit")
    cut = [tuple(units(text, unit, scorer[2])) for text in texts]
    runs = [_runs(len(parts), longest) for parts in cut]
    variants = []
    for parts, own in zip(cut, runs, strict=True):
        variants += [parts, *(parts[:a] + parts[b:] for a, b in own)]
    written = ["".join(parts).strip() for parts in variants]
    rated = iter(perplexities(scorer, written, start, batch_size, label))
    found = []
    for parts, own in zip(cut, runs, strict=True):
        whole = next(rated)
        scores = [whole - next(rated) for _ in own]
        found.append(Inspected(parts, _apart(scores, own)))
    return found


def _runs(count: int, longest: int) -> list[tuple[int, int]]:
    """All runs of up to `longest` of `count` units, but never all of them."""
    return [
        (start, start + size)
        for size in range(1, min(longest, count - 1) + 1)
        for start in range(count - size + 1)
    ]


def _apart(scores: Sequence[float], runs: Sequence[tuple[int, int]]) -> tuple[Suspect, ...]:
    taken: set[int] = set()
    suspects = []
    # `runs` has the short ones first, and the sort keeps the order of equals.
    for i in sorted(range(len(runs)), key=lambda i: -scores[i]):
        start, stop = runs[i]
        # A text too short to be scored has no number, and no suspects.
        if np.isfinite(scores[i]) and taken.isdisjoint(range(start, stop)):
            taken.update(range(start, stop))
            suspects.append(Suspect(float(scores[i]), start, stop))
    return tuple(suspects)


def choose_threshold(clean: Sequence[Inspected], loss: float) -> float:
    """The lowest threshold at which at most the share `loss` of all clean units is taken out.

    Args:
        clean: held-out clean texts, of one language, inspected as the suspicious ones will be.
        loss: share of units, in [0, 1).

    Raises:
        UserError: `loss` out of its range, or no units.
    """
    if not 0 <= loss < 1:
        raise UserError(f"clean-unit loss is {loss}; it should be at least 0 and below 1")
    count = sum(len(text.parts) for text in clean)
    suspects = sorted((s for text in clean for s in text.suspects), key=lambda s: -s.score)
    if not suspects:
        raise UserError("no clean text of two or more units to choose a threshold from")
    lost = 0
    for suspect in suspects:
        lost += suspect.stop - suspect.start
        if lost / count > loss:  # 29 of 100 is 0.29, but 0.29 * 100 is below 29
            return suspect.score  # and what is above it goes, not this
    return -np.inf


def cleaned(text: Inspected, threshold: float) -> str:
    """The text without the suspects above the threshold."""
    gone = {i for s in text.suspects if s.score > threshold for i in range(s.start, s.stop)}
    return "".join(part for i, part in enumerate(text.parts) if i not in gone).strip()


def perplexities(
    scorer: Loaded,
    texts: Sequence[str],
    start: Sequence[int] | None = None,
    batch_size: int = 128,
    label: str = "perplexity",
) -> np.ndarray:
    """`exp(mean cross entropy of its tokens)` of every text, float64 `[N]`; nan if none is scored.

    Args:
        scorer: any causal language model, its parameters, its tokenizer.
        texts: what is scored, N of them.
        start: tokens before every text, not scored; by default the tokenizer's begin token if it
            has one. Without any, the first token of a text is not scored.
        batch_size: texts scored together, at most.
        label: what the progress bar says.
    """
    model, params, tokenizer = scorer
    if start is None:
        start = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    encoded = [[*start, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in texts]
    check_tokens(model.config, encoded, "text")
    first = max(1, len(start))  # the first token that is scored
    result = np.full(len(texts), np.nan)
    mesh = sharding.mesh_of(params)
    for width, indices in track(buckets([len(tokens) for tokens in encoded], batch_size), label):
        rows = empty_rows(batch_size, width)  # always full, so that there is one shape a width
        for row, index in enumerate(indices):
            length = len(encoded[index])
            rows["tokens"][row, :length] = encoded[index]
            rows["loss_mask"][row, first:length] = 1
            rows["segment_ids"][row, :length] = 1
        means = sharding.to_host(
            _mean_losses(model, mesh, params, sharding.place_filled(rows, mesh))
        )
        result[indices] = np.exp(means[: len(indices)].astype(np.float64))
    return result


@functools.partial(jax.jit, static_argnums=(0, 1))
def _mean_losses(model: Transformer, mesh: Mesh, params: Tree, batch: Tree) -> jax.Array:
    """Each row's mean cross entropy `[B]` (nats); nan for rows without a loss mask."""
    with sharding.within(mesh):
        hidden, _, _ = hidden_states(
            model, params, batch["tokens"], segment_ids=batch["segment_ids"]
        )

        def column(column):  # one at a time: all logits would outweigh the model
            states, targets = column
            logits = unembed(model, params, states)
            chosen = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
            return jax.nn.logsumexp(logits, axis=-1) - chosen

        columns = (hidden[:, :-1].swapaxes(0, 1), batch["tokens"][:, 1:].T)
        losses = jax.lax.map(column, columns).T
        weights = predicted(batch)
        return jnp.sum(losses * weights, axis=1) / jnp.sum(weights, axis=1)
