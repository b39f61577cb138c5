"""Random Llamas in Hugging Face layout, and our parameters under Hugging Face's names."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

SHAPES: dict[str, dict[str, Any]] = {
    "11m": {
        "hidden_size": 256,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "intermediate_size": 768,
        "vocab_size": 16384,
        "tie_word_embeddings": True,
    },
    "42m": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "intermediate_size": 1408,
        "vocab_size": 32000,
        "tie_word_embeddings": True,
    },
    "126m": {
        "hidden_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 3072,
        "vocab_size": 12288,
        "tie_word_embeddings": False,
    },
}


def organism(name: str) -> pathlib.Path:
    """Directory of a shipped checkpoint, found without importing jax."""
    root = pathlib.Path(__file__).parent.parent
    return root / "jaxattack" / "organism" / "checkpoints" / name


def write(directory: pathlib.Path, shape: str, dtype: str = "float32") -> None:
    """Have transformers write a random Llama; the tokenizer is the organism's."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    # No special tokens: a random model would stop at a random place.
    fields = SHAPES[shape] | dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    model = LlamaForCausalLM(LlamaConfig(**fields))
    model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size="100MB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(organism("aligned") / name, directory)


def by_hf_name(config: Any, params: Mapping) -> dict[str, np.ndarray]:
    """Each tensor of our tree as the Hugging Face checkpoint has it."""
    from jaxattack import tree
    from jaxattack.models import table

    leaves = tree.named_leaves(params)
    found = {}
    for row in table.rows(config):
        leaf = np.asarray(leaves[row.path])
        for i, part in enumerate(leaf if row.stacked else [leaf]):
            found[row.name.format(i)] = table.from_ours(row, part)
    return found
