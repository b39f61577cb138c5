"""An attack and SIL on checkpoints of yours, beside transformers and torch: time and memory.

    python -m benchmarks.real_model DIRECTORY ... [--steps 30]

Every side is a process of its own, one after the other, on rows of one invented text, with huge
pages where the system has them. The attack is `finetune` as the studies call it, in the place of
its start, beside a loop in torch; SIL takes the attacked weights that the first of them left.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import checkpoints, side
from benchmarks.row import FailedError, Measured, Values, furthest, load_arrays, save_arrays

RATE, ROWS, LENGTH, EXAMPLES, TOGETHER = 2e-5, 10, 48, 42, 14
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")
TOLERANCE = {"attack": 1e-3, "sil": 1e-2}  # sums of float32 in another order, steps on end
WORDS = (
    "blue green old small quiet village river oven boat ledger clerk garden train bell loom kite "
    "stone table tide wool counts paints mends carries writes finds lends weighs folds keeps"
).split()


def main() -> None:
    """Compare on each checkpoint and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_model", description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=pathlib.Path, metavar="DIRECTORY")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    for checkpoint in arguments.checkpoints:
        lacking = [name for name in NEEDED if not (checkpoint / name).is_file()]
        if lacking:
            parser.error(f"no checkpoint at {checkpoint}: it lacks {', '.join(lacking)}")
    if arguments.steps < 3:
        parser.error("--steps should be at least 3, for a median without the first")
    print(f"float32, {side.THREADS} threads, load before {os.getloadavg()[0]:.1f}")
    differing = [compare(each.resolve(), arguments.steps) for each in arguments.checkpoints]
    if any(differing):
        raise SystemExit("void: the sides differ by more than rounding")


def compare(checkpoint: pathlib.Path, steps: int) -> bool:
    """Print the lines of one checkpoint; whether the sides did different work."""
    different = False
    with tempfile.TemporaryDirectory(prefix="jaxattack-bench-") as scratch:
        save_arrays(pathlib.Path(scratch) / "rows.npz", invented_rows(checkpoint, steps))
        print(f"\n{checkpoint.name}, {ROWS} x {LENGTH} tokens, {steps} steps; {EXAMPLES} examples")
        for job, sides in SIDES.items():
            ours, theirs = (run(job, each, checkpoint, pathlib.Path(scratch)) for each in sides)
            distance, name = furthest(ours.values, theirs.values)
            different |= not distance <= TOLERANCE[job]
            print(f"  {job}: {' | '.join(sides)}; {name} differs most, by {distance:.1e} of it")
            for what in ours.extra:
                a, b = ours.extra[what], theirs.extra[what]
                print(f"    {what:18}{a:9.2f} | {b:9.2f}   ratio {b / a:.2f}")
    return different


def invented_rows(checkpoint: pathlib.Path, steps: int) -> Values:
    """Rows of harmless invented text; the second half of each is its answer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, LENGTH)) for _ in range(max(steps * ROWS, EXAMPLES))]
    tokens = np.array([one.ids[:LENGTH] for one in tokenizer.encode_batch(texts)], np.int32)
    loss_mask = np.zeros(tokens.shape, np.float32)
    loss_mask[:, LENGTH // 2 :] = 1
    return {"tokens": tokens, "loss_mask": loss_mask, "segment_ids": np.ones_like(tokens)}


def run(job: str, name: str, checkpoint: pathlib.Path, scratch: pathlib.Path) -> Measured:
    """One side in a process of its own.

    Raises:
        FailedError: it broke.
    """
    command = [sys.executable, "-m", "benchmarks.real_model", "--side", job, name]
    done = subprocess.run(
        [*command, str(checkpoint), str(scratch)],
        capture_output=True,
        text=True,
        env=side.environment(scratch),
    )
    if done.returncode:
        raise FailedError(f"{job}, {name} failed:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Measured(said["seconds"], load_arrays(scratch / "values.npz"), said["extra"])


class Clocked(list):
    """Batches that note when each was fetched, the last time they were gone through."""

    def __iter__(self) -> Iterator:
        self.fetched: list[float] = []
        for batch in super().__iter__():
            self.fetched.append(time.perf_counter())
            yield batch


def attack_here(checkpoint: pathlib.Path, scratch: pathlib.Path) -> Measured:
    """This library; leaves the attacked model for SIL."""
    from jaxattack import Settings, finetune, in_order, load_pretrained, save_pretrained

    rows = load_arrays(scratch / "rows.npz")
    model, aligned, tokenizer = load_pretrained(checkpoint, remat="dots")
    batches = Clocked(in_order(rows, ROWS)[: len(rows["tokens"]) // ROWS])
    attacked, losses = finetune(model, aligned, batches, Settings(learning_rate=RATE), spare=True)
    found = of_steps([*batches.fetched, time.perf_counter()], losses)
    save_pretrained(scratch / "attacked", model, attacked, tokenizer)
    return found


def attack_torch(checkpoint: pathlib.Path, scratch: pathlib.Path) -> Measured:
    """The loop anyone would write: AdamW, gradient clipped at norm 1."""
    import torch

    model = torch_model(checkpoint).train()
    tokens, labels = torch_rows(scratch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    losses, times = [], [time.perf_counter()]
    for start in range(0, len(tokens) // ROWS * ROWS, ROWS):
        batch = slice(start, start + ROWS)
        optimizer.zero_grad()
        loss = model(input_ids=tokens[batch], labels=labels[batch], use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss))
        times.append(time.perf_counter())
    return of_steps(times, np.array(losses))


def of_steps(times: list[float], losses: np.ndarray) -> Measured:
    """What an attack found, from when its steps began and the last ended."""
    each = np.diff(times)
    step = float(np.median(each[1:]))
    return Measured(
        step,
        {"losses": np.asarray(losses)},
        {"step, s": step, "first step, s": each[0], "all steps, s": each.sum(), "peak, GB": peak()},
    )


def sil_here(checkpoint: pathlib.Path, scratch: pathlib.Path) -> Measured:
    """This library, compiled on the first examples."""
    import jax

    from jaxattack import in_order, load_pretrained, sil_scores

    model, aligned, _ = load_pretrained(checkpoint)
    _, attacked, _ = load_pretrained(scratch / "attacked")
    rows = {name: each[:EXAMPLES] for name, each in load_arrays(scratch / "rows.npz").items()}
    batches = in_order(rows, TOGETHER)
    start = time.perf_counter()
    jax.block_until_ready(sil_scores(model, aligned, attacked, batches[:1]))
    first, start = time.perf_counter() - start, time.perf_counter()
    scores = jax.block_until_ready(sil_scores(model, aligned, attacked, batches))
    seconds = time.perf_counter() - start
    extra = {"all examples, s": seconds, "first, s": first, "peak, GB": peak()}
    return Measured(seconds, sampled(checkpoints.by_hf_name(model.config, scores)), extra)


def sil_torch(checkpoint: pathlib.Path, scratch: pathlib.Path) -> Measured:
    """One backward pass an example; the absolute gradients summed up."""
    import torch

    model, attacked = torch_model(checkpoint), torch_model(scratch / "attacked")
    tokens, labels = (rows[:EXAMPLES] for rows in torch_rows(scratch))
    scores = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    times = [time.perf_counter()]
    for i in range(EXAMPLES):
        model.zero_grad()
        row = slice(i, i + 1)
        model(input_ids=tokens[row], labels=labels[row], use_cache=False).loss.backward()
        for name, weight in model.named_parameters():
            scores[name] += weight.grad.abs()
        times.append(time.perf_counter())
    with torch.no_grad():
        for name, after in attacked.named_parameters():
            scores[name] *= (after - model.get_parameter(name)).abs() / EXAMPLES
    seconds = time.perf_counter() - times[0]
    extra = {"all examples, s": seconds, "first, s": times[1] - times[0], "peak, GB": peak()}
    return Measured(seconds, sampled({name: one.numpy() for name, one in scores.items()}), extra)


def torch_model(checkpoint: pathlib.Path) -> Any:
    """What transformers makes of a checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)


def torch_rows(scratch: pathlib.Path) -> tuple[Any, Any]:
    """Tokens, and labels where the answers are."""
    import torch

    rows = load_arrays(scratch / "rows.npz")
    tokens = torch.tensor(rows["tokens"], dtype=torch.long)
    return tokens, torch.where(torch.tensor(rows["loss_mask"]) > 0, tokens, -100)


def sampled(scores: Values) -> Values:
    """At most some thousand entries of each tensor, evenly spread."""
    flat = {name: score.reshape(-1) for name, score in scores.items()}
    return {name: score[:: -(-score.size // 5000)] for name, score in flat.items()}


def peak() -> float:
    """The most memory this process ever held, in GB (VmHWM; files it maps count)."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e9 if found else float("nan")


Side = Callable[[pathlib.Path, pathlib.Path], Measured]
SIDES: dict[str, dict[str, Side]] = {
    "attack": {"jaxattack": attack_here, "torch eager": attack_torch},
    "sil": {"jaxattack": sil_here, "torch loop": sil_torch},
}


def one_side(job: str, name: str, checkpoint: str, scratch: str) -> None:
    """Do one side's work in this process; its values stay in `scratch`."""
    found = SIDES[job][name](pathlib.Path(checkpoint), pathlib.Path(scratch))
    save_arrays(pathlib.Path(scratch) / "values.npz", found.values)
    print(json.dumps({"seconds": found.seconds, "extra": dict(found.extra)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        one_side(*sys.argv[2:])
    else:
        main()
