"""What a training refuses: before its first step, and when it has destroyed the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.models.config import check_tokens
from jaxattack.models.transformer import Transformer
from jaxattack.train.losses import answer_loss, predicted
from jaxattack.train.optimizer import Settings
from jaxattack.tree import Tree

GROWTH = 1e3  # of the largest weight, beyond which training has destroyed a model


def check_given(
    model: Transformer,
    params: Tree,
    batches: Sequence[Any],
    trainable: Tree | None,
    loss_fn: Any,
    spared: Tree | None,
    label: str,
) -> None:
    """Refuse what a model cannot be trained on.

    Args:
        model: the decoder.
        params: where it starts.
        batches: that it is trained on.
        trainable: the mask.
        loss_fn: the loss.
        spared: weights that are wanted beside those whose memory is given away; None: it is not.
        label: of the training.

    Raises:
        UserError: no batches, token ids beyond the vocabulary, a mask of another model, no answer
            to learn, or weights that are given away and wanted.
    """
    if not batches:
        raise UserError(f"{label}: no batches, the data is empty")
    if isinstance(model, Transformer):  # a loss of one's own may be of something else
        check_tokens(model.config, _tokens(batches), f"{label}: batch")
    if trainable is not None:
        tree.check_same_shapes("the mask", trainable, "the model", params)
        if any(leaf.dtype != bool for leaf in jax.tree.leaves(trainable)):
            raise UserError(f"{label}: a mask is a tree of bools; scores become one by a threshold")
    check_learnable(batches, loss_fn, label)
    check_spare(params, spared, label)


def of_answers(loss_fn: Any) -> bool:
    """Whether a loss is that of answers, or has it within, as that of adapters."""
    return getattr(loss_fn, "loss_fn", loss_fn) is answer_loss


def check_learnable(batches: Sequence[Any], loss_fn: Any, label: str) -> None:
    """Refuse batches of which a loss of answers can learn none; other losses read what they like.

    One with more to it than answers says so itself (`reads_answers`); of several kinds of rows each
    has to have some.

    Raises:
        UserError: an array is missing or of the wrong kind, or no token is to be predicted.
    """
    inner = getattr(loss_fn, "loss_fn", loss_fn)
    if not (of_answers(loss_fn) or getattr(inner, "reads_answers", False)):
        return
    kinds = [kind for kind, rows in batches[0].items() if isinstance(rows, dict)]
    for kind in kinds:
        check_answers([batch[kind] for batch in batches], f"{label}, {kind} rows")
    if not kinds:
        check_answers(batches, label)


def check_answers(batches: Sequence[Any], label: str) -> None:
    """Refuse batches without a single answer token.

    Raises:
        UserError: an array is missing or of the wrong kind, or no token is to be predicted.
    """
    learned, names = False, ("tokens", "loss_mask", "segment_ids")
    for batch in batches:
        lacking = [name for name in names if name not in batch]
        if lacking:
            raise UserError(f"{label}: a batch has no {lacking[0]} (encode_pairs makes all three)")
        if any(getattr(batch[name], "ndim", 0) != 2 for name in names):
            raise UserError(f"{label}: a batch's arrays are [B, T], two axes each")
        if not np.issubdtype(batch["tokens"].dtype, np.integer):
            raise UserError(f"{label}: tokens are {batch['tokens'].dtype}, not whole numbers")
        learned = learned or bool(np.any(predicted(batch)))
    if not learned:
        raise UserError(
            f"{label}: no token of any batch is to be predicted; loss_mask is 0 everywhere, or 1 "
            "only where a segment begins"
        )


def check_spare(params: Tree, base: Tree | None, label: str) -> None:
    """Refuse to give away the memory of weights that are wanted beside those that are trained.

    Raises:
        UserError: `base` holds an array of `params`.
    """
    given = {id(leaf) for leaf in jax.tree.leaves(params)}
    if any(id(leaf) in given for leaf in jax.tree.leaves(base)):
        raise UserError(
            f"{label}: `base` has arrays of `params`, whose memory spare=True gives away; leave "
            "`spare` out, or copy them: base=jax.tree.map(jnp.copy, params)"
        )


def _tokens(batches: Sequence[Any]) -> Iterator[np.ndarray]:
    """The tokens of all batches, of every kind of rows in them."""
    for batch in batches:
        for rows in [batch] if "tokens" in batch else batch.values():
            yield rows["tokens"]


def check_whole(settings: Settings | optax.GradientTransformation, label: str) -> None:
    """Refuse to work off a batch in parts, for a loss that is no mean over its answer tokens.

    Raises:
        UserError: `settings.accumulate` is not 1.
    """
    if isinstance(settings, Settings) and settings.accumulate != 1:
        raise UserError(f"{label}: its batches are not split; leave `accumulate` at 1")


def check_sound(params: Tree, bound: float, label: str) -> None:
    """Refuse weights that training has destroyed; the last update's loss nobody has seen.

    Raises:
        UserError: they are not finite, or larger than the bound.
    """
    found = largest(params)
    if found <= bound:
        return
    what = f"as large as {found:.3g}" if np.isfinite(found) else "not finite"
    raise UserError(
        f"{label}: the weights are {what} after the training; lower the learning rate or clip the "
        "gradient"
    )


def check_learned(history: np.ndarray, vocab_size: int, label: str) -> None:
    """Refuse a model that training has made worse than one that knows nothing.

    Raises:
        UserError: its loss was below that of guessing every token evenly, and no longer is.
    """
    guessing, last = math.log(vocab_size), float(np.median(history[-5:]))
    if history[0] < guessing <= last:
        raise UserError(
            f"{label}: training destroyed the model: its loss went from {history[0]:.3g} to "
            f"{last:.3g} nats a token, and guessing has {guessing:.3g}; lower the learning rate"
        )


def largest(params: Tree) -> float:
    """The largest absolute value of a weight; NaN if there is one."""
    return float(_largest(params))


@jax.jit
def _largest(params: Tree) -> jax.Array:
    sizes = [jnp.max(jnp.abs(leaf)).astype(jnp.float32) for leaf in jax.tree.leaves(params)]
    return jnp.max(jnp.stack(sizes))


def check_finite(loss: jax.Array | float, step: int, label: str) -> None:
    """Refuse to go on after a loss that is not finite.

    Raises:
        UserError: names the step.
    """
    if not np.isfinite(loss):
        raise UserError(
            f"{label}: the loss is {float(loss)} at step {step}; lower the learning rate or "
            "check the data"
        )
