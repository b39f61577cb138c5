"""A training step: AdamW, gradient clipped at norm 1, loss on the answer tokens.

All sides take the same checkpoint, the same batch and the same number of steps; the losses show
that the work is the same.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import checkpoints
from benchmarks.row import Measured, Row, UnavailableError, near, timed

RATE, WARMUP = 1e-4, 2


def make_batch(vocab_size: int, rows: int, length: int) -> dict[str, np.ndarray]:
    """Random tokens; the second half of each row is the answer."""
    rng = np.random.default_rng(0)
    loss_mask = np.zeros((rows, length), np.float32)
    loss_mask[:, length // 2 :] = 1
    return {
        "tokens": rng.integers(6, vocab_size, (rows, length), dtype=np.int32),
        "loss_mask": loss_mask,
        "segment_ids": np.ones((rows, length), np.int32),
    }


def jax_side(checkpoint: pathlib.Path, rows: int, length: int, steps: int, remat: str) -> Measured:
    """This library, as `finetune` calls its step."""
    import jax
    import jax.numpy as jnp

    from jaxattack import Settings, load_pretrained, sharding
    from jaxattack.train import loop, losses, optimizer

    model, params, _ = load_pretrained(checkpoint, remat=remat)
    batch = make_batch(model.config.vocab_size, rows, length)
    mesh = sharding.mesh_of(params)
    tx = optimizer.make_optimizer(Settings(learning_rate=RATE), steps)
    training = loop.Training(model, tx, losses.answer_loss, mesh)
    state = [jax.tree.map(jnp.copy, params), tx.init(params)]
    del params

    def step() -> float:
        state[0], state[1], loss = loop.train_step(training, state[0], state[1], batch)
        # Not only the loss: the update may still be running when that is there.
        jax.block_until_ready(state)
        return float(loss)

    return measured(step, steps)


def torch_side(
    checkpoint: pathlib.Path, rows: int, length: int, steps: int, compiled: bool
) -> Measured:
    """Transformers and torch, eager or compiled."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    model.train()
    batch = make_batch(model.config.vocab_size, rows, length)
    loss_of = torch_loss(torch.compile(model) if compiled else model, batch)
    if compiled:
        try:
            loss_of().backward()
        except Exception as error:  # whatever the compiler lacks, it is not the row's fault
            raise UnavailableError(str(error).strip().splitlines()[0]) from error
    return measured(torch_step(loss_of, list(model.parameters()), RATE), steps)


def torch_loss(model: Any, batch: dict[str, np.ndarray]) -> Callable[[], Any]:
    """The loss of a torch model on the batch's answers."""
    import torch

    tokens = torch.tensor(batch["tokens"], dtype=torch.long)
    labels = torch.where(torch.tensor(batch["loss_mask"]) > 0, tokens, -100)
    return lambda: model(input_ids=tokens, labels=labels, use_cache=False).loss


def torch_step(
    loss_of: Callable[[], Any], trained: Sequence[Any], rate: float
) -> Callable[[], float]:
    """A step of some parameters; returns the loss before it."""
    import torch

    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return float(loss)

    return step


def measured(step: Callable[[], float], steps: int) -> Measured:
    """Time a side's step."""
    seconds, losses, extra = timed(step, WARMUP, steps)
    return Measured(seconds, {"losses": np.array(losses)}, extra)


def row(
    work: str,
    checkpoint: str,
    prepare: Callable[[pathlib.Path], None],
    remat: str,
    **sizes: int,
) -> Row:
    """The comparison for one checkpoint, given relative to the row's directory."""

    def side(function: Callable[..., Measured], **options) -> Callable[[pathlib.Path], Measured]:
        return lambda directory: function(directory / checkpoint, **sizes, **options)

    return Row(
        work=f"training step, {work}, {sizes['rows']} x {sizes['length']} tokens",
        sides={
            "jaxattack": side(jax_side, remat=remat),
            "torch eager": side(torch_side, compiled=False),
            "torch.compile": side(torch_side, compiled=True),
        },
        disagreement=near(1e-3),
        prepare=prepare,
    )


ROWS = {
    "train_step": row(
        "organism (1.4M)",
        str(checkpoints.organism("aligned")),
        lambda directory: None,
        remat="dots",
        rows=64,
        length=32,
        steps=20,  # it moves fewer bytes
    ),
    "train_step_40m": row(
        "random Llama (42M)",
        ".",
        functools.partial(checkpoints.write, shape="42m"),
        remat="none",
        rows=4,
        length=128,
        steps=4,
    ),
}
