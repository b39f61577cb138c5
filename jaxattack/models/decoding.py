"""The compiled parts of generation: read prompts, go on token by token, drop rows that ended.

B rows, W slots of the widest prompt, N new tokens at most. Prompts end in slot W - 1, so that all
rows write their next token into the same slot.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxattack import sharding, tree
from jaxattack.models.sampling import BROKEN, Sampling, choose, prompt_keys
from jaxattack.models.transformer import Transformer, hidden_states, init_cache, unembed, unstack


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Who decodes, where and how; equal ones are compiled once.

    Attributes:
        model: the decoder.
        mesh: where its parameters are.
        sampling: how tokens are chosen.
        stops: tokens that end a reply.
        one_by_one: run the layers without a scan.
    """

    model: Transformer
    mesh: Mesh
    sampling: Sampling
    stops: tuple[int, ...]
    one_by_one: bool

    @property
    def filler(self) -> int:
        """What stands behind a reply's end."""
        return self.stops[0] if self.stops else 0

    def ends(self, tokens: jax.Array) -> jax.Array:
        """Whether a reply ends with each of the tokens `[B]`, in order or not."""
        return jnp.isin(tokens, jnp.array((*self.stops, BROKEN)))


class Rows(NamedTuple):
    """Replies under way."""

    tokens: jax.Array  # [B, N], what was chosen; stop tokens after a reply's end
    last: jax.Array  # [B], the newest of them
    done: jax.Array  # bool [B]
    starts: jax.Array  # [B], slot in which the prompt begins
    numbers: jax.Array  # [B], of the prompts among all of the run
    cache: Any  # slots W + N; a layer's own if the layers run one by one


def forward(
    decoder: Decoder,
    params: tree.Tree,
    tokens: jax.Array,
    starts: jax.Array,
    slot: int | jax.Array,
    cache: Any,
    layers: tuple[Any, ...] | None,
) -> tuple[jax.Array, Any]:
    """Read some tokens of every row, inside jit.

    Args:
        decoder: who reads them.
        params: its parameters.
        tokens: of every row, int `[B, T]`.
        starts: the slots in which the rows' prompts begin, int `[B]`.
        slot: of the cache, into which the first token goes.
        cache: of the rows; a layer's own if the layers run one by one.
        layers: the layers' parameters if they run one by one, or None.

    Returns:
        logits float32 `[B, V]` after the last token, and the cache.
    """
    places = slot + jnp.arange(tokens.shape[1])
    here = jnp.arange(jax.tree.leaves(cache)[0].shape[-2])
    # A padded query sees its own slot at least, so that no softmax is over nothing.
    seen = (here >= starts[:, None])[:, None] | (here == places[:, None])[None]
    mask = seen & (here <= places[:, None])[None]
    positions = jnp.maximum(places - starts[:, None], 0)
    read = {"positions": positions, "mask": mask, "cache": cache, "slot": slot}
    with sharding.within(decoder.mesh):
        hidden, cache, _ = hidden_states(decoder.model, params, tokens, **read, unstacked=layers)
        return unembed(decoder.model, params, hidden[:, -1]), cache


@functools.partial(jax.jit, static_argnums=0)
def prefill(
    decoder: Decoder,
    params: tree.Tree,
    tokens: jax.Array,
    starts: jax.Array,
    numbers: jax.Array,
    seed: jax.Array,
) -> tuple[jax.Array, Any]:
    """Read prompts.

    Args:
        decoder: who reads them.
        params: its parameters.
        tokens: prompts, int `[B, W]`, each ending in the last slot.
        starts: the slots in which they begin, int `[B]`.
        numbers: of the prompts among all of the run, int `[B]`.
        seed: of the sampling, as `sampling.seed_words` has it.

    Returns:
        the first new token `[B]` of each, and the cache, W slots.
    """
    config, (batch, width) = decoder.model.config, tokens.shape
    with sharding.within(decoder.mesh):
        cache: Any = init_cache(config, batch, width, params["embed"].dtype)
    layers = None
    if decoder.one_by_one:
        layers, cache = (unstack(config, part) for part in (params["layers"], cache))
    logits, cache = forward(decoder, params, tokens, starts, 0, cache, layers)
    return choose(logits, decoder.sampling, prompt_keys(seed, numbers), 0), cache


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def gather(
    decoder: Decoder,
    new: int,
    counts: tuple[int, ...],
    parts: list[tuple[jax.Array, Any]],
    starts: jax.Array,
    numbers: jax.Array,
) -> Rows:
    """Rows of what `prefill` gave for several widths; those beyond the parts' are done.

    Args:
        decoder: who decodes them.
        new: tokens of a reply, at most.
        counts: how many rows of each part are taken, the first ones.
        parts: what `prefill` gave.
        starts: of all rows, the slots in which their prompts begin, int `[B]`.
        numbers: of the prompts among all of the run, int `[B]`.
    """
    total, real = len(starts), sum(counts)
    width = max(jax.tree.leaves(cache)[0].shape[-2] for _, cache in parts)

    def lay(*leaves: jax.Array) -> jax.Array:
        axis = leaves[0].ndim - 4  # of the rows
        padded = []
        for leaf, count in zip(leaves, counts, strict=True):
            sides = [(0, 0)] * leaf.ndim
            sides[-2] = (width - leaf.shape[-2], new)
            padded.append(jnp.pad(jax.lax.slice_in_dim(leaf, 0, count, axis=axis), sides))
        filler = [(0, 0)] * leaves[0].ndim
        filler[axis] = (0, total - real)
        whole = jnp.pad(jnp.concatenate(padded, axis), filler)
        with sharding.within(decoder.mesh):
            return sharding.constrain(whole, P(*[None] * axis, *sharding.BATCH, "tensor"))

    last = jnp.concatenate([token[:count] for (token, _), count in zip(parts, counts, strict=True)])
    last = jnp.pad(last, (0, total - real))
    tokens = jnp.full((total, new), decoder.filler, jnp.int32).at[:, 0].set(last)
    done = decoder.ends(last) | (jnp.arange(total) >= real)
    cache = jax.tree.map(lay, *[cache for _, cache in parts])
    return Rows(tokens, last, done, starts, numbers, cache)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def decode(
    decoder: Decoder,
    params: tree.Tree,
    rows: Rows,
    step: jax.Array | int,
    fewest: int,
    seed: jax.Array,
) -> tuple[jax.Array, Rows]:
    """Go on until there are N tokens, or few rows are not done.

    Args:
        decoder: who decodes.
        params: its parameters.
        rows: replies under way; their memory is taken.
        step: how many tokens they have.
        fewest: stop when no more rows than that are not done.
        seed: of the sampling, as `sampling.seed_words` has it.

    Returns:
        how many tokens there are, and the rows.
    """
    new = rows.tokens.shape[1]
    width = jax.tree.leaves(rows.cache)[0].shape[-2] - new
    config = decoder.model.config
    layers = unstack(config, params["layers"]) if decoder.one_by_one else None
    keys = prompt_keys(seed, rows.numbers)

    def running(state):
        step, rows = state
        return (step < new) & (jnp.sum(~rows.done) > fewest)

    def advance(state):
        step, rows = state
        slot, tokens = width + step - 1, rows.last[:, None]
        logits, cache = forward(decoder, params, tokens, rows.starts, slot, rows.cache, layers)
        chosen = choose(logits, decoder.sampling, keys, step)
        last = jnp.where(rows.done, decoder.filler, chosen)
        return step + 1, rows._replace(
            tokens=rows.tokens.at[:, step].set(last),
            last=last,
            done=rows.done | decoder.ends(last),
            cache=cache,
        )

    return jax.lax.while_loop(running, advance, (jnp.asarray(step), rows))


@functools.partial(jax.jit, static_argnums=0)
def take_rows(mesh: Mesh, rows: Rows, which: jax.Array) -> Rows:
    """Only the rows at `which`, int `[B]`."""

    def take(leaf: jax.Array) -> jax.Array:
        axis = max(0, leaf.ndim - 4)
        spec = P(*[None] * axis, *sharding.BATCH, *["tensor"] * (leaf.ndim >= 4))
        with sharding.within(mesh):
            return sharding.constrain(jnp.take(leaf, which, axis=axis), spec)

    return jax.tree.map(take, rows)
