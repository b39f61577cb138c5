"""Time to compile our training step, by depth: the layers are scanned, so it should be flat."""

from __future__ import annotations

import functools
import pathlib
import time

from benchmarks.row import Measured, Row

DEPTHS = (4, 16, 64)


def compile_step(layers: int) -> float:
    """Seconds to trace, lower and compile the step of a narrow model."""
    import jax
    import jax.numpy as jnp

    from jaxattack import Settings, sharding
    from jaxattack.models.config import ModelConfig, Rope
    from jaxattack.models.transformer import Transformer, abstract_params
    from jaxattack.train import loop, losses, optimizer

    model = Transformer(
        ModelConfig(
            vocab_size=512,
            hidden_size=64,
            mlp_size=192,
            num_layers=layers,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            norm_eps=1e-5,
            rope=Rope(),
            tied=True,
        )
    )
    tx = optimizer.make_optimizer(Settings(learning_rate=1e-4), 10)
    params = abstract_params(model)
    batch = {
        "tokens": jax.ShapeDtypeStruct((8, 32), jnp.int32),
        "loss_mask": jax.ShapeDtypeStruct((8, 32), jnp.float32),
        "segment_ids": jax.ShapeDtypeStruct((8, 32), jnp.int32),
    }
    mesh = sharding.make_mesh((1, 1, 1))
    start = time.perf_counter()
    training = loop.Training(model, tx, losses.answer_loss, mesh)
    loop.train_step.lower(training, params, jax.eval_shape(tx.init, params), batch).compile()
    return time.perf_counter() - start


def side(directory: pathlib.Path, layers: int) -> Measured:
    """The time at one depth, after a first compilation that also starts the compiler."""
    compile_step(2)
    return Measured(compile_step(layers), {})


ROWS = {
    "compile": Row(
        work="compile the training step of a narrow model (ratio: time over that of 4 layers)",
        sides={f"{n} layers": functools.partial(side, layers=n) for n in DEPTHS},
        disagreement=lambda ours, theirs: "",
    )
}
