"""A training with saving points, for one process or one of several; see test_savepoint.py.

    saving_round.py FOLDER STEPS

Stops after so many steps; else the first process writes what came out to FOLDER/found.npz.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import distributed, savepoint, sharding
from jaxattack.train import loop
from jaxattack.tree import named_leaves

RNG = np.random.default_rng(0)
START = {
    "embed": RNG.normal(size=(8, 8)).astype(np.float32),
    "layers": {"mlp": {"up": RNG.normal(size=(2, 8, 16)).astype(np.float32)}},
}
TARGETS = RNG.normal(size=10).astype(np.float32)


def loss_of(model, params, batch):
    return sum(jnp.sum((leaf - batch["target"]) ** 2) for leaf in jax.tree.leaves(params))


def main(folder: pathlib.Path, steps: int) -> None:
    distributed.initialize()
    savepoint.AGREED = 2
    params = sharding.place(START, sharding.make_mesh((2, 2, 2)))
    batches, whole, taken = [{"target": target} for target in TARGETS], loop.train_step, []

    def train_step(*arguments, **options):
        if len(taken) == steps:
            raise RuntimeError("stopped")
        taken.append(0)
        return whole(*arguments, **options)

    loop.train_step = train_step
    with savepoint.every(1e-9), savepoint.within(folder, "attack-1"):
        tuned, losses = loop.finetune(None, params, batches, loop.Settings(0.05), loss_fn=loss_of)
    found = {name: sharding.to_host(leaf) for name, leaf in named_leaves(tuned).items()}
    found |= {"losses": losses, "steps": np.array(len(taken))}
    distributed.first(lambda: np.savez(folder / "found.npz", **found), "write")


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    except BaseException:
        distributed.leave(1)
        raise
