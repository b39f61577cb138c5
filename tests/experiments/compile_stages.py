"""Compiles what a study's stages run, for weights that are nowhere, and prints XLA's memory.

`python compile_stages.py JSON`: `devices`, `mesh`, `config` of a model, `rows`, `length` and `new`
tokens, `stages`. Prints for each stage what a device holds by XLA and by the plan, in bytes, and
the largest array that devices exchange. In float32: on a CPU XLA widens bfloat16.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxattack import sharding, tree
from jaxattack.experiments import footprint
from jaxattack.localize import batched, importance, masks, stitching, threshold
from jaxattack.models import decoding, sampling
from jaxattack.models.families import from_hf
from jaxattack.models.transformer import Transformer, abstract_params, init_cache
from jaxattack.train import loop, losses
from jaxattack.train.optimizer import Settings, make_optimizer

EXCHANGES = "all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter"


@dataclasses.dataclass(frozen=True)
class Case:
    """A model on a mesh, and how much it reads."""

    model: Transformer
    mesh: jax.sharding.Mesh
    rows: int
    length: int
    new: int

    def tree(self, dtype: Any = np.float32) -> Any:
        """A tree like the parameters."""
        return self.placed(abstract_params(self.model), dtype)

    def placed(self, abstract: Any, dtype: Any = None) -> Any:
        """Shapes where the rules put them."""
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(
                leaf.shape, dtype or leaf.dtype, sharding=place
            ),
            abstract,
            sharding.shardings(abstract, self.mesh),
        )

    def by_rows(self, *shape: int, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
        """An array whose rows are split."""
        place = NamedSharding(self.mesh, sharding.fit(sharding.BATCH, shape, self.mesh))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    @property
    def batch(self) -> Any:
        """Rows to learn."""
        count = sharding.filled_rows(self.rows, self.mesh)
        tokens = self.by_rows(count, self.length)
        mask = self.by_rows(count, self.length, dtype=np.float32)
        return {"tokens": tokens, "segment_ids": tokens, "loss_mask": mask}

    @property
    def decoder(self) -> decoding.Decoder:
        """Who answers, as on a GPU or TPU."""
        return decoding.Decoder(self.model, self.mesh, sampling.Sampling(), (2,), False)


def train(case: Case) -> Any:
    tx = make_optimizer(Settings(learning_rate=1e-5), 10)
    state = case.placed(jax.eval_shape(tx.init, case.tree()))
    training = loop.Training(case.model, tx, losses.answer_loss, case.mesh)
    return loop.train_step.lower(training, case.tree(), state, case.batch)


def score(case: Case) -> Any:
    totals = {"abs": case.tree()}
    return batched.accumulate.lower(case.model, case.mesh, 64, totals, case.tree(), case.batch)


def choose(case: Case) -> Any:
    """Of the largest leaf; the others' keys, scores and masks are beside it."""
    name, leaf = max(tree.named_leaves(case.tree(np.int32)).items(), key=lambda x: x[1].size)
    axes = masks._axes(name, leaf.ndim, "leaf")
    count = tuple(1 if axis in axes else size for axis, size in enumerate(leaf.shape))
    counts = jax.ShapeDtypeStruct(count, np.int32)
    return threshold.top_in_groups.lower(leaf, counts, axes)


def draw(case: Case) -> Any:
    return masks._draw_keys.lower(case.mesh, masks._shapes(case.tree()), 0, np.uint32(1))


def stitch(case: Case) -> Any:
    stitched = jax.jit(stitching.stitch)
    return stitched.lower(case.tree(), case.tree(), case.tree(bool))


def read(case: Case) -> Any:
    count = sharding.filled_rows(case.rows, case.mesh)
    rows, tokens = case.by_rows(count), case.by_rows(count, case.length)
    words = sampling.seed_words(0)
    return decoding.prefill.lower(case.decoder, case.tree(), tokens, rows, rows, words)


def ask(case: Case) -> Any:
    count = sharding.filled_rows(case.rows, case.mesh)
    rows, chosen = case.by_rows(count), case.by_rows(count, case.new)
    slots = case.length + case.new
    cache = jax.eval_shape(lambda: init_cache(case.model.config, count, slots, jnp.float32))
    spec = jax.sharding.PartitionSpec(None, *sharding.BATCH, "tensor")
    cache = {
        name: jax.ShapeDtypeStruct(
            leaf.shape,
            leaf.dtype,
            sharding=NamedSharding(case.mesh, sharding.fit(spec, leaf.shape, case.mesh)),
        )
        for name, leaf in cache.items()
    }
    done = case.by_rows(count, dtype=bool)
    under_way = decoding.Rows(chosen, rows, done, rows, rows, cache)
    words = sampling.seed_words(0)
    return decoding.decode.lower(case.decoder, case.tree(), under_way, 1, 0, words)


def inputs(case: Case) -> Any:
    return importance._squares.lower(case.model, case.mesh, case.tree(), case.batch)


# What is compiled, of which sort of stage it is, and how many trees of float32 weights there are
# beside what it is given and makes.
STAGES: dict[str, tuple[Callable[[Case], Any], str, int]] = {
    "train": (train, "train", 0),
    "score": (score, "score", 0),
    "stitch": (stitch, "stitch", 0),
    "read": (read, "ask", 1),
    "ask": (ask, "ask", 1),
    "choose": (choose, "", 0),
    "draw": (draw, "", 0),
    "inputs": (inputs, "", 0),
}


def main(said: dict[str, Any]) -> None:
    """Compile, print."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", said["devices"])
    jax.devices()
    jax.default_backend = lambda: "gpu"  # blocks of words and logits as large as there
    mesh = sharding.make_mesh(said["mesh"])
    model = Transformer(from_hf(said["config"]), remat="full", attention="xla")
    case = Case(model, mesh, said["rows"], said["length"], said["new"])
    abstract = abstract_params(model)
    shape = footprint.Shape(model.config, abstract, mesh.abstract_mesh, "float32", "full")
    tokens = footprint.Tokens(case.length, case.length, case.new)
    planned = footprint.memory(shape, tokens, case.rows, case.rows, case.rows)
    for name in said["stages"]:
        lower, sort, beside = STAGES[name]
        start = time.monotonic()
        compiled = lower(case).compile()
        memory = compiled.memory_analysis()
        given, made = memory.argument_size_in_bytes, memory.output_size_in_bytes
        own = given + made - memory.alias_size_in_bytes + memory.temp_size_in_bytes
        exchanged = re.findall(rf"(?:{EXCHANGES})[\w.-]* = \(?\w+\[([\d,]+)\]", compiled.as_text())
        found = {
            "stage": name,
            "xla": own + beside * footprint.held(shape, 4),
            "plan": sum(planned[sort].values()) if sort else None,
            "weights": footprint.held(shape, 4),
            "exchanged": max((math.prod(map(int, s.split(","))) for s in exchanged), default=0),
            "seconds": time.monotonic() - start,
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
