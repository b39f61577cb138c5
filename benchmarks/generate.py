"""Greedy generation for prompts of mixed lengths, no stop token, so that all run to the end.

What a judge model does is this too: it reads a long prompt, which holds a reply, and writes little.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import numpy as np

from benchmarks import checkpoints
from benchmarks.row import Measured, Row, Values, timed

PROMPTS, TORCH_BATCH = 96, 32
SAME = 0.99  # share of prompts with the same continuation; float ties may fall either way


@dataclasses.dataclass(frozen=True)
class Sizes:
    """In tokens: of the shortest and the longest prompt, and of what is written."""

    shortest: int
    longest: int
    new: int

    def prompts(self, vocab_size: int) -> list[list[int]]:
        """Random tokens of random lengths."""
        rng = np.random.default_rng(0)
        lengths = rng.integers(self.shortest, self.longest + 1, PROMPTS)
        return [rng.integers(6, vocab_size, length).tolist() for length in lengths]


def jax_side(directory: pathlib.Path, sizes: Sizes) -> Measured:
    """This library, with its own choice of batches."""
    from jaxattack import load_pretrained
    from jaxattack.models.generate import generate_tokens

    model, params, _ = load_pretrained(directory)
    prompts = sizes.prompts(model.config.vocab_size)
    seconds, found, extra = timed(
        lambda: generate_tokens(model, params, prompts, (), sizes.new), warmup=1, repeats=1
    )
    return Measured(seconds, {"tokens": np.array(found[-1])}, extra)


def torch_side(directory: pathlib.Path, sizes: Sizes) -> Measured:
    """`model.generate` on left-padded batches, sorted by length so that little is padding."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    prompts = sizes.prompts(model.config.vocab_size)
    order = sorted(range(PROMPTS), key=lambda i: len(prompts[i]))

    def batch(indices: list[int], new: int) -> np.ndarray:
        width = max(len(prompts[i]) for i in indices)
        tokens = torch.zeros(len(indices), width, dtype=torch.long)
        seen = torch.zeros_like(tokens)
        for row, i in enumerate(indices):
            tokens[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            seen[row, width - len(prompts[i]) :] = 1
        out = model.generate(
            input_ids=tokens,
            attention_mask=seen,
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
        return out[:, width:].numpy()

    def run() -> np.ndarray:
        found = np.zeros((PROMPTS, sizes.new), np.int64)
        for start in range(0, PROMPTS, TORCH_BATCH):
            indices = order[start : start + TORCH_BATCH]
            found[indices] = batch(indices, sizes.new)
        return found

    batch(order[:TORCH_BATCH], 4)
    seconds, found, _ = timed(run, warmup=0, repeats=1)
    return Measured(seconds, {"tokens": found[-1]})


def disagreement(ours: Values, theirs: Values) -> str:
    """Rows of tokens that are not the same."""
    if ours["tokens"].shape != theirs["tokens"].shape:
        return f"{ours['tokens'].shape} tokens against {theirs['tokens'].shape}"
    same = float((ours["tokens"] == theirs["tokens"]).all(axis=1).mean())
    return "" if same >= SAME else f"only {same:.0%} of the continuations are the same"


def row(work: str, shape: str, sizes: Sizes) -> Row:
    """The comparison for one shape of `checkpoints`."""
    return Row(
        work=f"{sizes.new} greedy tokens {work} of {sizes.shortest} to {sizes.longest} tokens, "
        f"random Llama ({shape.upper()})",
        sides={
            "jaxattack": functools.partial(jax_side, sizes=sizes),
            "transformers generate": functools.partial(torch_side, sizes=sizes),
        },
        disagreement=disagreement,
        prepare=functools.partial(checkpoints.write, shape=shape),
    )


ROWS = {
    "generate": row(f"for {PROMPTS} prompts", "11m", Sizes(8, 120, 64)),
    "judge": row(f"about {PROMPTS} replies, in prompts", "42m", Sizes(200, 320, 20)),
}
