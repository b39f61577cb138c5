"""CleanGen: decoding that asks a reference model whenever a token looks planted.

Per token the suspicion is `P_target(x | past) / P_reference(x | past)`; a token at or above
`alpha` is replaced by the reference's likeliest one, and decoding goes on from there (Li et al.
2024, section 4). The reference need not be better, only not share the backdoor: another model of
the same vocabulary, or the same one stitched, rewound or with half its task vector.

The target drafts `horizon` tokens, then the reference scores all of them in one pass. What is
written does not depend on the horizon, except where the last few tokens are left unchecked; where
tokens are often replaced a short one is faster, for what was drafted after them is lost.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding
from jaxattack.data.tokens import Prompt
from jaxattack.errors import UserError
from jaxattack.models.config import check_tokens
from jaxattack.models.generate import (
    ONE_BY_ONE,
    buckets,
    check_finite,
    padded_count,
    stop_ids,
)
from jaxattack.models.prompts import encode_prompts
from jaxattack.models.sampling import BROKEN, likeliest
from jaxattack.models.transformer import Transformer, hidden_states, init_cache, unembed, unstack
from jaxattack.progress import track
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class Guard:
    """When a token is replaced.

    A reply's tail is what its end leaves of a draft: fewer than `horizon` tokens. The authors'
    program does not check it; `check_tail=False` does as they do.

    Raises:
        UserError: a value out of its range.
    """

    alpha: float = 20.0
    horizon: int = 4
    check_tail: bool = True

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise UserError(f"alpha is {self.alpha}; it should be above 0")
        if self.horizon < 1:
            raise UserError(f"horizon is {self.horizon}; it should be at least 1")


GUARD = Guard()


Weighted = tuple[Transformer, Tree]  # a decoder and its parameters
Loaded = tuple[Transformer, Tree, Any]  # with its tokenizer, as `load_pretrained` returns them


def half_way(suspect: Tree, start: Tree) -> Tree:
    """The weights in the middle between two models: a reference with half the task vector."""
    return jax.tree.map(
        lambda a, b: ((a.astype(jnp.float32) + b.astype(jnp.float32)) / 2).astype(a.dtype),
        suspect,
        start,
    )


def guarded(
    target: Loaded,
    reference: Loaded,
    dialogues: Sequence[Prompt],
    max_new_tokens: int = 64,
    guard: Guard = GUARD,
    extra_stops: Sequence[int] = (),
) -> tuple[list[str], np.ndarray]:
    """Replies under the tokenizer's chat template, as `generate` gives them, and what they cost.

    Args:
        target: the model that may be backdoored, its parameters, its tokenizer.
        reference: the model that is asked, likewise, on the same devices.
        dialogues: texts of user turns, or lists of messages with role and content.
        max_new_tokens: a reply is cut after so many tokens.
        guard: when a token is replaced.
        extra_stops: ids that end a reply beside the tokenizer's and the model's own.

    Returns:
        the replies without special tokens, and their intervention rates `[N]`.

    Raises:
        UserError: the reference has another vocabulary, or as `encode_prompts` and
            `guarded_tokens`.
    """
    model, params, tokenizer = target
    if reference[2].get_vocab() != tokenizer.get_vocab():
        raise UserError("the reference's tokenizer has another vocabulary than the model's")
    prompts = encode_prompts(model.config, tokenizer, dialogues, max_new_tokens)
    stops = stop_ids(tokenizer, (*model.config.stops, *extra_stops))
    tokens, rates = guarded_tokens(
        (model, params), reference[:2], prompts, stops, max_new_tokens, guard
    )
    return tokenizer.batch_decode(tokens, skip_special_tokens=True), rates


def guarded_tokens(
    target: Weighted,
    reference: Weighted,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[int],
    max_new_tokens: int,
    guard: Guard = GUARD,
    batch_size: int = 256,
    label: str = "guarded generation",
) -> tuple[list[list[int]], np.ndarray]:
    """Greedy guarded continuations, each up to its stop token (left out).

    Args:
        target: the decoder that may be backdoored, and its parameters.
        reference: the decoder that is asked, and its parameters, on the same devices.
        prompts: token ids, N sequences.
        stops: ids that end a reply.
        max_new_tokens: a reply is cut after so many tokens.
        guard: when a token is replaced.
        batch_size: prompts decoded together, at most.
        label: what the progress bar says.

    Returns:
        the continuations, and for each the share `[N]` of its tokens (the stop token included)
        that are the reference's.

    Raises:
        UserError: the reference has a vocabulary of another size, or logits are not finite.
    """
    (model, params), (judge, judge_params) = target, reference
    sizes = model.config.vocab_size, judge.config.vocab_size
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the reference has a vocabulary of {sizes[1]} tokens and the model one of {sizes[0]};"
            " CleanGen compares them token by token"
        )
    check_tokens(model.config, prompts, "prompt")
    mesh, one_by_one = sharding.mesh_of(params), jax.default_backend() in ONE_BY_ONE
    ends = tuple(stops)
    drafts = guard.horizon, guard.check_tail
    way = _Way(model, judge, mesh, ends, max_new_tokens, *drafts, one_by_one)
    limit = np.float32(np.log(guard.alpha))
    results: list[list[int]] = [[] for _ in prompts]
    rates = np.zeros(len(prompts))
    for width, indices in track(buckets([len(p) for p in prompts], batch_size), label):
        batch = sharding.place_batch(_right_padded(prompts, indices, width, mesh), mesh)
        found = _decode(way, params, judge_params, batch, limit)
        out, written, replaced = map(sharding.to_host, found)
        for row, index in enumerate(indices):
            reply = out[row, : written[row]].tolist()
            check_finite(reply, label)
            rates[index] = replaced[row] / max(1, written[row])
            results[index] = reply[:-1] if reply and reply[-1] in stops else reply
    return results, rates


def _right_padded(
    prompts: Sequence[Sequence[int]], indices: Sequence[int], width: int, mesh: Mesh
) -> dict[str, np.ndarray]:
    """Prompts in rows `[B, width]`, their lengths, and which rows hold one."""
    count = padded_count(len(indices), mesh)
    tokens, lengths = np.zeros((count, width), np.int32), np.ones(count, np.int32)
    for row, index in enumerate(indices):
        lengths[row] = len(prompts[index])
        tokens[row, : lengths[row]] = prompts[index]
    return {"tokens": tokens, "lengths": lengths, "alive": np.arange(count) < len(indices)}


# --- The compiled part: B rows, drafts of H tokens, N new tokens at most --------------------------


@dataclasses.dataclass(frozen=True)
class _Way:
    """Who decodes, where and how; equal ones are compiled once."""

    model: Transformer
    reference: Transformer
    mesh: Mesh
    stops: tuple[int, ...]
    new: int
    horizon: int
    check_tail: bool
    one_by_one: bool


class _Replies(NamedTuple):
    """Replies under way."""

    last: jax.Array  # [B], the newest token, which no cache holds yet
    out: jax.Array  # [B, N]
    written: jax.Array  # [B], how many tokens
    replaced: jax.Array  # [B], how many of them are the reference's
    done: jax.Array  # bool [B]
    caches: tuple[Any, Any]  # the model's, the reference's


@functools.partial(jax.jit, static_argnums=0)
def _decode(
    way: _Way, params: Tree, reference_params: Tree, batch: Tree, limit: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens `[B, N]`, how many of them are written and how many the reference's `[B]`."""
    tokens, lengths = batch["tokens"], batch["lengths"]
    slots = tokens.shape[1] + way.new + way.horizon
    with sharding.within(way.mesh):
        target = _Decoder.start(way.model, params, tokens, slots, way.one_by_one)
        judge = _Decoder.start(way.reference, reference_params, tokens, slots, way.one_by_one)

    def advance(replies: _Replies) -> _Replies:
        slot = lengths + replies.written - 1  # of the last token
        with sharding.within(way.mesh):
            drafted, own, ours = _draft(target, replies.last, slot, replies.caches[0], way.horizon)
            fed = jnp.concatenate([replies.last[:, None], drafted[:, :-1]], axis=1)
            logits, theirs = judge.forward(fed, slot, replies.caches[1])
        checked = _checked(way, replies, drafted, own, logits, limit)
        return checked._replace(caches=(ours, theirs))

    zeros = jnp.zeros(len(tokens), jnp.int32)
    last = jnp.take_along_axis(tokens, lengths[:, None] - 1, axis=1)[:, 0]
    out = jnp.zeros((len(tokens), way.new), jnp.int32)
    done = ~batch["alive"] | (way.new == 0)
    start = _Replies(last, out, zeros, zeros, done, (target.cache, judge.cache))
    end = jax.lax.while_loop(lambda replies: ~jnp.all(replies.done), advance, start)
    return end.out, end.written, end.replaced


def _draft(target: _Decoder, last: jax.Array, slot: jax.Array, cache: Any, horizon: int):
    """The model's next tokens `[B, H]`, their log-probabilities, and its cache."""

    def one(carry, step):
        token, cache = carry
        logits, cache = target.forward(token[:, None], slot + step, cache)
        token = likeliest(logits[:, 0])
        return (token, cache), (token, _log_share(logits[:, 0], token))

    (_, cache), (tokens, own) = jax.lax.scan(one, (last, cache), jnp.arange(horizon))
    return tokens.T, own.T, cache


def _checked(
    way: _Way, replies: _Replies, drafted: jax.Array, own: jax.Array, logits: jax.Array, limit
) -> _Replies:
    """Replies with a draft's tokens up to the first suspicious one, which is replaced."""
    last, out, written, replaced, done, _ = replies
    order, stops = jnp.arange(way.horizon), jnp.array((*way.stops, BROKEN))
    ends = jnp.isin(drafted, stops)
    real = (jnp.cumsum(ends, axis=1) - ends == 0) & (order < way.new - written[:, None])
    suspicious = real & (own - _log_share(logits, drafted) >= limit)
    if not way.check_tail:
        suspicious &= jnp.all(real, axis=1, keepdims=True)
    first = jnp.where(jnp.any(suspicious, 1), jnp.argmax(suspicious, 1), way.horizon)[:, None]
    chosen = jnp.where(order == first, jnp.argmax(logits, axis=-1), drafted)
    finite = jnp.isfinite(own) & jnp.isfinite(jnp.max(logits, axis=-1))
    chosen = jnp.where(finite, chosen, BROKEN).astype(jnp.int32)
    taken = real & (order <= first) & ~done[:, None]
    rows = jnp.arange(len(drafted))
    # What is not taken is written behind the end, that is, nowhere.
    places = jnp.where(taken, written[:, None] + order, way.new)
    out = out.at[rows[:, None], places].set(chosen, mode="drop")
    count = jnp.sum(taken, axis=1)
    written, replaced = written + count, replaced + jnp.any(taken & (order == first), axis=1)
    last = jnp.where(done, last, chosen[rows, count - 1])
    ended = jnp.any(taken & jnp.isin(chosen, stops), axis=1)
    done = done | ended | (written >= way.new)
    return replies._replace(last=last, out=out, written=written, replaced=replaced, done=done)


def _log_share(logits: jax.Array, token: jax.Array) -> jax.Array:
    """Log-probability of a token under logits `[..., V]`."""
    chosen = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """A model that extends a cache in which every row has its own place.

    Rows are taken back by different numbers of tokens, so one slot for all would leave holes,
    which distances between slots (ALiBi, local windows) would count. Prompts therefore start at
    slot 0, a token's slot is its position, and what lies behind is overwritten before it is seen.
    """

    model: Transformer
    params: Tree
    layers: tuple[Any, ...] | None
    cache: Any

    @staticmethod
    def start(
        model: Transformer, params: Tree, tokens: jax.Array, slots: int, one_by_one: bool
    ) -> _Decoder:
        """With right-padded prompts `[B, S]` in the cache."""
        batch, width = tokens.shape
        cache: Any = init_cache(model.config, batch, slots, params["embed"].dtype)
        layers = None
        if one_by_one:
            layers = unstack(model.config, params["layers"])
            cache = unstack(model.config, cache)
        causal = jnp.broadcast_to(jnp.tril(jnp.ones((width, width), bool)), (batch, width, width))
        _, cache, _ = hidden_states(
            model, params, tokens, mask=causal, cache=cache, unstacked=layers
        )
        # By rows under vmap, for which the other kernels are not made.
        return _Decoder(model.clone(attention="xla"), params, layers, cache)

    def forward(self, tokens: jax.Array, slot: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        """Logits `[B, T, V]` of tokens `[B, T]` that go to the slots from `slot` `[B]` on."""
        axis = 1 if self.layers is None else 0  # of the rows in the cache
        slots = jax.tree.leaves(cache)[0].shape[-2]

        def one_row(tokens, slot, cache):
            places = slot + jnp.arange(len(tokens))
            hidden, cache, _ = hidden_states(
                self.model,
                self.params,
                tokens[None],
                positions=places[None],
                mask=(jnp.arange(slots) <= places[:, None])[None],
                cache=jax.tree.map(lambda part: jnp.expand_dims(part, axis), cache),
                slot=slot,
                unstacked=self.layers,
            )
            return hidden[0], jax.tree.map(lambda part: jnp.squeeze(part, axis), cache)

        by_rows = jax.vmap(one_row, in_axes=(0, 0, axis), out_axes=(0, axis))
        hidden, cache = by_rows(tokens, slot, cache)
        return unembed(self.model, self.params, hidden), cache
