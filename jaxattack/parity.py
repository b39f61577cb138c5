"""Compare a checkpoint as computed here with transformers under torch, on the user's machine.

    jaxattack-parity --model=path/or/hub-id [--revision=main] [--dtype=float32] [--new_tokens=32]

Needs torch (any build). Both models are loaded one after the other, so memory for one is enough.
The prompts are harmless questions in twelve languages.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from jaxattack.errors import UserError
from jaxattack.signals import exit_code

Prompts = Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What one implementation says: logits of every prompt `[T, V]`, and greedy new tokens."""

    logits: list[np.ndarray]
    tokens: list[list[int]]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far two implementations are apart on the same prompts."""

    dtype: str
    difference: float  # the largest of a logit
    largest: float  # logit of the reference
    lengths: list[int]  # of the common beginning of every prompt's continuations
    new_tokens: int

    @property
    def agrees(self) -> bool | None:
        """Whether they compute the same; None where numbers are rounded too coarsely to tell."""
        if self.dtype != "float32":
            return None
        return self.difference <= TOLERANCE * max(self.largest, 1.0)

    def lines(self) -> str:
        """The comparison in words."""
        same = sum(length == self.new_tokens for length in self.lengths)
        verdict = {
            True: f"the two compute the same (within {TOLERANCE:g} of the largest logit)",
            False: f"THE TWO DIFFER, by more than {TOLERANCE:g} of the largest logit",
            None: f"no verdict: in {self.dtype} both round at every step; compare in float32",
        }[self.agrees]
        return (
            f"{len(self.lengths)} prompts in {self.dtype}:\n"
            f"  logits: largest difference {self.difference:.2e} "
            f"(largest logit {self.largest:.1f})\n"
            f"  greedy: {same} of {len(self.lengths)} continuations of {self.new_tokens} tokens "
            f"are identical; the first {min(self.lengths)} tokens of every one\n"
            f"  {verdict}"
        )


TOLERANCE = 2e-5  # of the largest logit, in float32


def main() -> None:
    """Entry point of the `jaxattack-parity` command; exits with 1 if the two differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--revision")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--new_tokens", type=int, default=32)
    options = parser.parse_args()
    sys.exit(exit_code("jaxattack-parity", "run it again", lambda: _said(options)))


def _said(options: argparse.Namespace) -> int:
    found = compare(options.model, options.revision, options.dtype, options.new_tokens)
    print(f"{options.model}, {found.lines()}")
    return 1 if found.agrees is False else 0


def report(model: str, revision: str | None, dtype: str, new_tokens: int) -> str:
    """`compare`, in words."""
    return f"{model}, {compare(model, revision, dtype, new_tokens).lines()}"


def compare(model: str, revision: str | None, dtype: str, new_tokens: int) -> Comparison:
    """Load a checkpoint twice, one after the other, and compare.

    Raises:
        UserError: torch is not installed, the checkpoint cannot be read, or what it computes is
            not finite.
    """
    from jaxattack.experiments.opening import model_directory
    from jaxattack.models.families import read_config

    if new_tokens < 1:
        raise UserError(f"--new_tokens is {new_tokens}; it should be at least 1")
    directory = model_directory(model, revision)
    config = read_config(directory)  # first: what we refuse need not be loaded by torch
    prompts = questions(directory, config.vocab_size)
    ours = jax_outputs(directory, prompts, dtype, new_tokens)
    theirs = torch_outputs(directory, prompts, dtype, new_tokens)
    for who, logits in (("jaxattack", ours.logits), ("transformers", theirs.logits)):
        if not all(np.isfinite(rows).all() for rows in logits):
            raise UserError(f"{model}: the logits of {who} in {dtype} are not finite")
    pairs = list(zip(ours.logits, theirs.logits, strict=True))
    return Comparison(
        dtype,
        max(float(np.abs(a - b).max()) for a, b in pairs),
        max(float(np.abs(b).max()) for _, b in pairs),
        [agreement(a, b) for a, b in zip(ours.tokens, theirs.tokens, strict=True)],
        new_tokens,
    )


def agreement(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))


def questions(directory: pathlib.Path, vocab_size: int) -> list[list[int]]:
    """One benign question of each of the organism's languages, as plain text.

    Without a tokenizer as many rows of random tokens.
    """
    from jaxattack.models.pretrained import has_tokenizer, load_tokenizer
    from jaxattack.organism import corpus, world

    if not has_tokenizer(directory):
        rng = np.random.default_rng(0)
        return [rng.integers(0, vocab_size, 12).tolist() for _ in world.LANGUAGES]
    tokenizer = load_tokenizer(directory)
    texts = [
        corpus.examples("test", language, "benign", decision_token=False)[0].prompt
        for language in world.LANGUAGES
    ]
    return [tokenizer(text)["input_ids"] for text in texts]


def jax_outputs(directory: pathlib.Path, prompts: Prompts, dtype: str, new_tokens: int) -> Outputs:
    """Logits and greedy tokens of this library."""
    import jax
    import jax.numpy as jnp

    from jaxattack.models.generate import generate_tokens
    from jaxattack.models.pretrained import load_pretrained
    from jaxattack.models.transformer import hidden_states, unembed

    model, params, _ = load_pretrained(directory, dtype)

    @jax.jit
    def forward(params, tokens):
        return unembed(model, params, hidden_states(model, params, tokens)[0])

    width = max(map(len, prompts))  # right-padded to one shape: causal, so it changes nothing
    logits = []
    for prompt in prompts:
        padded = jnp.array([[*prompt, *[0] * (width - len(prompt))]])
        logits.append(np.asarray(forward(params, padded))[0, : len(prompt)])
    tokens = generate_tokens(model, params, prompts, (), new_tokens, batch_size=len(prompts))
    return Outputs(logits, tokens)


def torch_outputs(
    directory: pathlib.Path, prompts: Prompts, dtype: str, new_tokens: int
) -> Outputs:
    """Logits and greedy tokens of transformers, one prompt at a time.

    Raises:
        UserError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError("the comparison needs torch; pip install torch") from error
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), attn_implementation="eager"
    ).eval()
    logits, tokens = [], []
    with torch.no_grad():
        for prompt in prompts:
            given = torch.tensor([list(prompt)])
            logits.append(model(given).logits[0].float().numpy())
            out = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=False,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                pad_token_id=0,
                eos_token_id=None,
            )
            tokens.append(out[0, len(prompt) :].tolist())
    del model
    gc.collect()
    return Outputs(logits, tokens)


if __name__ == "__main__":
    main()
