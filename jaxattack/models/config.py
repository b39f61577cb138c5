"""What a decoder is made of: one frozen dataclass for all families."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxattack.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding; the scaling fields are used only by the kinds that need them."""

    kind: str = "default"  # "default", "linear" or "llama3"
    theta: float = 10_000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of one decoder; everything that changes its arithmetic is here.

    The defaults of the switches are Llama's.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_size: int
    norm_eps: float
    rope: Rope | None  # None: ALiBi
    tied: bool
    max_position: int = 2048
    family: str = "llama"  # model_type of the Hugging Face config
    # Ids that end a reply beside the tokenizer's: no arithmetic, so models with others are equal.
    stops: tuple[int, ...] = dataclasses.field(default=(), compare=False)

    # Attention
    query_scale: float | None = None  # of the scores; None: head_dim ** -0.5
    qkv_bias: bool = False
    o_bias: bool = False
    fused_qkv: bool = False  # one kernel, q, k and v of each head side by side
    qk_norm: bool = False
    attention_softcap: float = 0.0  # 0: none
    window: int = 0  # a local layer's query sees so many positions, itself included
    local_layers: tuple[bool, ...] = ()  # which layers are local; (): none
    local_rope: Rope | None = None  # of local layers; None: the same

    # The rest
    mlp_bias: bool = False
    gated: bool = True
    activation: str = "silu"  # or "gelu_tanh"
    norm: str = "rms"  # or "rms+1" (times 1 + scale), "layer" (with bias)
    post_norms: bool = False  # also after attention and MLP
    embed_norm: bool = False
    embed_scale: float = 1.0
    final_softcap: float = 0.0

    @property
    def score_scale(self) -> float:
        """What query-key products are multiplied with."""
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale


def check_tokens(config: ModelConfig, rows: Iterable[Any], what: str) -> None:
    """Refuse ids that are no row of the embedding: a lookup would take another row in their place.

    Args:
        config: of the model that is to read them.
        rows: whole numbers, each an array or a list.
        what: a row is called in the error.

    Raises:
        UserError: names the first such id and its row.
    """
    for number, row in enumerate(rows):
        ids = np.asarray(row)
        wrong = ids[(ids < 0) | (ids >= config.vocab_size)]
        if wrong.size:
            raise UserError(
                f"{what} {number} has the token id {wrong.flat[0]}, and the model knows 0 to "
                f"{config.vocab_size - 1}: its text, or the tokenizer, is not for this model"
            )


SCORES = 1 << 26  # query-key products held at once


def query_blocks(rows: int, queries: int, keys: int) -> int:
    """In how many equal blocks the queries are worked off, that `SCORES` is kept to if it can be.

    Args:
        rows: number of rows times number of heads.
        queries: of each.
        keys: of each.
    """
    fewest = max(1, -(-rows * queries * keys // SCORES))
    return next(n for n in range(min(fewest, queries), queries + 1) if queries % n == 0)


def activations(
    config: ModelConfig, rows: int, length: int, itemsize: int, remat: str = "none", ways: int = 1
) -> int:
    """Bytes kept on a device for the backward pass of its rows of `length` tokens, roughly.

    The layers' inputs, and of every layer what is not computed again, as XLA keeps it (counted in
    compiled steps of Llama and Gemma shapes, `tests/train/test_memory.py`).

    Args:
        config: of the model.
        rows: on the device.
        length: of a row, in tokens.
        itemsize: bytes of a number.
        remat: what is computed again, as for the model.
        ways: over how many devices heads and the MLP's inside are split.
    """
    c = config
    width, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    per_token = 10 * c.hidden_size + (4 * width + 3 * keys + 7 * c.mlp_size) // ways
    per_token += 6 * c.hidden_size * c.post_norms + 2 * (width + keys) // ways * c.qk_norm
    products = (1 + c.post_norms) * c.hidden_size + (width + 2 * keys + 2 * c.mlp_size) // ways
    heads = c.num_heads // ways
    blocks = query_blocks(rows * heads, length, length)
    scores = rows * heads * length * length // blocks * 4
    # Of what is worked off in blocks nothing is kept.
    inside, passing = per_token * rows * length * itemsize, 2 * scores
    if blocks == 1:
        inside, passing = inside + passing, 0
    tokens = rows * length * itemsize
    inputs = c.num_layers * tokens * c.hidden_size
    if remat == "none":
        return inputs + inside * c.num_layers + passing
    # The rest of one layer at a time is there while it is computed again.
    kept = c.num_layers * tokens * products if remat == "dots" else 0
    return inputs + kept + inside + passing
