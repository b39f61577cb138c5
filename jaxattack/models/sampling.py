"""Choosing the next token: the likeliest, or one drawn from what top-k and top-p leave."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack.errors import UserError

# Named, because with others a row's numbers depend on how many rows are drawn together.
PRNG = "threefry2x32"
# In place of a token where the logits are not finite.
BROKEN = -1


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How replies are decoded; greedily by default.

    Raises:
        UserError: a value out of its range.

    Example:
        >>> ja.Sampling(temperature=0.8, top_p=0.9)
        Sampling(temperature=0.8, top_k=0, top_p=0.9)
    """

    temperature: float = 0.0  # divides the logits; 0 takes the likeliest token
    top_k: int = 0  # only so many of the likeliest tokens; 0 for all
    top_p: float = 1.0  # of those, the fewest that hold this share of their probability

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature is {self.temperature}; it should be 0 or above")
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}; it should be 0 (for all) or above")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; it should be above 0 and at most 1")


def seed_words(seed: int) -> np.ndarray:
    """The seed as `prompt_keys` takes it: plain numbers, which every process can hand to jit."""
    return np.asarray(jax.random.key_data(jax.random.key(seed, impl=PRNG)))


def prompt_keys(words: jax.Array, numbers: jax.Array) -> jax.Array:
    """A key `[B]` for every prompt, by its number `[B]` among all prompts of the run.

    So what is drawn does not depend on which prompts are decoded together.
    """
    key = jax.random.wrap_key_data(words, impl=PRNG)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def choose(
    logits: jax.Array, sampling: Sampling, keys: jax.Array, step: int | jax.Array
) -> jax.Array:
    """The next token, int32 `[B]`; `BROKEN` where the likeliest one's logit is not finite.

    Args:
        logits: float32 `[B, V]`.
        sampling: how to choose.
        keys: of the prompts, `[B]`.
        step: how many tokens of the reply there are already.
    """
    finite = jnp.isfinite(jnp.max(logits, axis=-1))
    return jnp.where(finite, _chosen(logits, sampling, keys, step), BROKEN)


def _chosen(logits, sampling, keys, step):
    if sampling.temperature == 0:
        return likeliest(logits)
    # The maximum first, so that a tiny temperature does not overflow.
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    logits = keep_likeliest(logits / sampling.temperature, sampling.top_k, sampling.top_p)
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
    return jax.vmap(jax.random.categorical)(step_keys, logits).astype(jnp.int32)


def likeliest(logits: jax.Array) -> jax.Array:
    """The first of the likeliest tokens, int32 `[B]`.

    Two plain reductions: XLA's argmax on a CPU is six times slower, a third of a small model's
    decoding.
    """
    size = logits.shape[-1]
    best = logits == jnp.max(logits, axis=-1, keepdims=True)
    first = jnp.min(jnp.where(best, jnp.arange(size, dtype=jnp.int32), size), axis=-1)
    return jnp.minimum(first, size - 1)  # of numbers that are none the last


def keep_likeliest(logits: jax.Array, top_k: int, top_p: float) -> jax.Array:
    """Logits `[B, V]` with -inf for the tokens that are not to be drawn.

    First the `top_k` likeliest stay (all if 0), then of these the fewest that together have at
    least the share `top_p` of their probability. Of equally likely tokens the first ones stay.
    """
    size = logits.shape[-1]
    if top_p == 1 and not 0 < top_k < size:
        return logits
    likeliest, tokens = jax.lax.top_k(logits, min(top_k or size, size))
    kept = jnp.ones(tokens.shape, bool)
    if top_p < 1:  # rounding must not cost the last tokens of a share of 1
        shares = jax.nn.softmax(likeliest, axis=-1)
        kept = jnp.cumsum(shares, axis=-1) - shares < top_p
    none = jnp.zeros(logits.shape, bool)
    chosen = jnp.put_along_axis(none, tokens, kept, axis=-1, inplace=False)
    return jnp.where(chosen, logits, -jnp.inf)
