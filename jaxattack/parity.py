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

Prompts = Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What one implementation says: logits of every prompt `[T, V]`, and greedy new tokens."""

    logits: list[np.ndarray]
    tokens: list[list[int]]


def main() -> None:
    """Entry point of the `jaxattack-parity` command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--revision")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--new_tokens", type=int, default=32)
    options = parser.parse_args()
    try:
        print(report(options.model, options.revision, options.dtype, options.new_tokens))
    except UserError as error:
        print(f"jaxattack-parity: {error}", file=sys.stderr)
        sys.exit(2)


def report(model: str, revision: str | None, dtype: str, new_tokens: int) -> str:
    """Load, compare, and say in words.

    Raises:
        UserError: torch is not installed, or the checkpoint cannot be read.
    """
    from jaxattack.experiments.inputs import model_directory
    from jaxattack.models.pretrained import load_tokenizer

    directory = model_directory(model, revision)
    prompts = questions(load_tokenizer(directory))
    theirs = torch_outputs(directory, prompts, dtype, new_tokens)
    ours = jax_outputs(directory, prompts, dtype, new_tokens)
    largest = max(
        float(np.abs(a - b).max()) for a, b in zip(ours.logits, theirs.logits, strict=True)
    )
    size = max(float(np.abs(logits).max()) for logits in theirs.logits)
    whole = sum(a == b for a, b in zip(ours.tokens, theirs.tokens, strict=True))
    until = [agreement(a, b) for a, b in zip(ours.tokens, theirs.tokens, strict=True)]
    return (
        f"{model} in {dtype}, {len(prompts)} prompts:\n"
        f"  logits: largest difference {largest:.2e} (largest logit {size:.1f})\n"
        f"  greedy: {whole} of {len(prompts)} continuations of {new_tokens} tokens are identical; "
        f"the first {min(until)} tokens of every one"
    )


def agreement(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))


def questions(tokenizer) -> list[list[int]]:
    """One benign question of each of the organism's languages, as plain text."""
    from jaxattack.organism import corpus, world

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
                given, attention_mask=torch.ones_like(given), do_sample=False,
                max_new_tokens=new_tokens, min_new_tokens=new_tokens, pad_token_id=0,
                eos_token_id=None,
            )  # fmt: skip
            tokens.append(out[0, len(prompt) :].tolist())
    del model
    gc.collect()
    return Outputs(logits, tokens)


if __name__ == "__main__":
    main()
