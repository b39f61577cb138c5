"""Generation for many prompts: left-padded buckets, one compiled loop with early exit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.data.dialogues import prompt_tokens
from jaxattack.models.sampling import Sampling, choose, prompt_keys, seed_words
from jaxattack.models.transformer import Transformer, hidden_states, init_cache, unembed, unstack
from jaxattack.progress import track

GREEDY = Sampling()
# Where decoding runs the layers one by one: on a CPU a scan's copies of the cache cost more than
# anything else. Elsewhere the layers' parameters would be copied instead.
ONE_BY_ONE = ("cpu",)


def generate(
    model: Transformer,
    params: tree.Tree,
    tokenizer: Any,
    dialogues: Sequence[str | Sequence[dict[str, str]]],
    max_new_tokens: int = 64,
    batch_size: int = 256,
    label: str = "generating",
    sampling: Sampling = GREEDY,
    seed: int = 0,
    extra_stops: Sequence[int] = (),
) -> list[str]:
    """Replies under the tokenizer's chat template, in the input's order.

    Args:
        model: the decoder.
        params: its parameters.
        tokenizer: Hugging Face tokenizer with a chat template.
        dialogues: texts of user turns, or lists of messages with role and content.
        max_new_tokens: a reply is cut after so many tokens.
        batch_size: prompts decoded together, at most.
        label: what the progress bar says.
        sampling: how tokens are chosen; greedily by default.
        seed: of the sampling; with the prompt's index it fixes what is drawn for a prompt.
        extra_stops: ids that end a reply beside the tokenizer's, for example `eos_token_id` of
            the checkpoint's generation_config.json.

    Returns:
        the replies without special tokens.
    """
    encoded = [prompt_tokens(tokenizer, prompt) for prompt in dialogues]
    replies = generate_tokens(
        model, params, encoded, stop_ids(tokenizer, extra_stops), max_new_tokens, batch_size,
        label, sampling, seed,
    )  # fmt: skip
    return tokenizer.batch_decode(replies, skip_special_tokens=True)


def stop_ids(tokenizer: Any, extra: Sequence[int] = ()) -> tuple[int, ...]:
    """Token ids that end a reply: the tokenizer's and `extra` ones, each once."""
    eos = tokenizer.eos_token_id
    own = () if eos is None else (int(eos),)
    return tuple(dict.fromkeys((*own, *(int(stop) for stop in extra))))


def generate_tokens(
    model: Transformer,
    params: tree.Tree,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[int],
    max_new_tokens: int,
    batch_size: int = 256,
    label: str = "generating",
    sampling: Sampling = GREEDY,
    seed: int = 0,
) -> list[list[int]]:
    """Continuations of token sequences, each up to its stop token (left out)."""
    mesh = sharding.mesh_of(params)
    results: list[list[int]] = [[] for _ in prompts]
    for width, indices in track(buckets([len(p) for p in prompts], batch_size), label):
        # Rows in eighths of a power of two: few shapes to compile, few rows for nothing.
        step = max(8, (1 << (len(indices) - 1).bit_length()) // 8)
        count = -(-len(indices) // step) * step
        tokens = np.zeros((count, width), np.int32)
        starts = np.full(count, width - 1, np.int32)  # filler rows see one token
        numbers = np.zeros(count, np.int32)
        numbers[: len(indices)] = indices
        for row, index in enumerate(indices):
            starts[row] = width - len(prompts[index])
            tokens[row, starts[row] :] = prompts[index]
        placed = sharding.place_batch(
            {"tokens": tokens, "starts": starts, "numbers": numbers}, mesh
        )
        alive = np.arange(count) < len(indices)
        out = sharding.to_host(
            _decode(
                model, tuple(stops), max_new_tokens, mesh, sampling,
                jax.default_backend() in ONE_BY_ONE, params, placed["tokens"],
                placed["starts"], alive, placed["numbers"], seed_words(seed),
            )
        )  # fmt: skip
        for row, index in enumerate(indices):
            results[index] = _until_stop(out[row], stops)
    return results


def buckets(lengths: Sequence[int], batch_size: int) -> list[tuple[int, list[int]]]:
    """Group prompts of like length: (padded width, indices), at most `batch_size` indices each.

    Widths are powers of two from 32 on, so few shapes are compiled.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[tuple[int, list[int]]] = []
    for index in order:
        width = max(32, 1 << (lengths[index] - 1).bit_length())
        if not groups or groups[-1][0] != width or len(groups[-1][1]) == batch_size:
            groups.append((width, []))
        groups[-1][1].append(index)
    return groups


def _until_stop(tokens: np.ndarray, stops: Sequence[int]) -> list[int]:
    ended = np.flatnonzero(np.isin(tokens, stops))
    return tokens[: ended[0] if len(ended) else len(tokens)].tolist()


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _decode(
    model: Transformer,
    stops: tuple[int, ...],
    new: int,
    mesh: Mesh,
    sampling: Sampling,
    one_by_one: bool,
    params: tree.Tree,
    tokens: jax.Array,
    starts: jax.Array,
    alive: jax.Array,
    numbers: jax.Array,
    seed: jax.Array,
) -> jax.Array:
    """New tokens `[B, new]` after left-padded prompts `[B, S]` that begin at `starts` `[B]`."""
    batch, width = tokens.shape
    slots = jnp.arange(width + new)
    stop_list = jnp.array(stops or (-1,))
    with sharding.within(mesh):
        cache: Any = init_cache(model.config, batch, width + new, params["embed"].dtype)
    unstacked = None
    if one_by_one:
        unstacked = unstack(model.config, params["layers"])
        cache = unstack(model.config, cache)
    keys = prompt_keys(seed, numbers)

    def forward(tokens, slot, cache, step):
        length = tokens.shape[1]
        places = slot + jnp.arange(length)
        here = slots[: width if length > 1 else None]  # the prompt does not see what follows
        # A padded query sees its own slot at least, so that no softmax is over nothing.
        seen = (here >= starts[:, None])[:, None] | (here == places[:, None])[None]
        mask = seen & (here <= places[:, None])[None]
        positions = jnp.maximum(places - starts[:, None], 0)
        with sharding.within(mesh):
            hidden, cache, _ = hidden_states(
                model, params, tokens, positions=positions, mask=mask, cache=cache, slot=slot,
                unstacked=unstacked,
            )  # fmt: skip
            logits = unembed(model, params, hidden[:, -1])
        return choose(logits, sampling, keys, step), cache

    def running(state):
        step, _, _, _, done = state
        return (step < new) & ~jnp.all(done)

    def advance(state):
        step, token, out, cache, done = state
        out = out.at[:, step].set(jnp.where(done, 0, token))
        done = done | jnp.isin(token, stop_list)
        token, cache = forward(token[:, None], width + step, cache, step + 1)
        return step + 1, token, out, cache, done

    token, cache = forward(tokens, 0, cache, 0)
    # What is not written stays a stop token: a row that is done needs no more.
    out = jnp.full((batch, new), stop_list[0], jnp.int32)
    _, _, out, _, _ = jax.lax.while_loop(running, advance, (0, token, out, cache, ~alive))
    return out
