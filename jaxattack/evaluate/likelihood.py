"""Log-likelihoods of given continuations: what multiple choice and perplexity are measured by.

Contexts that are equal up to the last token, such as those of the options A, B, C and D, are read
once. Logits are taken where a token is predicted alone, a few positions at a time, so that they
never outweigh the model.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding, tree
from jaxattack.errors import UserError
from jaxattack.models.config import check_tokens
from jaxattack.models.generate import padded_count
from jaxattack.models.sampling import likeliest
from jaxattack.models.transformer import Transformer, hidden_states, unembed
from jaxattack.progress import track

# Logits held at once; fewer on a CPU, whose cache would not hold them.
LOGITS, CPU_LOGITS = 1 << 28, 1 << 22
NARROWEST, FEWEST = 32, 64  # of the shapes that are compiled: tokens of a row, predictions

Pair = tuple[Sequence[int], Sequence[int]]


class Likelihood(NamedTuple):
    """What a model thinks of a continuation."""

    total: float  # nats, summed over its tokens
    greedy: bool  # whether every token is the likeliest one


class _Rows(NamedTuple):
    """Token rows to read, and what is asked of them."""

    tokens: list[tuple[int, ...]]  # each once
    row: list[int]  # of every pair
    last: list[int]  # the last token of every pair, which no row has
    counts: list[int]  # how many tokens of every pair are predicted


def log_likelihoods(
    model: Transformer,
    params: tree.Tree,
    pairs: Sequence[Pair],
    batch_size: int = 16,
    max_length: int | None = None,
    label: str = "scoring",
) -> list[Likelihood]:
    """`log p(continuation | context)` in float32, and whether greedy decoding would write it.

    Args:
        model: the decoder.
        params: its parameters.
        pairs: token ids of a context and its continuation, N pairs; neither is empty.
        batch_size: rows read together, at most.
        max_length: tokens a row may have; of longer ones the first are left out. None: no limit.
        label: what the progress bar says.

    Returns:
        N likelihoods in the pairs' order.

    Raises:
        UserError: a pair lacks a part, a continuation alone is longer than `max_length`, token ids
            beyond the vocabulary, or logits that are not finite.
    """
    _check(model, pairs, max_length)
    rows = _rows(pairs, max_length)
    asked: list[list[int]] = [[] for _ in rows.tokens]
    for pair, row in enumerate(rows.row):
        asked[row].append(pair)
    found: list[Likelihood | None] = [None] * len(pairs)
    mesh = sharding.mesh_of(params)
    for width, members in track(_batches(rows.tokens, batch_size), label):
        count = sharding.filled_rows(min(batch_size, padded_count(len(members), mesh)), mesh)
        hidden = _read(model, params, [rows.tokens[i] for i in members], (count, width))
        mine = [(place, pair) for place, i in enumerate(members) for pair in asked[i]]
        places, targets = _predictions(rows, mine, width)
        logs, best = _ask(model, params, hidden, places, targets)
        cuts = np.cumsum([rows.counts[pair] for _, pair in mine])[:-1]
        parts = zip(mine, np.split(logs, cuts), np.split(best, cuts), strict=True)
        for (_, pair), own, greedy in parts:
            found[pair] = Likelihood(float(own.sum(dtype=np.float64)), bool(greedy.all()))
    if not all(one is not None and np.isfinite(one.total) for one in found):
        raise UserError(
            f"{label}: the model's logits are not finite (NaN or infinity); its weights are "
            "damaged, its training went astray, or its dtype is too small"
        )
    return [one for one in found if one is not None]


def _check(model: Transformer, pairs: Sequence[Pair], max_length: int | None) -> None:
    for number, (context, continuation) in enumerate(pairs):
        if not len(context) or not len(continuation):
            lacks = "continuation" if len(context) else "context"
            raise UserError(
                f"pair {number} has an empty {lacks}: a token is predicted from those before it"
            )
        if max_length is not None and len(continuation) > max_length:
            raise UserError(
                f"pair {number} has a continuation of {len(continuation)} tokens, and rows may "
                f"have {max_length}"
            )
    check_tokens(model.config, (part for pair in pairs for part in pair), "sequence")


def _rows(pairs: Sequence[Pair], max_length: int | None) -> _Rows:
    """All tokens but the last, cut on the left; pairs that differ in the last alone share a row."""
    numbers: dict[tuple[int, ...], int] = {}
    found = _Rows([], [], [], [])
    for context, continuation in pairs:
        whole = (*context, *continuation)
        row = whole[:-1] if max_length is None else whole[-(max_length + 1) :][:-1]
        found.row.append(numbers.setdefault(row, len(numbers)))
        found.last.append(whole[-1])
        found.counts.append(len(continuation))
    found.tokens.extend(numbers)
    return found


def _batches(rows: Sequence[Sequence[int]], batch_size: int) -> list[tuple[int, list[int]]]:
    """(padded width, rows) of like length, at most `batch_size`; the longest first.

    Widths are powers of two and the middles between them, so that few shapes are compiled.
    """
    found: list[tuple[int, list[int]]] = []
    for index in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        width = _width(len(rows[index]))
        if not found or found[-1][0] != width or len(found[-1][1]) == batch_size:
            found.append((width, []))
        found[-1][1].append(index)
    return found


def _width(length: int) -> int:
    power = max(NARROWEST, 1 << (length - 1).bit_length())
    middle = power * 3 // 4
    return middle if power > NARROWEST and length <= middle else power


def _read(
    model: Transformer,
    params: tree.Tree,
    rows: Sequence[Sequence[int]],
    shape: tuple[int, int],
) -> jax.Array:
    """Hidden states `[B, W, D]` of right-padded rows; causal, so what fills them is not seen."""
    tokens = np.zeros(shape, np.int32)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    mesh = sharding.mesh_of(params)
    return _hidden(model, mesh, params, sharding.place_batch(tokens, mesh))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _hidden(model, mesh, params, tokens):
    with sharding.within(mesh):
        return hidden_states(model, params, tokens)[0]


def _predictions(
    rows: _Rows, mine: Sequence[tuple[int, int]], width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where in a batch's `[B * W]` states a token is predicted, and which; pair after pair."""
    places, targets = [], []
    for place, pair in mine:
        row, count = rows.tokens[rows.row[pair]], rows.counts[pair]
        start = len(row) - count
        places.append(place * width + np.arange(start, len(row)))
        targets.append((*row[start + 1 :], rows.last[pair]))
    return np.concatenate(places), np.concatenate(targets)


def _ask(
    model: Transformer,
    params: tree.Tree,
    hidden: jax.Array,
    places: np.ndarray,
    targets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each target, and whether it is the likeliest token; `[P]` each."""
    size = FEWEST
    while size < len(places):
        size *= 4
    padded = np.zeros((2, size), np.int32)
    padded[:, : len(places)] = places, targets
    most = CPU_LOGITS if jax.default_backend() == "cpu" else LOGITS
    chunk = max(1, min(size, most // model.config.vocab_size))
    chunk = 1 << (chunk.bit_length() - 1)  # divides the size
    found = _chosen(
        model, sharding.mesh_of(params), chunk, params, hidden, *padded, np.int32(len(places))
    )
    logs, best = (sharding.to_host(part)[: len(places)] for part in found)
    return logs, best


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _chosen(model, mesh, chunk, params, hidden, places, targets, count):
    """`_ask`, a chunk of places at a time until `count` of them are done."""
    flat = hidden.reshape(-1, hidden.shape[-1])

    def one(i, state):
        here = jax.lax.dynamic_slice_in_dim(places, i * chunk, chunk)
        wanted = jax.lax.dynamic_slice_in_dim(targets, i * chunk, chunk)
        logits = unembed(model, params, flat[here])
        own = jnp.take_along_axis(logits, wanted[:, None], axis=1)[:, 0]
        logs = own - jax.nn.logsumexp(logits, axis=-1)
        parts = zip(state, (logs, likeliest(logits) == wanted), strict=True)
        return tuple(
            jax.lax.dynamic_update_slice(whole, part, (i * chunk,)) for whole, part in parts
        )

    with sharding.within(mesh):
        none = jnp.zeros(places.shape, jnp.float32), jnp.zeros(places.shape, bool)
        return jax.lax.fori_loop(0, (count + chunk - 1) // chunk, one, none)
