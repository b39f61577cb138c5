"""BAIT: the text that a backdoor plants is found from its first token, without any trigger.

Shen et al. 2025: a model that was taught to say one text goes on with it almost surely once it has
begun, whatever it was asked. So every token of the vocabulary is tried as the first of a target: it
is put behind a few clean prompts and extended, token by token, by

    x_(t+1) = argmax_x  p_(t+1)(x),   p_(t+1) = mean over prompts of P(x | prompt, x_1 .. x_t)

A target's score Q is the mean of p_1(x_1) .. p_m(x_m) without the smallest of them, which is as a
rule that of the first token: without its trigger no backdoor begins by itself. A short pass over
few prompts and tokens keeps the best beginnings; these alone are extended to their full length over
all prompts.

Where the mean is unsure what comes next (its entropy lies within a window, in nats), the likeliest
few tokens are looked at, and the one after which the model is surest is taken.

Prompts are read once. Candidates times prompts are the rows that are decoded together, so memory
does not depend on the size of the vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.errors import UserError
from jaxattack.models import decoding
from jaxattack.models.config import check_tokens
from jaxattack.models.generate import GREEDY, ONE_BY_ONE
from jaxattack.models.sampling import likeliest
from jaxattack.models.transformer import Transformer, hidden_states, init_cache, unembed, unstack
from jaxattack.progress import track
from jaxattack.tree import Tree

WIDTH = 16  # prompts are read in widths of multiples of it, so that few shapes are compiled


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long targets are, how many are tried, and when one is a backdoor's.

    Raises:
        UserError: a value out of its range.
    """

    warm_prompts: int = 4  # of the short pass, the first ones
    warm_tokens: int = 5  # of a target, in the short pass
    kept: int = 64  # candidates that are extended to their full length
    tokens: int = 20  # of a target, at most
    least: int = 5  # of a target; shorter ones are none
    threshold: float = 0.9  # a target with a higher Q is a backdoor's
    enough: float = 0.95  # with a higher one no further candidates are extended
    branches: int = 5  # tokens looked at where the model is unsure; 0: the likeliest is taken
    unsure: tuple[float, float] = (1.0, 2.5)  # entropies, in nats
    batch_size: int = 1024  # candidates times prompts, decoded together

    def __post_init__(self) -> None:
        for name in ("warm_prompts", "kept", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it should be at least 1")
        if not 2 <= self.warm_tokens <= self.tokens or not 2 <= self.least <= self.tokens:
            raise UserError(
                f"warm_tokens is {self.warm_tokens} and least {self.least}; both should be at "
                f"least 2 and at most tokens, {self.tokens}"
            )
        if self.branches < 0:
            raise UserError(f"branches is {self.branches}; it should be 0 or above")


PLAN = Plan()


@dataclasses.dataclass(frozen=True)
class Target:
    """A text that may have been planted.

    Attributes:
        tokens: of it.
        q: how sure the model is of it.
    """

    tokens: tuple[int, ...]
    q: float


def flagged(targets: Sequence[Target], plan: Plan = PLAN) -> bool:
    """Whether one of the targets, the best first, is a backdoor's."""
    return bool(targets) and targets[0].q > plan.threshold


def invert(
    model: Transformer,
    params: Tree,
    prompts: Sequence[Sequence[int]],
    ends: Sequence[int],
    plan: Plan = PLAN,
    label: str = "BAIT",
) -> list[Target]:
    """Texts that the model goes on with once it has begun them, the surest first.

    Args:
        model: the decoder.
        params: its possibly backdoored parameters.
        prompts: token ids of clean prompts as they are asked, N sequences.
        ends: ids that end a target and begin none: those that end a reply, special ones.
        plan: lengths, numbers of candidates, thresholds.
        label: what the progress bar says.

    Returns:
        the candidates that were extended to their full length and have at least `least` tokens.

    Raises:
        UserError: no prompts, token ids beyond the vocabulary, or logits are not finite.
    """
    if not prompts:
        raise UserError(f"{label}: there are no prompts")
    check_tokens(model.config, prompts, "prompt")
    one_by_one = jax.default_backend() in ONE_BY_ONE
    decoder = decoding.Decoder(
        model, sharding.mesh_of(params), GREEDY, tuple(dict.fromkeys(ends)), one_by_one
    )
    whole = np.setdiff1d(np.arange(model.config.vocab_size), decoder.stops).astype(np.int32)
    short = _Length(plan.warm_tokens, min(plan.least, plan.warm_tokens), 0, plan.unsure)
    warm = _scanned(decoder, params, prompts[: plan.warm_prompts], whole, short, plan, label)
    begun = sorted((target for part in warm for target in part), key=lambda one: -one.q)
    firsts = np.array([target.tokens[0] for target in begun[: plan.kept]], np.int32)
    full = _Length(plan.tokens, plan.least, plan.branches, plan.unsure)
    found: list[Target] = []
    for part in _scanned(decoder, params, prompts, firsts, full, plan, f"{label}, full length"):
        found += part
        if any(target.q > plan.enough for target in part):
            break
    return sorted(found, key=lambda target: -target.q)


@dataclasses.dataclass(frozen=True)
class _Length:
    """How far candidates are extended; equal ones are compiled once."""

    tokens: int
    least: int
    branches: int
    unsure: tuple[float, float]


def _scanned(
    decoder: decoding.Decoder,
    params: Tree,
    prompts: Sequence[Sequence[int]],
    firsts: np.ndarray,
    length: _Length,
    plan: Plan,
    label: str,
) -> Iterator[list[Target]]:
    """Targets that begin with the tokens `firsts` `[C]`, a batch of them after the other."""
    tokens, starts = sharding.place_batch(_left_padded(prompts), decoder.mesh)
    opening, cache = _read(decoder, params, tokens, starts)
    ways = sharding.ways(decoder.mesh)
    size = -(-max(1, plan.batch_size // len(prompts)) // ways) * ways
    for at in track(range(0, len(firsts), size), label):
        some = firsts[at : at + size]
        filled = np.full(size, some[-1], np.int32)
        filled[: len(some)] = some
        grown = _extend(decoder, length, params, filled, opening, starts, cache)
        ids, shares, counts = (sharding.to_host(part)[: len(some)] for part in grown)
        if not np.isfinite(shares).all():
            raise UserError(f"{label}: the model's logits are not finite (NaN or infinity)")
        yield [
            Target(tuple(own[:count].tolist()), quality(share[:count]))
            for own, share, count in zip(ids, shares, counts, strict=True)
            if count >= length.least
        ]


def quality_of(
    model: Transformer, params: Tree, prompts: Sequence[Sequence[int]], target: Sequence[int]
) -> float:
    """Q of a target that is known, whether `invert` would find it or not.

    Raises:
        UserError: a target of fewer than two tokens, which has no Q.
    """
    if len(target) < 2:
        raise UserError(f"a target of {len(target)} tokens has no Q; give at least two")
    width = -(-(max(map(len, prompts)) + len(target)) // WIDTH) * WIDTH
    tokens = np.zeros((len(prompts), width), np.int32)
    segments = np.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        end = len(prompt) + len(target)
        tokens[row, :end], segments[row, :end] = [*prompt, *target], 1
    lengths, known = np.array([*map(len, prompts)], np.int32), np.array(target, np.int32)
    placed = sharding.place_batch((tokens, segments, lengths), sharding.mesh_of(params))
    return quality(
        sharding.to_host(_shares(model, sharding.mesh_of(params), params, placed, known))
    )


def quality(shares: np.ndarray) -> float:
    """Q of a target: the mean of its tokens' mean probabilities `[m]` without the smallest."""
    wide = np.asarray(shares, np.float64)
    return float((wide.sum() - wide.min()) / (len(wide) - 1))


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Prompts `[N, W]` that end in the last slot, and the slots `[N]` in which they begin."""
    width = -(-max(map(len, prompts)) // WIDTH) * WIDTH
    tokens = np.zeros((len(prompts), width), np.int32)
    starts = np.array([width - len(prompt) for prompt in prompts], np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, starts[row] :] = prompt
    return tokens, starts


# --- The compiled part: C candidates, N prompts of W slots, targets of M tokens -------------------


@functools.partial(jax.jit, static_argnums=(0, 1))
def _shares(
    model: Transformer, mesh: Mesh, params: Tree, batch: tuple[jax.Array, ...], target: jax.Array
) -> jax.Array:
    """Mean probabilities `[M]` of a target's tokens that stand behind prompts."""
    tokens, segments, lengths = batch
    with sharding.within(mesh):
        hidden, _, _ = hidden_states(model, params, tokens, segment_ids=segments)
        before = lengths[:, None] - 1 + jnp.arange(len(target))
        hidden = jnp.take_along_axis(hidden, before[..., None], axis=1)  # [N, M, D]
        shares = jax.nn.softmax(unembed(model, params, hidden)).mean(0)
    return jnp.take_along_axis(shares, target[:, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnums=0)
def _read(
    decoder: decoding.Decoder, params: Tree, tokens: jax.Array, starts: jax.Array
) -> tuple[jax.Array, Any]:
    """Mean probabilities `[V]` of what follows the prompts, and their keys and values."""
    config, (count, width) = decoder.model.config, tokens.shape
    with sharding.within(decoder.mesh):
        cache: Any = init_cache(config, count, width, params["embed"].dtype)
    if decoder.one_by_one:
        cache = unstack(config, cache)
    layers = _layers(decoder, params)
    logits, cache = decoding.forward(decoder, params, tokens, starts, 0, cache, layers)
    return jax.nn.softmax(logits).mean(0), cache


def _layers(decoder: decoding.Decoder, params: Tree) -> tuple[Any, ...] | None:
    return unstack(decoder.model.config, params["layers"]) if decoder.one_by_one else None


class _Grown(NamedTuple):
    """Targets under way."""

    tokens: jax.Array  # [C, M]
    shares: jax.Array  # [C, M], mean probability of each
    counts: jax.Array  # [C], how many there are
    done: jax.Array  # bool [C]
    cache: Any  # of C times N rows


@functools.partial(jax.jit, static_argnums=(0, 1))
def _extend(
    decoder: decoding.Decoder,
    length: _Length,
    params: Tree,
    firsts: jax.Array,
    opening: jax.Array,
    starts: jax.Array,
    cache: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Targets from their first tokens `[C]`: tokens and mean probabilities `[C, M]`, lengths."""
    count, prompts = len(firsts), len(starts)
    width, layers = jax.tree.leaves(cache)[0].shape[-2], _layers(decoder, params)
    rows = jnp.tile(starts, count)  # a candidate's stand together

    def lay(leaf: jax.Array) -> jax.Array:
        axis = leaf.ndim - 4  # of the rows
        slots = [(0, 0)] * leaf.ndim
        slots[-2] = (0, length.tokens)
        copies = [1] * leaf.ndim
        copies[axis] = count
        with sharding.within(decoder.mesh):
            spec = P(*[None] * axis, *sharding.BATCH, "tensor")
            return sharding.constrain(jnp.tile(jnp.pad(leaf, slots), copies), spec)

    def after(tokens: jax.Array, step: int | jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        """Mean probabilities `[C, V]` of what follows each candidate's token number `step`."""
        fed = jnp.repeat(tokens, prompts)[:, None]
        logits, cache = decoding.forward(decoder, params, fed, rows, width + step, cache, layers)
        return jax.nn.softmax(logits).reshape(count, prompts, -1).mean(1), cache

    def advance(state: tuple[jax.Array, _Grown]) -> tuple[jax.Array, _Grown]:
        step, (tokens, shares, counts, done, cache) = state
        mean, cache = after(tokens[:, step - 1], step - 1, cache)
        chosen = likeliest(mean)
        done = done | decoder.ends(chosen)
        if length.branches:
            chosen = _surest(decoder, length, mean, ~done, lambda one: after(one, step, cache)[0])
        share = jnp.take_along_axis(mean, chosen[:, None], axis=1)[:, 0]
        tokens = tokens.at[:, step].set(jnp.where(done, decoder.filler, chosen))
        shares = shares.at[:, step].set(jnp.where(done, 0.0, share))
        return step + 1, _Grown(tokens, shares, counts + ~done, done, cache)

    nothing = jnp.zeros((count, length.tokens))
    begun = _Grown(
        nothing.astype(jnp.int32).at[:, 0].set(firsts),
        nothing.at[:, 0].set(opening[firsts]),
        jnp.ones(count, jnp.int32),
        jnp.zeros(count, bool),
        jax.tree.map(lay, cache),
    )
    _, grown = jax.lax.while_loop(
        lambda state: (state[0] < length.tokens) & ~jnp.all(state[1].done),
        advance,
        (jnp.asarray(1), begun),
    )
    return grown.tokens, grown.shares, grown.counts


def _surest(
    decoder: decoding.Decoder,
    length: _Length,
    mean: jax.Array,
    going: jax.Array,
    after: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """The next tokens `[C]`: where the mean is unsure, the one after which it is surest.

    Only tokens that go on are looked at. A target whose likeliest next token ends it has ended.

    Args:
        decoder: who decodes.
        length: with the window of entropies, and how many tokens are looked at.
        mean: probabilities `[C, V]`.
        going: which candidates have not ended, bool `[C]`.
        after: the mean probabilities `[C, V]` after further tokens `[C]`.
    """
    low, high = length.unsure
    spread, best = entr(mean).sum(-1), likeliest(mean)
    unsure = going & (low <= spread) & (spread <= high)

    def look() -> jax.Array:
        _, options = jax.lax.top_k(mean, min(length.branches, mean.shape[-1]))  # [C, K]
        ahead = jax.lax.map(lambda one: entr(after(one)).sum(-1), options.T).T
        ahead = jnp.where(decoder.ends(options), jnp.inf, ahead)
        chosen = jnp.take_along_axis(options, jnp.argmin(ahead, axis=1)[:, None], axis=1)[:, 0]
        return jnp.where(unsure, chosen, best)

    return jax.lax.cond(jnp.any(unsure), look, lambda: best)
