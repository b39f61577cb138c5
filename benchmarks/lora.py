"""A training step of LoRA's adapters: AdamW, gradient clipped at norm 1, loss on answer tokens.

Both sides begin with the same adapters of the same checkpoint; the losses show that the work is the
same. Beside it: the weights' own gradient, which adapters that are merged in each step would take.
"""

from __future__ import annotations

import functools
import pathlib
import zlib
from collections.abc import Callable

import numpy as np

from benchmarks import checkpoints
from benchmarks.row import Measured, Row, UnavailableError, near
from benchmarks.train_step import make_batch, measured, torch_loss, torch_step

RATE, RANK, ALPHA = 1e-3, 16, 32.0
MODULES = ("q", "k", "v", "o", "gate", "up", "down")


def first_values(name: str, layers: int, inputs: int) -> np.ndarray:
    """The adapters' `a` of a matrix, `[L, inputs, rank]`; `b` begins with zeros."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (rng.normal(size=(layers, inputs, RANK)) / np.sqrt(inputs)).astype(np.float32)


def jax_side(
    checkpoint: pathlib.Path, rows: int, length: int, steps: int, merged: bool
) -> Measured:
    """This library, as `lora.finetune` calls its step; or with the adapters merged in it."""
    import jax
    import jax.numpy as jnp

    from jaxattack import Settings, load_pretrained, sharding, tree
    from jaxattack.train import loop, lora, losses, optimizer

    model, params, _ = load_pretrained(checkpoint)
    batch = make_batch(model.config.vocab_size, rows, length)

    def first(name: str, leaf: jax.Array) -> jax.Array:
        if not name.endswith("/a"):
            return leaf
        values = first_values(name.split("/")[-2], len(leaf), leaf[0].size // RANK)
        return jnp.asarray(values.reshape(leaf.shape))

    adapters = tree.map_named(first, lora.init(params, RANK, jax.random.key(0)))

    def merged_loss(model, adapters, batch, base):
        return losses.answer_loss(model, lora.merge(base, adapters, ALPHA / RANK), batch)

    loss = merged_loss if merged else lora.AdaptedLoss(losses.answer_loss, ALPHA / RANK)
    tx = optimizer.make_optimizer(Settings(learning_rate=RATE), steps)
    training = loop.Training(model, tx, loss, sharding.mesh_of(params))
    state = [adapters, tx.init(adapters)]
    del adapters

    def step() -> float:
        state[0], state[1], loss = loop.train_step(training, *state, batch, None, params)
        jax.block_until_ready(state)
        return float(loss)

    return measured(step, steps)


def torch_side(checkpoint: pathlib.Path, rows: int, length: int, steps: int) -> Measured:
    """Transformers, torch eager and peft."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UnavailableError("needs peft") from error
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    targets = [f"{name}_proj" for name in MODULES]
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, lora_dropout=0.0)
    model = get_peft_model(plain, config)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:  # ....layers.3.self_attn.q_proj.lora_A.default.weight
            layer, module = int(name.split("layers.")[1].split(".")[0]), name.split(".")[-4]
            values = first_values(module.removesuffix("_proj"), layer + 1, parameter.shape[1])
            with torch.no_grad():
                parameter.copy_(torch.tensor(values[layer].T))
    model.train()
    batch = make_batch(plain.config.vocab_size, rows, length)
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return measured(torch_step(torch_loss(model, batch), moved, RATE), steps)


def sides(**sizes: int) -> dict[str, Callable[[pathlib.Path], Measured]]:
    """What is compared, of the checkpoint in a directory."""
    return {
        "jaxattack": lambda directory: jax_side(directory, **sizes, merged=False),
        "torch eager, peft": lambda directory: torch_side(directory, **sizes),
        "merged in each step": lambda directory: jax_side(directory, **sizes, merged=True),
    }


ROWS = {
    "lora": Row(
        work="training step of adapters of rank 16, random Llama (42M), 4 x 128 tokens",
        sides=sides(rows=4, length=128, steps=4),
        disagreement=near(1e-3),
        prepare=functools.partial(checkpoints.write, shape="42m"),
    )
}
