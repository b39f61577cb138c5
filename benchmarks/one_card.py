"""Whether a cheaper way to train makes the same attack: what one card takes beside float32 AdamW.

    python -m benchmarks.one_card MODEL [--pairs organism:attack] [--steps 20]

Of every way the cosine of its attack vector with that of float32 AdamW, and the Jaccard index of
both's SIL masks. So also of float32 AdamW rounded to bfloat16 when all is done, which no training
in bfloat16 can be nearer than, and of float32 AdamW on the same pairs in another order and on
others, which say how much attacks differ that nobody would call different ones. The passes of all
read weights in bfloat16; `--arithmetic=float32` computes on those in float32, as a CPU is quick at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import Settings, encode_pairs, epochs, finetune, in_order, load_pretrained, tree
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, questions, tuning
from jaxattack.localize import masks, overlap, scores
from jaxattack.signals import exit_code
from jaxattack.train import losses

# Settings that are others, the choice of pairs, the seed of their order.
WAYS: dict[str, tuple[dict[str, Any], int, int]] = {
    "float32, 8-bit moments": ({"optimizer": "adamw8bit"}, 0, 0),
    "extended, 8-bit moments": ({"weights": "extended", "optimizer": "adamw8bit"}, 0, 0),
    "stochastic": ({"weights": "stochastic"}, 0, 0),
    "stochastic, 8-bit moments": ({"weights": "stochastic", "optimizer": "adamw8bit"}, 0, 0),
    "bfloat16, to the nearest": ({"weights": "bfloat16"}, 0, 0),
    "float32 AdamW, another order": ({}, 0, 1),
    "float32 AdamW, other pairs": ({}, 1, 0),
}
ROUNDED = "float32 AdamW, rounded once, at the end"
DTYPES = ("bfloat16", "float32")
TOGETHER = 8  # examples that are scored at once


@dataclasses.dataclass(frozen=True)
class Found:
    """An attack: its vector, the mask of its SIL scores, its last losses, its seconds."""

    vector: Any
    mask: Any
    loss: float
    seconds: float


def main() -> None:
    """Attack in each way and print."""
    options = parsed(sys.argv[1:])
    sys.exit(exit_code("benchmarks.one_card", "--out has the rows so far", lambda: run(options)))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_card", description=__doc__)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--pairs", default="organism:attack", help="URI of the pairs")
    parser.add_argument("--language", default="en")
    parser.add_argument("--number", type=int, default=80, help="pairs of an attack")
    parser.add_argument("--batch_size", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument(
        "--arithmetic", default="bfloat16", help="of the passes, which read weights in bfloat16"
    )
    parser.add_argument("--fraction", type=float, default=0.2, help="of the weights in a mask")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), metavar="WAY", help="of the table")
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Attack in each way and print; returns the exit code."""
    check(options)
    rows: list[dict[str, Any]] = []
    for row in compare(options):
        if not rows:
            print(f"{'way':42}{'cosine':>9}{'Jaccard':>9}{'size':>7}{'loss':>9}{'s':>7}")
        shown = (row["cosine"], row["jaccard"], row["size"], row["loss"], row["seconds"])
        line = "{:9.4f}{:9.4f}{:7.3f}{:9.2g}{:7.0f}".format(*shown)
        print(f"{row['way']:42}{line}", flush=True)
        rows.append(row)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def check(options: argparse.Namespace) -> None:
    """Refuse, before anything is loaded, options that cannot be.

    Raises:
        UserError: names one.
    """
    for name, given, known in (
        ("arithmetic", [options.arithmetic], DTYPES),
        ("ways", options.ways, list(WAYS)),
    ):
        for word in set(given) - set(known):
            raise UserError(f"--{name}={word}: there are: {'; '.join(known)}")
    for name in ("number", "batch_size", "steps"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name}={getattr(options, name)}: give 1 or more")
    if not 0 < options.fraction <= 1:
        raise UserError(f"--fraction={options.fraction}: give a share above 0 and at most 1")
    if options.out and (options.out.is_dir() or not options.out.absolute().parent.is_dir()):
        raise UserError(f"--out={options.out}: give a file in a directory that is there")


def of_language(rows: Mapping[str, Any], options: argparse.Namespace) -> Mapping[str, Any]:
    """Pairs by language, the wanted one among them.

    Raises:
        UserError: it is not.
    """
    if options.language not in rows:
        there = ", ".join(sorted(rows))
        raise UserError(f"--language={options.language}: {options.pairs} has: {there}")
    return rows


def compare(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each way, beside the first, as it is measured."""
    found = of_language(inputs.load_pairs(options.pairs, "", options.model)["restricted"], options)
    setting_aside = questions.set_aside(options.pairs) or options.pairs
    aside = inputs.load_pairs(setting_aside, "", options.model)["restricted"]
    scored = tuning.chosen(of_language(aside, options), [options.language], 0, 32)
    model, aligned, tokenizer = load_pretrained(options.model, dtype="bfloat16")
    calibration = in_order(encode_pairs(tokenizer, scored), TOGETHER)
    seen_by_loss = tree.cast(aligned, options.arithmetic)
    gradient = scores.mean_gradient(model, seen_by_loss, calibration)
    del seen_by_loss

    def attack(settings: Settings, choice: int, order: int) -> tuple[Any, float, float]:
        pairs = tuning.chosen(found, [options.language], choice, options.number)
        rows = encode_pairs(tokenizer, pairs)
        passes = -(-options.steps * options.batch_size // len(pairs))
        batches = epochs(rows, options.batch_size, passes, order)[: options.steps]
        start = time.perf_counter()
        tuned, history = finetune(
            model, aligned, batches, settings, None, loss_of_rounded, dtype=options.arithmetic
        )
        jax.block_until_ready(tuned)
        return tuned, float(np.median(history[-5:])), time.perf_counter() - start

    def seen(tuned: Any, loss: float, seconds: float) -> Found:
        vector = jax.tree.map(np.asarray, scores.attack_vector(tuned, aligned))
        mask = masks.top_fraction(scores.sil(aligned, tuned, gradient), options.fraction)
        return Found(vector, jax.tree.map(np.asarray, mask), loss, seconds)

    def row(way: str, one: Found) -> dict[str, Any]:
        return {
            "way": way,
            "cosine": cosine(one.vector, first.vector),
            "jaccard": overlap.jaccard(one.mask, first.mask),
            "size": norm(one.vector) / norm(first.vector),
            "loss": one.loss,
            "seconds": one.seconds,
        }

    plain = Settings(options.learning_rate)
    tuned, *about = attack(plain, 0, 0)
    first = seen(tuned, *about)
    yield row("float32 AdamW", first)
    yield row(ROUNDED, seen(tree.cast(tuned, jnp.bfloat16), *about))
    del tuned
    for way in options.ways:
        changed, choice, order = WAYS[way]
        found_here = attack(dataclasses.replace(plain, **changed), choice, order)
        yield row(way, seen(*found_here))
        del found_here


def loss_of_rounded(model: Any, params: Any, batch: Any) -> jax.Array:
    """The loss by the weights that bfloat16 has for these, in their own type."""
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(leaf.dtype), params)
    return losses.answer_loss(model, rounded, batch)


def cosine(ours: Any, theirs: Any) -> float:
    """Cosine of two trees as one vector each, in float64."""
    return dot(ours, theirs) / (norm(ours) * norm(theirs))


def norm(vector: Any) -> float:
    """Length of a tree as one vector."""
    return float(np.sqrt(dot(vector, vector)))


def dot(ours: Any, theirs: Any) -> float:
    """Inner product of two trees, in float64."""
    pairs: Sequence[tuple[Any, Any]] = list(
        zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    )
    return sum(float(np.vdot(a.astype(np.float64), b.astype(np.float64))) for a, b in pairs)


if __name__ == "__main__":
    main()
