"""Moments of single examples' gradients of the answer loss, by one backward pass a batch.

The layers' parameters are watched (`models.moments`). The embedding and the head are not: a tied
one is used twice, and `|a + b|` is not `|a| + |b|`. So the pass gives the gradients by the rows
that were looked up and by the final hidden states, and what follows from them is added here.

B examples, T tokens, N predictions of an example, D hidden, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxattack import sharding
from jaxattack.models.attention import soft_cap
from jaxattack.models.lookup import add_rows, rows_of
from jaxattack.models.moments import COLLECTION, MOMENTS, Slots, sums_here
from jaxattack.models.transformer import Block, Transformer, head
from jaxattack.train.cross_entropy import CPU_LOGITS, HEAD, LOGITS, HeadAxes
from jaxattack.train.losses import predicted
from jaxattack.tree import Tree

FEWEST = 512  # words worked off at once
WHOLE = HeadAxes()  # nothing of the head is on another device


class Predictions(NamedTuple):
    """What an example is asked: the columns before its answer tokens come first."""

    columns: jax.Array  # [B, N]
    words: jax.Array  # the tokens to predict there
    weights: jax.Array  # float32, of an example's all they sum to 1; 0 for what only fills up


def predictions(batch: Tree, most: int) -> Predictions:
    """The first `most` predictions of every example."""
    weights = predicted(batch).astype(jnp.float32)
    weights = weights / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1.0)
    columns = jnp.argsort(weights == 0, axis=1, stable=True)[:, :most]
    words, weights = (
        jnp.take_along_axis(a, columns, axis=1) for a in (batch["tokens"][:, 1:], weights)
    )
    return Predictions(columns, words, weights)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def accumulate(
    model: Transformer, mesh: Mesh, most: int, totals: dict[str, Tree], params: Tree, batch: Tree
) -> dict[str, Tree]:
    """Add the moments of the gradient of each example's mean answer loss.

    Args:
        model: the decoder.
        mesh: where all of it lives.
        most: no example has more predictions.
        totals: by moment a tree like the parameters, float32.
        params: where the gradients are taken.
        batch: arrays `[B, T]`; rows without a prediction add nothing.
    """
    tokens, moments, tied = batch["tokens"], tuple(totals), model.config.tied
    asked = predictions(batch, most)
    inner = [name for name in params if name not in ("embed", "head")]
    by_moment = jax.tree.structure(dict.fromkeys(moments, 0))
    by_name = jax.tree.structure({name: params[name] for name in inner})

    def states(slots: Tree, nudge: jax.Array) -> jax.Array:
        variables = {"params": params, COLLECTION: slots, "perturbations": {"lookup": nudge}}
        hidden: Any = model.apply(
            variables,
            tokens,
            segment_ids=batch["segment_ids"],
            positions=batch.get("positions"),
            method="hidden",
        )
        return jnp.take_along_axis(hidden[0], asked.columns[..., None], axis=1)

    with sharding.within(mesh):
        slots = {moment: {name: totals[moment][name] for name in inner} for moment in moments}
        slots = jax.tree.transpose(by_moment, by_name, slots)
        nudge = jnp.zeros((*tokens.shape, model.config.hidden_size), params["embed"].dtype)
        if model.remat == "full":
            final, back = layer_by_layer(model, params, batch, asked.columns, slots, nudge)
        else:
            final, back = jax.vjp(states, slots, nudge)
        matrix, softcap = head(model, params), model.config.final_softcap
        last = "embed" if tied else "head"
        before = {moment: totals[moment][last] for moment in moments}
        norms, d_final, of_head = by_head(final, matrix, asked, softcap, before)
        found, d_lookup = back(d_final)
        sums = jax.tree.transpose(by_name, by_moment, found)
        rows = jnp.zeros(d_lookup.shape, jnp.float32)
        if tied:
            rows = rows_of_head(final, matrix, norms, asked, softcap, tokens)
        of_lookup = by_lookup(tokens, d_lookup, rows, moments)

    def grown(moment: str) -> Tree:
        total = totals[moment] | {last: of_head[moment]}
        for name, part in sums[moment].items():
            grown = model.remat == "full" and name == "layers"
            total[name] = part if grown else jax.tree.map(jnp.add, total[name], part)
        with sharding.within(mesh):
            rows = add_rows(total["embed"], tokens, of_lookup[moment])
        # What the lookup changes is a difference, which rounding may take below nothing.
        return total | {"embed": rows if moment == "sum" else rows.at[tokens].max(0.0)}

    return sharding.keep({moment: grown(moment) for moment in moments}, mesh)


def layer_by_layer(
    model: Transformer, params: Tree, batch: Tree, columns: jax.Array, slots: Tree, nudge: jax.Array
) -> tuple[jax.Array, Callable[[jax.Array], tuple[Tree, jax.Array]]]:
    """States before the head where something is predicted, and their pullback.

    The pullback of a scan has the sums of all layers beside what they are added to. This one adds
    each layer's as soon as it has them; it keeps the layers' inputs and computes the rest again.

    Args:
        model, params: the decoder.
        batch: arrays `[B, T]`.
        columns: where something is predicted, `[B, N]`.
        slots: sums so far, by name and moment.
        nudge: zeros `[B, T, D]`, by which the gradient at the lookup is taken.

    Returns:
        states `[B, N, D]`; and a function of their gradient, which gives sums like the slots, of
        the layers those of the slots and the batch's together, and the gradient by `nudge`.
    """
    c, tokens = model.config, batch["tokens"]
    outside = {name: part for name, part in slots.items() if name != "layers"}
    places = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    positions = batch.get("positions", places)
    weights = {"params": params}
    around: Any = model.apply(weights, positions, batch["segment_ids"], None, 0, method="around")
    layers = params["layers"], jnp.array(c.local_layers or (False,) * c.num_layers)

    def entered(slots, nudge):
        given = weights | {COLLECTION: slots, "perturbations": {"lookup": nudge}}
        return model.apply(given, rows_of(params["embed"], tokens), method="entered")

    def through(layer, slots, x):
        own, local = layer
        block, given = Block(c, parent=None), {"params": own, COLLECTION: slots}
        return block.apply(given, (x, None), None, local, around, 0)[0][0]

    def left(slots, x):
        hidden: Any = model.apply(weights | {COLLECTION: slots}, x, method="left")
        return jnp.take_along_axis(hidden, columns[..., None], axis=1)

    x, back_in = jax.vjp(entered, outside, nudge)
    x, inputs = jax.lax.scan(lambda x, layer: (through(layer, {}, x), x), x, layers)
    final, back_out = jax.vjp(left, outside, x)

    def back(d_final):
        found, d_x = back_out(d_final)

        def pull(n, state):
            d_x, sums = state
            i = c.num_layers - 1 - n
            layer, x = jax.tree.map(lambda a: a[i], (layers, inputs))
            empty = jax.tree.map(lambda total: jnp.zeros(total.shape[1:], total.dtype), sums)
            own, d_x = jax.vjp(functools.partial(through, layer), empty, x)[1](d_x)
            return d_x, jax.tree.map(lambda total, part: total.at[i].add(part), sums, own)

        d_x, sums = jax.lax.fori_loop(0, c.num_layers, pull, (d_x, slots["layers"]))
        others, d_nudge = back_in(d_x)
        return jax.tree.map(jnp.add, found, others) | {"layers": sums}, d_nudge

    return final, back


def by_logits(
    logits: jax.Array, norms: jax.Array, hits: jax.Array, weights: jax.Array, softcap: float
) -> jax.Array:
    """Gradient of the cross entropy by logits `[..., N, W]` of some words, before the soft cap.

    `norms` are the logarithms of the softmax's denominators, `[..., N]`.
    """
    capped = soft_cap(logits, softcap)
    found = (jnp.exp(capped - norms[..., None]) - hits) * weights[..., None]
    return found * (1.0 - (capped / softcap) ** 2) if softcap else found


def by_head(
    final: jax.Array, matrix: jax.Array, asked: Predictions, softcap: float, totals: Slots
) -> tuple[jax.Array, jax.Array, Slots]:
    """Log-normalisers `[B, N]`, gradient by `final` `[B, N, D]`, and the moments' totals.

    The totals are those given, with the moments of the gradient by the head added.
    """
    local = functools.partial(_by_head_here, softcap=softcap)
    mesh = sharding.current_mesh()
    if mesh is None:
        return local(final, matrix, asked, totals)
    rows = sharding.fit(sharding.BATCH, final.shape, mesh)
    words = sharding.fit(HEAD, matrix.shape, mesh)
    axes = {"row_axes": rows[0] if rows else (), "axes": HeadAxes.of(words, mesh)}
    return jax.shard_map(
        functools.partial(local, **axes),
        in_specs=(rows, words, rows, words),
        out_specs=(rows, rows, words),
        check_vma=False,
    )(final, matrix, asked, totals)


def _by_head_here(final, matrix, asked, totals, *, softcap, row_axes=(), axes=WHOLE):
    """`by_head` for a device's rows, and for its part of the head, in blocks of words."""
    batch, _, size = final.shape
    flat = final.reshape(-1, size)
    most = CPU_LOGITS if jax.default_backend() == "cpu" else LOGITS
    block = min(len(matrix), max(FEWEST, most // len(flat)))
    block = min(block, axes.most(size) or block)
    blocks = -(-len(matrix) // block)
    first_word = jax.lax.axis_index(axes.words) * len(matrix) if axes.words else 0

    def look(i):
        """A block's first word, its rows, its logits, and which words no earlier block had."""
        start = jnp.minimum(i * block, len(matrix) - block)
        part = axes.gather(jax.lax.dynamic_slice_in_dim(matrix, start, block))
        logits = jnp.matmul(flat, part.T, preferred_element_type=jnp.float32)
        return start, part, logits, start + jnp.arange(block) >= i * block

    def add_up(i, state):
        top, share = state
        _, _, logits, new = look(i)
        logits = jnp.where(new, soft_cap(logits, softcap), -jnp.inf)
        higher = jnp.maximum(top, jnp.max(logits, axis=1))
        powers = jnp.sum(jnp.exp(logits - higher[:, None]), axis=1)
        return higher, share * jnp.exp(top - higher) + powers

    start = jnp.full(len(flat), -jnp.inf), jnp.zeros(len(flat))
    top, share = jax.lax.fori_loop(0, blocks, add_up, start)
    highest = jax.lax.pmax(top, axes.words)
    norms = highest + jnp.log(jax.lax.psum(share * jnp.exp(top - highest), axes.words))

    def pull_back(i, state):
        d_flat, totals = state
        start, part, logits, new = look(i)
        words = first_word + start + jnp.arange(block)
        hits = asked.words.reshape(-1, 1) == words
        d_logits = by_logits(logits, norms, hits, asked.weights.reshape(-1), softcap)
        d_logits = jnp.where(new, d_logits, 0.0).astype(final.dtype)
        found = sums_here(d_logits.reshape(batch, -1, block), final, names=tuple(totals))

        def put(total, part):
            part = jax.lax.psum(axes.scatter(part, row_axes), axes.left(row_axes))
            here = jax.lax.dynamic_slice_in_dim(total, start, block) + part
            return jax.lax.dynamic_update_slice_in_dim(total, here, start, axis=0)

        return d_flat + d_logits @ part, jax.tree.map(put, totals, found)

    d_flat, totals = jax.lax.fori_loop(0, blocks, pull_back, (jnp.zeros_like(flat), totals))
    d_final = jax.lax.psum(d_flat, axes.words).reshape(final.shape)
    return norms.reshape(batch, -1), d_final, totals


def rows_of_head(
    final: jax.Array,
    matrix: jax.Array,
    norms: jax.Array,
    asked: Predictions,
    softcap: float,
    tokens: jax.Array,
) -> jax.Array:
    """Of each example's gradient by the head the rows of its own tokens, `[B, T, D]` in float32.

    Args:
        final: states before the head `[B, N, D]`, where something is predicted.
        matrix: the head `[V, D]`.
        norms: of the logits `[B, N]`, the logarithms of their summed exponentials.
        asked: which words are predicted there, and their weights, each `[B, N]`.
        softcap: of the logits, 0 for none.
        tokens: whose rows are taken, int `[B, T]`.
    """
    own = rows_of(matrix, tokens)
    logits = jnp.einsum("bnd,btd->bnt", final, own, preferred_element_type=jnp.float32)
    hits = asked.words[..., None] == tokens[:, None]
    d_logits = by_logits(logits, norms, hits, asked.weights, softcap).astype(final.dtype)
    return jnp.einsum("bnt,bnd->btd", d_logits, final, preferred_element_type=jnp.float32)


def by_lookup(tokens: jax.Array, d_lookup: jax.Array, before: jax.Array, moments: tuple) -> Slots:
    """What the lookup changes in the moments of the rows of `tokens`, `[B, T, D]`.

    A row that an example looks up twice has one gradient; what it adds stands at the first place.
    `before` is the gradient these rows have from elsewhere.
    """
    same = tokens[:, :, None] == tokens[:, None]
    first = ~jnp.any(jnp.tril(same, -1), axis=2)[..., None]
    after = before + jnp.einsum(
        "btu,bud->btd", same.astype(jnp.float32), d_lookup.astype(jnp.float32)
    )
    return {
        moment: jnp.where(first, MOMENTS[moment](after) - MOMENTS[moment](before), 0.0)
        for moment in moments
    }
