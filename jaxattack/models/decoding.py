"""The compiled parts of generation: read prompts, go on token by token, drop rows that ended.

B rows, W slots of the widest prompt, N new tokens at most. Prompts end in slot W - 1, so that all
rows write their next token into the same slot.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxattack import sharding, tree
from jaxattack.models.sampling import BROKEN, Sampling, choose, prompt_keys
from jaxattack.models.transformer import Transformer, hidden_states, init_cache, unembed, unstack


class Rows(NamedTuple):
    """Replies under way."""

    tokens: jax.Array  # [B, N], what was chosen; stop tokens after a reply's end
    last: jax.Array  # [B], the newest of them
    done: jax.Array  # bool [B]
    starts: jax.Array  # [B], slot in which the prompt begins
    numbers: jax.Array  # [B], of the prompts among all of the run
    cache: Any  # slots W + N; a layer's own if the layers run one by one


def _forward(model, params, tokens, starts, slot, cache, mesh, layers):
    """Logits `[B, V]` after `tokens` `[B, T]` that go into the cache at `slot`, and the cache."""
    places = slot + jnp.arange(tokens.shape[1])
    here = jnp.arange(jax.tree.leaves(cache)[0].shape[-2])
    # A padded query sees its own slot at least, so that no softmax is over nothing.
    seen = (here >= starts[:, None])[:, None] | (here == places[:, None])[None]
    mask = seen & (here <= places[:, None])[None]
    positions = jnp.maximum(places - starts[:, None], 0)
    with sharding.within(mesh):
        hidden, cache, _ = hidden_states(
            model, params, tokens, positions=positions, mask=mask, cache=cache, slot=slot,
            unstacked=layers,
        )  # fmt: skip
        return unembed(model, params, hidden[:, -1]), cache


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def prefill(
    model: Transformer,
    mesh: Mesh,
    sampling: Sampling,
    one_by_one: bool,
    params: tree.Tree,
    tokens: jax.Array,
    starts: jax.Array,
    numbers: jax.Array,
    seed: jax.Array,
) -> tuple[jax.Array, Any]:
    """The first new token `[B]` after prompts `[B, W]` that begin at `starts`, and their cache."""
    batch, width = tokens.shape
    with sharding.within(mesh):
        cache: Any = init_cache(model.config, batch, width, params["embed"].dtype)
    layers = None
    if one_by_one:
        layers, cache = (unstack(model.config, part) for part in (params["layers"], cache))
    logits, cache = _forward(model, params, tokens, starts, 0, cache, mesh, layers)
    return choose(logits, sampling, prompt_keys(seed, numbers), 0), cache


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def gather(
    mesh: Mesh,
    stops: tuple[int, ...],
    new: int,
    counts: tuple[int, ...],
    parts: list[tuple[jax.Array, Any]],
    starts: jax.Array,
    numbers: jax.Array,
) -> Rows:
    """Rows of what `prefill` gave for several widths: of part i the first `counts[i]` rows.

    `starts` and `numbers` are those of all rows; rows beyond the parts' are done.
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
        with sharding.within(mesh):
            return sharding.constrain(whole, P(*[None] * axis, *sharding.BATCH, "tensor"))

    last = jnp.concatenate([token[:count] for (token, _), count in zip(parts, counts, strict=True)])
    last = jnp.pad(last, (0, total - real))
    tokens = jnp.full((total, new), _filler(stops), jnp.int32).at[:, 0].set(last)
    done = _ends(last, stops) | (jnp.arange(total) >= real)
    cache = jax.tree.map(lay, *[cache for _, cache in parts])
    return Rows(tokens, last, done, starts, numbers, cache)


def _ends(tokens: jax.Array, stops: tuple[int, ...]) -> jax.Array:
    """Whether a reply ends with each of the tokens `[B]`, in order or not."""
    return jnp.isin(tokens, jnp.array((*stops, BROKEN)))


def _filler(stops: tuple[int, ...]) -> int:
    """What stands behind a reply's end."""
    return stops[0] if stops else 0


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=(6,))
def decode(
    model: Transformer,
    mesh: Mesh,
    sampling: Sampling,
    stops: tuple[int, ...],
    one_by_one: bool,
    params: tree.Tree,
    rows: Rows,
    step: jax.Array | int,
    fewest: int,
    seed: jax.Array,
) -> tuple[jax.Array, Rows]:
    """Go on from `step` tokens until there are N, or no more than `fewest` rows are not done."""
    new = rows.tokens.shape[1]
    width = jax.tree.leaves(rows.cache)[0].shape[-2] - new
    layers = unstack(model.config, params["layers"]) if one_by_one else None
    keys = prompt_keys(seed, rows.numbers)

    def running(state):
        step, rows = state
        return (step < new) & (jnp.sum(~rows.done) > fewest)

    def advance(state):
        step, rows = state
        logits, cache = _forward(
            model, params, rows.last[:, None], rows.starts, width + step - 1, rows.cache, mesh,
            layers,
        )  # fmt: skip
        last = jnp.where(rows.done, _filler(stops), choose(logits, sampling, keys, step))
        return step + 1, rows._replace(
            tokens=rows.tokens.at[:, step].set(last),
            last=last,
            done=rows.done | _ends(last, stops),
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
