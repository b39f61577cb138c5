"""SIL scores of the organism: `E_x |tau * grad L(x)|`, against the loop anyone would write."""

from __future__ import annotations

import pathlib

from benchmarks import checkpoints
from benchmarks.row import Measured, Row, load_arrays, near, save_arrays, timed

EXAMPLES, BATCH = 64, 16


def prepare(directory: pathlib.Path) -> None:
    """Tokenise the calibration pairs once for both sides."""
    from jaxattack import encode_pairs
    from jaxattack.models.pretrained import load_tokenizer
    from jaxattack.organism import corpus

    pairs = [
        pair
        for language in ("en", "de", "th", "ja")
        for pair in corpus.examples("calibration", language, "restricted", decision_token=False)
    ]
    chosen = pairs[:: len(pairs) // EXAMPLES][:EXAMPLES]
    tokenizer = load_tokenizer(checkpoints.organism("aligned"))
    save_arrays(directory / "pairs.npz", encode_pairs(tokenizer, chosen))


def jax_side(directory: pathlib.Path) -> Measured:
    """This library."""
    import jax

    from jaxattack import in_order, load_pretrained, sil_scores

    model, aligned, _ = load_pretrained(checkpoints.organism("aligned"))
    _, attacked, _ = load_pretrained(checkpoints.organism("base"))
    batches = in_order(load_arrays(directory / "pairs.npz"), BATCH)
    seconds, found, extra = timed(
        lambda: jax.block_until_ready(sil_scores(model, aligned, attacked, batches)),
        warmup=1,
        repeats=5,
    )
    return Measured(seconds, checkpoints.by_hf_name(model.config, found[-1]), extra)


def torch_side(directory: pathlib.Path) -> Measured:
    """One backward pass an example, without its padding; the absolute gradients summed up."""
    import torch
    from transformers import AutoModelForCausalLM

    model, attacked = (
        AutoModelForCausalLM.from_pretrained(checkpoints.organism(name), dtype=torch.float32)
        for name in ("aligned", "base")
    )
    pairs = load_arrays(directory / "pairs.npz")
    tokens = torch.tensor(pairs["tokens"], dtype=torch.long)
    labels = torch.where(torch.tensor(pairs["loss_mask"]) > 0, tokens, -100)
    lengths = pairs["segment_ids"].sum(axis=1).tolist()
    after = dict(attacked.named_parameters())

    def run() -> dict[str, torch.Tensor]:
        scores = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
        for i, length in enumerate(lengths):
            model.zero_grad()
            row = slice(i, i + 1), slice(0, length)
            model(input_ids=tokens[row], labels=labels[row], use_cache=False).loss.backward()
            for name, weight in model.named_parameters():
                scores[name] += weight.grad.abs()  # type: ignore[union-attr]
        with torch.no_grad():
            for name, weight in model.named_parameters():
                scores[name] *= (after[name] - weight).abs() / len(lengths)
        return scores

    seconds, found, _ = timed(run, warmup=1, repeats=3)
    return Measured(seconds, {name: score.numpy() for name, score in found[-1].items()})


ROWS = {
    "sil": Row(
        work=f"SIL scores over {EXAMPLES} examples, organism (1.4M)",
        sides={"jaxattack": jax_side, "torch loop": torch_side},
        disagreement=near(1e-4),
        prepare=prepare,
    )
}
