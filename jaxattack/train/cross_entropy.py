"""Cross entropy that never holds all logits and skips the positions without a loss.

In an instruction pair most tokens are not predicted, and with 256k tokens in the vocabulary the
logits outweigh the model. Positions are therefore sorted, those with a weight first, and worked off
in chunks until none is left. On a CPU the vocabulary is worked off in blocks as well, which stay in
its cache. The gradient is taken in the same pass: of one chunk logits are kept, computed once. That
of a head that is not trained is not taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.models.attention import soft_cap

# Logits held at once; on a CPU of so many words, or its cache would not hold them.
LOGITS, CPU_LOGITS, CPU_WORDS = 1 << 28, 1 << 20, 4096
# Entries of a head's rows that are gathered at once, where each device holds some of its columns.
GATHERED = 1 << 26


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def cross_entropy(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    softcap: float = 0.0,
    chunk: int = 0,
) -> jax.Array:
    """Weighted sum of `-log softmax(hidden @ head.T)[target]` (nats), in float32.

    Only `hidden` and `head` have gradients, and only once (no Hessians).

    Args:
        hidden: `[B, T, D]`.
        head: `[V, D]`.
        targets: int `[B, T]`.
        weights: float `[B, T]`; positions with weight 0 cost nothing.
        softcap: logits become `softcap * tanh(logits / softcap)` if it is not 0.
        chunk: positions worked off at once; 0 chooses by the size of the logits.
    """
    return _forward(hidden, head, targets, weights, _How(softcap, chunk))[0]


def _forward(hidden, head, targets, weights, how):
    """The weighted sum, and its gradients by `hidden` and `head` (or None)."""
    local = functools.partial(_on_one_device, how=how)
    mesh = sharding.current_mesh()
    if mesh is None:
        return local(hidden, head, targets, weights)
    # By hand, for the compiler would gather all of the head, and have as large a gradient.
    rows = sharding.fit(sharding.BATCH, targets.shape, mesh)
    words = sharding.fitted(HEAD, head.shape, mesh)
    placed = how._replace(row_axes=rows[0] if rows else (), head=HeadAxes.of(words, mesh))
    return jax.shard_map(
        functools.partial(local, how=placed),
        in_specs=(rows, words, rows, rows),
        out_specs=(P(), rows if how.of_hidden else None, words if how.of_head else None),
        check_vma=False,
    )(hidden, head, targets, weights)


HEAD = P("tensor", "fsdp")  # how the head `[V, D]` is split


class HeadAxes(NamedTuple):
    """The axes of the mesh that split a head's words and its columns; () of what is whole.

    Of a block of words all columns are gathered, and of its gradient each device keeps its own:
    none of them ever holds more than a block of either.
    """

    words: Any = ()
    columns: Any = ()

    @classmethod
    def of(cls, spec: P, mesh: AbstractMesh) -> HeadAxes:
        """Those of a spec like `HEAD`, and of a mesh."""
        words, columns = (*spec, None, None)[:2]
        return cls(words or (), columns if columns and mesh.shape[columns] > 1 else ())

    def most(self, size: int) -> int | None:
        """How many words of `size` columns may be gathered at once; None: there is no need to."""
        return max(1, GATHERED // size) if self.columns else None

    def gather(self, block: jax.Array) -> jax.Array:
        """A block of words `[W, D]`, of the device's columns of it."""
        if not self.columns:
            return block
        return jax.lax.all_gather(block, self.columns, axis=1, tiled=True)

    def scatter(self, gradient: jax.Array, row_axes: tuple[str, ...]) -> jax.Array:
        """The device's columns of a gradient `[W, D]`, summed over rows on the columns' axis."""
        if not self.columns:
            return gradient
        if self.columns in row_axes:
            return jax.lax.psum_scatter(gradient, self.columns, scatter_dimension=1, tiled=True)
        size = gradient.shape[1] // jax.lax.axis_size(self.columns)
        start = jax.lax.axis_index(self.columns) * size
        return jax.lax.dynamic_slice_in_dim(gradient, start, size, axis=1)

    def left(self, row_axes: tuple[str, ...]) -> tuple[str, ...]:
        """Over which axes a gradient is still to be summed after `scatter`."""
        return tuple(axis for axis in row_axes if axis != self.columns)


class _How(NamedTuple):
    """What is computed, and the axes of the mesh that split rows and words."""

    softcap: float
    chunk: int
    of_hidden: bool = False  # a gradient
    of_head: bool = False  # beside that of the hidden states
    row_axes: Any = ()
    head: HeadAxes = HeadAxes()


def _on_one_device(hidden, head, targets, weights, how):
    """`_forward` for a device's rows and words."""
    on_cpu, count, size = jax.default_backend() == "cpu", weights.size, hidden.shape[-1]
    words = min(head.shape[0], CPU_WORDS if on_cpu else head.shape[0])
    chunk = how.chunk or max(1, (CPU_LOGITS if on_cpu else LOGITS) // words)
    chunk = min(count, chunk)
    words = min(words, how.head.most(size) or words)
    first_word = jax.lax.axis_index(how.head.words) * head.shape[0] if how.head.words else 0
    flat = jnp.asarray(hidden).reshape(-1, size)
    target = jnp.asarray(targets).reshape(-1, 1) - first_word
    weight = jnp.where(weights == 0, 0.0, weights).astype(jnp.float32).reshape(-1, 1)
    order = jnp.argsort(weight[:, 0] == 0, stable=True)  # those with a weight first
    places = jnp.pad(order, (0, -count % chunk))
    needed = jnp.sum(weight != 0)

    def one_chunk(i, state):
        total, d_sorted, d_head = state
        here = jax.lax.dynamic_slice_in_dim(places, i * chunk, chunk)
        # What fills up the last chunk looks at a state that has a weight, at none.
        is_own = i * chunk + jnp.arange(chunk) < needed
        here, own = jnp.where(is_own, here, order[0]), jnp.where(is_own[:, None], weight[here], 0.0)
        states = flat[here]
        if how.head.columns:  # a device may have no state with a weight, and goes along
            states = jnp.where(needed > 0, states, 0)
        part = _Part(states, head, target[here], words, how)
        top, share, chosen, kept = part.sums(how.of_hidden)
        highest = jax.lax.pmax(top, how.head.words)
        share, chosen = jax.lax.psum((share * jnp.exp(top - highest), chosen), how.head.words)
        log_sum = jnp.log(share) + highest
        total = total + jnp.sum(own * (log_sum - chosen))
        if kept is None:
            return total, d_sorted, d_head
        d_states, d_head = part.gradients(kept, log_sum, own, d_head)
        return total, jax.lax.dynamic_update_slice(d_sorted, d_states, (i * chunk, 0)), d_head

    state: tuple = (jnp.float32(0.0), None, None)
    if how.of_hidden:
        d_sorted = jnp.zeros((len(places), size), hidden.dtype)
        d_head = jnp.zeros(head.shape, jnp.float32) if how.of_head else None
        state = (state[0], d_sorted, d_head)
    chunks = (needed + chunk - 1) // chunk
    if how.head.columns:  # nobody gathers alone
        chunks = jax.lax.pmax(chunks, how.head.columns)
    total, d_hidden, d_head = jax.lax.fori_loop(0, chunks, one_chunk, state)
    if how.of_hidden:
        d_hidden = d_hidden[jnp.argsort(order)].reshape(hidden.shape)
        d_hidden = jax.lax.psum(d_hidden, how.head.words)
        d_head = jax.lax.psum(d_head, how.head.left(how.row_axes))
    return jax.lax.psum(total, how.row_axes), d_hidden, d_head


class _Part(NamedTuple):
    """Some states before all words of a device, `words` of them at a time.

    `target` is the right word's place among the device's; elsewhere it may be any other number.
    """

    states: jax.Array  # [N, D]
    head: jax.Array  # [V, D], or some columns of it
    target: jax.Array  # [N, 1]
    words: int
    how: _How

    def blocks(self, add: Callable[..., Any], state: Any) -> Any:
        """`add(number, start, state)` for each block of words, one after the other.

        The last block begins so that it is as long as the others.
        """
        last = self.head.shape[0] - self.words

        def one(i, state):
            return add(i, jnp.minimum(i * self.words, last), state)

        return jax.lax.fori_loop(0, self.parts, one, state) if last else one(0, state)

    @property
    def parts(self) -> int:
        """Of blocks."""
        return -(-self.head.shape[0] // self.words)

    def block(self, start: jax.Array) -> jax.Array:
        """The rows of a block's words."""
        return self.how.head.gather(jax.lax.dynamic_slice_in_dim(self.head, start, self.words))

    def sums(self, keep: bool) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
        """Highest logit, sum of `exp(logit - highest)`, the target's logit or 0; each `[N, 1]`.

        And, if they are to be kept, the logits of each block; minus infinity of words that have
        been in one before.
        """

        def add(i, start, state):
            top, share, chosen, kept = state
            logits = jnp.matmul(
                self.states, self.block(start).T, preferred_element_type=jnp.float32
            )
            logits = soft_cap(logits, self.how.softcap)
            word = start + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
            new = word >= i * self.words
            logits = jnp.where(new, logits, -jnp.inf)
            # A comparison, not a gather: the target may be another device's word.
            hit = jnp.where((word == self.target) & new, logits, 0.0)
            higher = jnp.maximum(top, jnp.max(logits, axis=-1, keepdims=True))
            more = jnp.sum(jnp.exp(logits - higher), axis=-1, keepdims=True)
            share = share * jnp.exp(top - higher) + more
            chosen = chosen + jnp.sum(hit, axis=-1, keepdims=True)
            if keep:
                kept = jax.lax.dynamic_update_index_in_dim(kept, logits, i, axis=0)
            return higher, share, chosen, kept

        none, shape = jnp.zeros((len(self.states), 1)), (self.parts, len(self.states), self.words)
        return self.blocks(add, (none - jnp.inf, none, none, jnp.zeros(shape) if keep else None))

    def gradients(
        self, kept: jax.Array, log_sum: jax.Array, weight: jax.Array, d_head: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        """By the states, and `d_head` (None is not wanted) with what they add to it, in float32."""

        def add(i, start, state):
            d_states, d_head = state
            logits = jax.lax.dynamic_index_in_dim(kept, i, axis=0, keepdims=False)
            word = start + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
            hit = (word == self.target) & (word >= i * self.words)
            d_logits = (jnp.exp(logits - log_sum) - hit) * weight
            if self.how.softcap:
                inside = jnp.where(jnp.isfinite(logits), logits, 0.0)
                d_logits = d_logits * (1.0 - (inside / self.how.softcap) ** 2)
            d_logits = d_logits.astype(self.states.dtype)
            part = jnp.matmul(d_logits, self.block(start), preferred_element_type=jnp.float32)
            if d_head is None:
                return d_states + part, None
            here = jax.lax.dynamic_slice_in_dim(d_head, start, self.words)
            product = jnp.matmul(d_logits.T, self.states, preferred_element_type=jnp.float32)
            product = self.how.head.scatter(product, self.how.row_axes)
            d_head = jax.lax.dynamic_update_slice_in_dim(d_head, here + product, start, axis=0)
            return d_states + part, d_head

        none = jnp.zeros(self.states.shape, jnp.float32)
        d_states, d_head = self.blocks(add, (none, d_head))
        return d_states.astype(self.states.dtype), d_head


def _with_gradient(hidden, head, targets, weights, softcap, chunk):
    how = _How(softcap, chunk, of_hidden=True, of_head=head.perturbed)
    total, d_hidden, d_head = _forward(hidden.value, head.value, targets.value, weights.value, how)
    if d_head is not None:
        d_head = d_head.astype(head.value.dtype)
    return total, (d_hidden, d_head)


def _pull_back(softcap, chunk, gradients, scale):
    d_hidden, d_head = (
        part if part is None else part * scale.astype(part.dtype) for part in gradients
    )
    return d_hidden, d_head, None, None


cross_entropy.defvjp(_with_gradient, _pull_back, symbolic_zeros=True)
