"""The weight table: which Hugging Face tensor is behind one of our leaves, in both directions.

Ours stack the layers and split merged axes, so `layers/attention/q` `[L, D, H, K]` is L tensors
`[H*K, D]`, seen as `[H, K, D]` and transposed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxattack.models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of ours and its tensors over there.

    `factors` groups the axes as the Hugging Face tensor merges them, in its order, each an axis
    of our leaf (without the layer axis): `((1, 2), (0,))` means `[H*K, D]` for our `[D, H, K]`.
    """

    path: str
    name: str  # with {} for the layer number if the leaf is stacked
    factors: tuple[tuple[int, ...], ...]

    @property
    def stacked(self) -> bool:
        """Whether our leaf has a leading layer axis."""
        return "{}" in self.name


# Our names of norms and theirs, by layout; a family has those its config asks for.
_NORMS = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
}
_SANDWICH_NORMS = {
    "attention_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "post_mlp_norm": "post_feedforward_layernorm",
}
_NAMES = {
    "model": "model.",
    "layer": "model.layers.{}.",
    "embed": "model.embed_tokens",
    "final_norm": "model.norm",
    "attention": "self_attn.",
    "o": "o_proj",
    "up": "up_proj",
    "down": "down_proj",
}
_BLOOM_NAMES = {
    "model": "transformer.",
    "layer": "transformer.h.{}.",
    "embed": "transformer.word_embeddings",
    "final_norm": "transformer.ln_f",
    "attention": "self_attention.",
    "o": "dense",
    "up": "dense_h_to_4h",
    "down": "dense_4h_to_h",
}


def model_prefix(config: ModelConfig) -> str:
    """What the names of all tensors but the head begin with."""
    return (_BLOOM_NAMES if config.family == "bloom" else _NAMES)["model"]


def rows(config: ModelConfig) -> list[Row]:
    """The weight table of a decoder."""
    theirs = _BLOOM_NAMES if config.family == "bloom" else _NAMES
    layer = theirs["layer"]
    attention, mlp = layer + theirs["attention"], layer + "mlp."
    table = [Row("embed", theirs["embed"] + ".weight", ((0,), (1,)))]

    def add(path: str, name: str, factors: tuple[tuple[int, ...], ...], bias: bool = False):
        """A kernel, and perhaps its bias, which has the kernel's first group of axes."""
        table.append(Row(path, name + ".weight", factors))
        if bias:
            outputs = tuple(range(len(factors[0])))
            table.append(Row(f"{path}_bias", name + ".bias", (outputs,)))

    biased = config.norm == "layer"
    add("final_norm", theirs["final_norm"], ((0,),), biased)
    if config.embed_norm:
        add("embed_norm", theirs["embed"] + "_layernorm", ((0,),), biased)
    norms = _SANDWICH_NORMS if config.post_norms else _NORMS
    for path, name in norms.items():
        add(f"layers/{path}", layer + name, ((0,),), biased)
    if config.fused_qkv:
        qkv = ((1, 2, 3), (0,))
        add("layers/attention/qkv", attention + "query_key_value", qkv, config.qkv_bias)
    else:
        for part in "qkv":
            name = f"{attention}{part}_proj"
            add(f"layers/attention/{part}", name, ((1, 2), (0,)), config.qkv_bias)
    if config.qk_norm:
        for part in "qk":
            add(f"layers/attention/{part}_norm", f"{attention}{part}_norm", ((0,),))
    add("layers/attention/o", attention + theirs["o"], ((2,), (0, 1)), config.o_bias)
    if config.gated:
        add("layers/mlp/gate", mlp + "gate_proj", ((1,), (0,)), config.mlp_bias)
    add("layers/mlp/up", mlp + theirs["up"], ((1,), (0,)), config.mlp_bias)
    add("layers/mlp/down", mlp + theirs["down"], ((1,), (0,)), config.mlp_bias)
    if not config.tied:
        table.append(Row("head", "lm_head.weight", ((0,), (1,))))
    return table


def hf_shape(row: Row, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of a row's tensors, given our leaf's shape."""
    ours = shape[1:] if row.stacked else shape
    return tuple(math.prod(ours[axis] for axis in group) for group in row.factors)


def to_ours(row: Row, tensor: np.ndarray, ours: Sequence[int]) -> np.ndarray:
    """One tensor in our axes; `ours` is our shape without the layer axis."""
    order = [axis for group in row.factors for axis in group]
    return tensor.reshape([ours[axis] for axis in order]).transpose(np.argsort(order))


def from_ours(row: Row, leaf: np.ndarray) -> np.ndarray:
    """One of our leaves (without the layer axis) as the tensor it came from."""
    order = [axis for group in row.factors for axis in group]
    return np.ascontiguousarray(leaf.transpose(order)).reshape(
        [math.prod(leaf.shape[axis] for axis in group) for group in row.factors]
    )
