"""Safe Delta: of the fine-tuning's changes those are kept that safe rows hardly feel.

Lu et al. 2025. What a change `Delta` `[I, O]` of a matrix does to its outputs on safe rows X is
`tr(Delta^T H Delta)`, with `H = X^T X` of the aligned model. `U` is the upper triangle with
`H^-1 = U^T U`: `U_ii^2` is the entry of input i in the inverse of H without the inputs before it.
An entry's change delta then costs `delta^2 / U_ii^2`, once the inputs behind it make up for it as
well as they can (the optimal brain surgeon, Hassibi & Stork 1993; the sweep is SparseGPT's, Frantar
& Alistarh 2023). Entries are taken by `1 / U_ii^2`, the smallest first, which is the order of
`delta^2` over cost, and their changes kept while the summed cost is within the budget.

Papers' columns, one for each input, are rows here, for W is `[I, O]`; H is over inputs in both.

Formula, order, damping and budget are those of the authors' program, in our own words. Ours:

- A matrix is one block. The program cuts the inputs into blocks of 2,048, gives each
  `s/2 mean(1/U^2) O/4096`, and chooses in a block after the blocks before it were corrected. One
  block has the sum of these budgets, `s mean(1/U^2) I O / 4096^2`, and is chosen at once.
- The correction is exact, input by input. The program takes four inputs at a time and leaves out
  what they do to each other.
- Inputs of the same cost, so all entries of one input, are taken in their order in the matrix.
- An input that no row uses has the damping alone in H, where the program has 1 as well.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.defend import matrices
from jaxattack.errors import UserError
from jaxattack.localize.importance import READS
from jaxattack.models.config import check_tokens
from jaxattack.models.transformer import INPUTS, Transformer
from jaxattack.progress import track
from jaxattack.tree import Tree

WIDTH = 4096  # of Llama-2-7B: the budget is for a matrix as large as its
BLOCK = 128  # inputs that are corrected before the others hear of it


def second_moments(model: Transformer, params: Tree, batches: Sequence[Arrays]) -> Tree:
    """`X^T X / n` of what every matrix multiplies, over the n real tokens of all batches.

    The mean, for a factor on H changes nothing in `kept`. Matrices that read the same input share
    an array. It is large: for an 8B Llama the inputs of `down` alone take 26 GB.

    Args:
        model: the decoder.
        params: its parameters, the aligned ones.
        batches: safe rows, arrays `[B, T]`; padding (segment 0) is not counted.

    Returns:
        float32 `[L, I, I]` in the matrices' places, and nothing else.

    Raises:
        UserError: no real token, or token ids beyond the vocabulary.
    """
    mesh = sharding.mesh_of(params)
    check_tokens(model.config, (batch["tokens"] for batch in batches), "Safe Delta: batch")
    count = sum(int((np.asarray(batch["segment_ids"]) > 0).sum()) for batch in batches)
    if not count:
        raise UserError("Safe Delta: no row has a token")
    places, totals = {}, {}
    for name, matrix in matrices.views(params).items():
        *_, module, last = name.split("/")
        places[name] = f"{module}/{READS[last]}"
        layers, inputs, _ = matrix.shape
        totals[places[name]] = jnp.zeros((layers, inputs, inputs), jnp.float32)
    for batch in track(batches, "Safe Delta"):
        totals = _grow(model, mesh, totals, params, sharding.place_filled(batch, mesh))
    means = {place: total / count for place, total in totals.items()}
    return tree.unflatten({name: means[place] for name, place in places.items()})


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _grow(
    model: Transformer, mesh: Mesh, totals: dict[str, Any], params: Tree, batch: Tree
) -> dict[str, Any]:
    """The sums `[L, I, I]` with those of a batch's real tokens."""
    with sharding.within(mesh):
        _, kept = model.clone(summary=_products).apply(
            {"params": params},
            batch["tokens"],
            segment_ids=batch["segment_ids"],
            positions=batch.get("positions"),
            method="hidden",
            mutable=[INPUTS],
        )

    def products(place: str) -> jax.Array:
        module, sown = place.split("/")
        (found,) = kept[INPUTS]["layers"][module][sown]  # a tuple, one entry for each time
        return found

    return {place: total + products(place) for place, total in totals.items()}


def _products(x: jax.Array, segments: jax.Array) -> jax.Array:
    """Sum `[I, I]` over real tokens of the products of their inputs `[B, T, I]`."""
    x = jnp.where((segments > 0)[..., None], x.astype(jnp.float32), 0.0)
    return jnp.einsum("bti,btj->ij", x, x, precision=matrices.EXACT)


def kept(
    aligned: Tree,
    attacked: Tree,
    moments: Tree,
    budget: float = 0.11,
    damping: float = 0.01,
    last: float = 0.15,
    correct: bool = True,
) -> Tree:
    """The aligned weights with the changes of the fine-tuning that safe rows hardly feel.

    Args:
        aligned: parameters before the fine-tuning.
        attacked: parameters after it.
        moments: of the aligned model on safe rows, see `second_moments`.
        budget: s; a matrix's summed cost is at most `s mean(1 / U^2) I O / 4096^2`.
        damping: added to the diagonal of H, as a share of its mean; above 0.
        last: share of a matrix's entries that are never kept, the last in order.
        correct: whether entries that are not kept make up for those that are, so that on safe rows
            the outputs change less; without, they are the aligned ones.

    Returns:
        a tree in the types of `attacked`; what is no matrix of a block is aligned.

    Raises:
        UserError: a value out of its range, trees of other shapes, or moments that are not
            those of this model or have no inverse.
    """
    if not budget >= 0:
        raise UserError(f"Safe Delta: the budget is {budget}; it should be 0 or above")
    if not damping > 0:
        raise UserError(f"Safe Delta: the damping is {damping}; it should be above 0")
    if not 0 <= last <= 1:
        raise UserError(f"Safe Delta: last is {last}; it should be a share in [0, 1]")
    tree.check_same_shapes("the attacked model", attacked, "the aligned model", aligned)
    _check_moments(moments, aligned)
    tree.check_same_devices(
        {"the moments": moments, "the attacked model": attacked, "the aligned model": aligned}
    )
    after, named = matrices.views(attacked), tree.named_leaves(moments)

    def keep(name: str, before: jax.Array) -> jax.Array:
        size = before[0].size
        ahead = size - math.floor(last * size)
        new, sound = _kept(before, after[name], named[name], budget, damping, ahead, correct)
        if not bool(jnp.all(sound)):
            raise UserError(f"Safe Delta: the moments of {name} have no inverse; damp them more")
        return new

    start = jax.tree.map(lambda old, new: old.astype(new.dtype), aligned, attacked)
    found = {name: keep(name, before) for name, before in matrices.views(aligned).items()}
    return matrices.put_back(start, found)


def _check_moments(moments: Tree, aligned: Tree) -> None:
    wanted = {
        name: jax.ShapeDtypeStruct((m.shape[0], m.shape[1], m.shape[1]), jnp.float32)
        for name, m in matrices.views(aligned).items()
    }
    tree.check_same_shapes("the moments", moments, "the model", tree.unflatten(wanted))


@functools.partial(jax.jit, static_argnums=6)
def _kept(
    aligned: jax.Array,
    attacked: jax.Array,
    moments: jax.Array,
    budget: float,
    damping: float,
    ahead: int,
    correct: bool,
) -> tuple[jax.Array, jax.Array]:
    """A matrix of all layers `[L, I, O]`, and of each whether its moments had an inverse."""

    def layer(three: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        before, after = (matrix.astype(jnp.float32) for matrix in three[:2])
        upper = _root_of_inverse(three[2], damping)
        mask = _within_budget(after - before, jnp.diagonal(upper) ** -2.0, budget, ahead)
        others = _corrected(before, after, mask, upper) if correct else before
        sound = jnp.all(jnp.isfinite(upper))
        return jnp.where(mask, three[1], others.astype(attacked.dtype)), sound

    return jax.lax.map(layer, (aligned, attacked, moments))


def _root_of_inverse(moments: jax.Array, damping: float) -> jax.Array:
    """The upper triangle U with `(H + damping mean(diag H) I)^-1 = U^T U`, at mean diagonal 1.

    Without the inverse itself: upside down, the Cholesky factor of H is an upper triangle R with
    `H = R R^T`, and U is the inverse of R.
    """
    size = len(moments)
    damped = moments / jnp.mean(jnp.diagonal(moments)) + damping * jnp.eye(size)
    upper = jnp.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return jax.scipy.linalg.solve_triangular(upper, jnp.eye(size), lower=False)


def _within_budget(change: jax.Array, factor: jax.Array, budget: float, ahead: int) -> jax.Array:
    """Which entries of a change `[I, O]` are kept, of the first `ahead` by `1 / U_ii^2` `[I]`."""
    inputs, outputs = change.shape
    order = jnp.argsort(factor, stable=True)
    factor = factor / jnp.mean(factor)  # then the budget is one of squares of changes
    costs = (change * change * factor[:, None])[order]
    by_input = jnp.sum(costs, axis=1)
    before = jnp.cumsum(by_input) - by_input
    spent = before[:, None] + jnp.cumsum(costs, axis=1)
    few = spent <= budget * inputs * outputs / WIDTH**2
    place = jnp.arange(inputs)[:, None] * outputs + jnp.arange(outputs)
    return jnp.zeros_like(few).at[order].set(few & (place < ahead))


def _corrected(before: jax.Array, after: jax.Array, mask: jax.Array, upper: jax.Array) -> jax.Array:
    """`[I, O]`, the aligned entries changed to make up for the kept ones, input by input.

    At input i the kept entries leave an error `e_i = (w_i - after_i) / U_ii`, which the inputs
    from i on take off: `w -= U_i^T e_i`. Those beyond a block of inputs take it off once, at the
    block's end, as GPTQ does.
    """
    inputs = len(before)
    blocks = -(-inputs // BLOCK)
    more = blocks * BLOCK - inputs

    def cut(matrix: jax.Array) -> jax.Array:
        return jnp.pad(matrix, ((0, more), (0, 0))).reshape(blocks, BLOCK, -1)

    rows = cut(upper)  # of U, [blocks, BLOCK, inputs]
    rows = jnp.pad(rows, ((0, 0), (0, 0), (0, more)))

    def block(weights: jax.Array, one: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        number, u, target, chosen = one
        start = number * BLOCK
        own = jax.lax.dynamic_slice_in_dim(u, start, BLOCK, axis=1)
        # Rows beyond the last input are 0 in U, and nothing of them is kept.
        scale = jnp.where(jnp.diagonal(own) > 0, jnp.diagonal(own), 1.0)

        def one_input(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> Any:
            w, errors = state
            error = jnp.where(chosen[i], (w[i] - target[i]) / scale[i], 0.0)
            return w - own[i][:, None] * error, errors.at[i].set(error)

        w = jax.lax.dynamic_slice_in_dim(weights, start, BLOCK)
        _, errors = jax.lax.fori_loop(0, BLOCK, one_input, (w, jnp.zeros_like(w)))
        # U's rows are 0 before the block, so that what is done stays.
        return weights - jnp.matmul(u.T, errors, precision=matrices.EXACT), None

    weights = jnp.pad(before, ((0, more), (0, 0)))
    numbers = jnp.arange(blocks)
    weights, _ = jax.lax.scan(block, weights, (numbers, rows, cut(after), cut(mask)))
    return weights[:inputs]
