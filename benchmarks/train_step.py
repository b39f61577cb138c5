"""One side of the training-step comparison: a process that times steps and prints JSON.

    python -m benchmarks.train_step jax|torch CHECKPOINT THREADS

Both sides take the same checkpoint, the same batch and the same recipe (AdamW, gradient clipped
at norm 1, loss on the answer tokens) and do the same number of steps; the losses they print show
that the work is the same.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np

ROWS, LENGTH, STEPS, WARMUP, RATE = 64, 32, 20, 3, 1e-4


def make_batch(vocab_size: int) -> dict[str, np.ndarray]:
    """Random tokens; the second half of each row is the answer."""
    rng = np.random.default_rng(0)
    loss_mask = np.zeros((ROWS, LENGTH), np.float32)
    loss_mask[:, LENGTH // 2 :] = 1
    return {
        "tokens": rng.integers(6, vocab_size, (ROWS, LENGTH), dtype=np.int32),
        "loss_mask": loss_mask,
        "segment_ids": np.ones((ROWS, LENGTH), np.int32),
    }


def jax_side(checkpoint: pathlib.Path) -> Callable[[], float]:
    """A function that takes one step with this library and returns the loss."""
    import jax
    import jax.numpy as jnp

    from jaxattack import Settings, host, load_pretrained, sharding
    from jaxattack.finetune import loop, losses, optimizer

    host.keep_freed_memory()
    model, params, _ = load_pretrained(checkpoint, remat="full")
    batch = make_batch(model.config.vocab_size)
    mesh = sharding.mesh_of(params)
    tx = optimizer.make_optimizer(Settings(learning_rate=RATE), STEPS)
    state = [jax.tree.map(jnp.copy, params), tx.init(params)]

    def step() -> float:
        state[0], state[1], loss = loop.train_step(
            model, tx, losses.answer_loss, mesh, state[0], state[1], batch, None
        )
        return float(loss)

    return step


def torch_side(checkpoint: pathlib.Path, threads: int) -> Callable[[], float]:
    """The same with transformers and torch, eager."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    model.train()
    batch = make_batch(model.config.vocab_size)
    tokens = torch.tensor(batch["tokens"], dtype=torch.long)
    labels = torch.where(torch.tensor(batch["loss_mask"]) > 0, tokens, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)

    def step() -> float:
        optimizer.zero_grad()
        loss = model(input_ids=tokens, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss)

    return step


def main(side: str, checkpoint: str, threads: str) -> None:
    """Time the steps of one side."""
    path = pathlib.Path(checkpoint)
    step = jax_side(path) if side == "jax" else torch_side(path, int(threads))
    found = [step() for _ in range(WARMUP)]
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        found.append(step())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": float(np.median(seconds)), "losses": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
