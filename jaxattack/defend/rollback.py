"""Gradient rollback: weights go back to the aligned model where that restores a direction most.

Yang et al. 2025 ("Alleviating the Fear of Losing Alignment in LLM Fine-tuning", IEEE S&P): tuning
turns the direction in which a model's states of harmful prompts lie. Step after step the gradient
of

    L_harmful(theta) = -cos(mean state of harmful rows, the true direction)

is taken at the weights of layers below a third of all, norms left out. Those whose change by the
attack has the gradient's sign would lower the loss by going back; of these the share with the
largest |gradient| is set to its aligned value. Then some of what a step has put back is undone, for
the benign direction's sake.

From descriptions and settings, not from the paper's text, and so reconstructed by us:

- a row's state is the final normalised one at the last token of its prompt; the mean is over the
  rows of a batch, the loss over batches, and every step goes through all rows;
- the true direction is the mean state of all harmful rows in the aligned model, and for benign rows
  of the attacked model, whose skill is to stay;
- the share counts all weights of the model, in each step anew;
- "warm-up" are first steps after which nothing is undone; after each later one, of the weights it
  put back the given share is undone, those with the largest |gradient| of L_benign among the ones
  whose undoing lowers it. A weight undone may be put back again.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.data.batches import in_order
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.localize import masks, stitching
from jaxattack.models.config import check_tokens
from jaxattack.models.transformer import Transformer, hidden_states
from jaxattack.progress import track
from jaxattack.train.rounding import as_types, forward_types
from jaxattack.tree import Tree

TINY = 1e-12  # the least norm of a mean state


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much goes back, and when.

    Attributes:
        share: of all weights, put back by each step. A large one overshoots: the gradient says
            what a weight does alone, and little of it.
        steps: how many.
        warmup: first steps after which nothing is undone.
        undone: share of what a step has put back that is undone after it.
        depth: share of the layers, from the first on, whose weights may go back.
        batch_size: rows at a time.

    Raises:
        UserError: a value out of its range.
    """

    share: float
    steps: int = 20
    warmup: int = 5
    undone: float = 0.2
    depth: float = 1 / 3
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name in ("share", "undone", "depth"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; it is a share, in [0, 1]")
        for name, least in (("steps", 1), ("warmup", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                value = getattr(self, name)
                raise UserError(f"{name} is {value}; it should be at least {least}")


def rolled_back(
    model: Transformer,
    attacked: Tree,
    aligned: Tree,
    harmful: Arrays,
    benign: Arrays,
    plan: Plan,
    label: str = "gradient rollback",
    dtype: str | None = None,
) -> tuple[Tree, dict[str, np.ndarray]]:
    """Put weights of the attacked model back.

    Args:
        model: the decoder.
        attacked: parameters after the tuning that broke alignment; left as they are.
        aligned: parameters before it.
        harmful: rows (see `encode_pairs`) whose prompts should be refused; their answers are not
            read.
        benign: rows of the tuning's own task.
        plan: shares and steps.
        label: what the progress bar says.
        dtype: in which the states are computed, as for `finetune`.

    Returns:
        the parameters, each weight with the bits of one of the two models; and before each step
        `harmful`, the loss, after it `restored` and `undone`, counts of weights, each `[steps]`.

    Raises:
        UserError: models of two shapes, token ids beyond the vocabulary, or no row
            has a prompt and an answer.
    """
    tree.check_same_shapes("the aligned model", aligned, "the attacked model", attacked)
    mesh = sharding.mesh_of(attacked)
    attacked, aligned = sharding.place(attacked, mesh), sharding.place(aligned, mesh)
    aligned = jax.tree.map(lambda old, new: old.astype(new.dtype), aligned, attacked)
    directions = Directions(model, mesh, forward_types(attacked, dtype, label))
    refusing = directions.aim(aligned, harmful, plan.batch_size, label)
    helping = directions.aim(attacked, benign, plan.batch_size, label)
    eligible = low_layers(attacked, plan.depth)
    current = attacked
    history: dict[str, list[float]] = {"harmful": [], "restored": [], "undone": []}
    for step in track(range(plan.steps), label):
        loss, slope = directions.gradient(current, refusing)
        chosen = masks.top_fraction(_gain(slope, aligned, current, eligible), plan.share)
        current = stitching.rewind(current, aligned, chosen)
        restored, undone = masks.count(chosen), 0
        if step >= plan.warmup and plan.undone and restored:
            _, slope = directions.gradient(current, helping)
            share = plan.undone * restored / tree.size(current)
            back = masks.top_fraction(_gain(slope, attacked, current, chosen), share)
            current, undone = stitching.rewind(current, attacked, back), masks.count(back)
        for name, value in (("harmful", loss), ("restored", restored), ("undone", undone)):
            history[name].append(value)
    return current, {name: np.array(values) for name, values in history.items()}


def low_layers(params: Tree, depth: float) -> Tree:
    """Mask of the weights of layers number l < depth * L (from 0), norms left out."""

    def choose(name: str, leaf: jax.Array) -> jax.Array:
        if not name.startswith("layers/") or re.search("norm", name):
            return jnp.zeros_like(leaf, bool)
        low = jnp.arange(leaf.shape[0]) < depth * leaf.shape[0]
        return jnp.ones_like(leaf, bool) & low.reshape(-1, *[1] * (leaf.ndim - 1))

    return tree.map_named(choose, params)


@jax.jit
def _gain(slope: Tree, goal: Tree, current: Tree, eligible: Tree) -> Tree:
    """`|slope|` of the eligible weights whose going to `goal` lowers the loss to first order."""

    def gain(slope, there, here, may):
        away = here.astype(jnp.float32) - there.astype(jnp.float32)
        return jnp.where(may & (jnp.sign(away) * jnp.sign(slope) > 0), jnp.abs(slope), 0.0)

    return jax.tree.map(gain, slope, goal, current, eligible)


@dataclasses.dataclass(frozen=True)
class Directions:
    """Where the states of rows lie, for a model on a mesh; `forward` as in `loop.Training`."""

    model: Transformer
    mesh: Mesh
    forward: tuple[str, ...] | None = None

    def aim(
        self, params: Tree, rows: Arrays, batch_size: int, label: str
    ) -> tuple[list[Arrays], jax.Array]:
        """The rows in batches, and the mean of their states `[D]` in this model."""
        check_tokens(self.model.config, rows["tokens"], f"{label}: row")
        places = last_of_prompt(rows)
        kept = np.flatnonzero(places >= 0)
        if not len(kept):
            raise UserError(f"{label}: no row has a prompt and an answer")
        batches = in_order(
            {
                "tokens": rows["tokens"][kept],
                "segment_ids": rows["segment_ids"][kept],
                "last": places[kept],
                "real": np.ones(len(kept), np.float32),
            },
            batch_size,
        )
        placed = [sharding.place_filled(batch, self.mesh) for batch in batches]
        sums = [_state_sum(self, params, batch) for batch in placed]
        return placed, sum(sums[1:], sums[0]) / len(kept)

    def gradient(
        self, params: Tree, aimed: tuple[Sequence[Arrays], jax.Array]
    ) -> tuple[float, Tree]:
        """Mean over batches of the loss, and its gradient in float32."""
        batches, aim = aimed
        total = jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.float32), params)
        losses = []
        for batch in batches:
            loss, total = _add_gradient(self, total, params, batch, aim)
            losses.append(loss)
        slope = jax.tree.map(lambda leaf: leaf / len(batches), total)
        return float(np.mean([float(loss) for loss in losses])), slope


def last_of_prompt(rows: Arrays) -> np.ndarray:
    """The place of each row's last token before its answer, int32 `[N]`; -1 where there is none."""
    answer = rows["loss_mask"] > 0
    return np.where(answer.any(axis=1), answer.argmax(axis=1) - 1, -1).astype(np.int32)


def direction_loss(model: Transformer, params: Tree, batch: Tree, aim: jax.Array) -> jax.Array:
    """`-cos` of the mean state of the batch's rows to `aim` `[D]`, in float32."""
    mean = _sum_of_states(model, params, batch) / jnp.maximum(jnp.sum(batch["real"]), 1.0)
    norms = jnp.linalg.norm(mean) * jnp.linalg.norm(aim)
    return -jnp.vdot(mean, aim) / jnp.maximum(norms, TINY)


def _sum_of_states(model: Transformer, params: Tree, batch: Tree) -> jax.Array:
    hidden, _, _ = hidden_states(model, params, batch["tokens"], segment_ids=batch["segment_ids"])
    states = jnp.take_along_axis(hidden, batch["last"][:, None, None], axis=1)[:, 0]
    return jnp.sum(states.astype(jnp.float32) * batch["real"][:, None], axis=0)


def _seen(directions: Directions, params: Tree) -> Tree:
    return params if directions.forward is None else as_types(params, directions.forward)


@functools.partial(jax.jit, static_argnums=0)
def _state_sum(directions: Directions, params: Tree, batch: Tree) -> jax.Array:
    with sharding.within(directions.mesh):
        return _sum_of_states(directions.model, _seen(directions, params), batch)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _add_gradient(
    directions: Directions, total: Tree, params: Tree, batch: Tree, aim: jax.Array
) -> tuple[jax.Array, Tree]:
    """The loss of a batch; `total` with its gradient added."""

    def loss_of(params):
        return direction_loss(directions.model, _seen(directions, params), batch, aim)

    with sharding.within(directions.mesh):
        loss, slope = jax.value_and_grad(loss_of)(params)
    total = jax.tree.map(lambda so_far, leaf: so_far + leaf.astype(jnp.float32), total, slope)
    return loss, sharding.keep(total, directions.mesh)
