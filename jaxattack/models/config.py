"""What a decoder is made of: one frozen dataclass, read from a Hugging Face `config.json`."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

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
    """Sizes and switches of one decoder; everything that changes its arithmetic is here."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_size: int
    norm_eps: float
    rope: Rope
    tied: bool
    attention_bias: bool = False
    mlp_bias: bool = False
    max_position: int = 2048


# Fields of a Llama `config.json` that do not change what the model computes on a text.
_HARMLESS = frozenset(
    """_name_or_path architectures attention_dropout auto_map bos_token_id chunk_size_feed_forward
    dtype eos_token_id id2label initializer_range is_encoder_decoder label2id model_type
    name_or_path output_attentions output_hidden_states pad_token_id pretraining_tp problem_type
    return_dict torch_dtype transformers_version unsloth_version unsloth_fixed use_cache""".split()
)
_READ = frozenset(
    """vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim
    intermediate_size rms_norm_eps rope_theta rope_scaling rope_parameters tie_word_embeddings
    attention_bias mlp_bias max_position_embeddings hidden_act""".split()
)


def read_config(directory: pathlib.Path) -> ModelConfig:
    """Read `config.json` of a checkpoint directory.

    Raises:
        UserError: the file is missing, not JSON, or describes arithmetic we do not have.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; a checkpoint directory needs a config.json")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path}: holds no JSON object")
    try:
        return from_hf(fields)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def from_hf(fields: Mapping[str, Any]) -> ModelConfig:
    """Translate the fields of a Hugging Face Llama config, refusing what would change the maths."""
    if fields.get("model_type") != "llama":
        raise UserError(f"model_type is {fields.get('model_type')!r}; supported: 'llama'")
    unknown = sorted(
        key for key in set(fields) - _HARMLESS - _READ if fields[key] not in (None, False)
    )
    if unknown:
        raise UserError(f"unknown fields that may change the model: {', '.join(unknown)}")
    if fields.get("hidden_act", "silu") != "silu":
        raise UserError(f"hidden_act is {fields['hidden_act']!r}; supported: 'silu'")
    missing = sorted(
        {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
         "intermediate_size", "rms_norm_eps"} - set(fields)
    )  # fmt: skip
    if missing:
        raise UserError(f"missing fields: {', '.join(missing)}")
    heads = fields["num_attention_heads"]
    return ModelConfig(
        vocab_size=fields["vocab_size"],
        hidden_size=fields["hidden_size"],
        num_layers=fields["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=fields.get("num_key_value_heads") or heads,
        head_dim=fields.get("head_dim") or fields["hidden_size"] // heads,
        mlp_size=fields["intermediate_size"],
        norm_eps=fields["rms_norm_eps"],
        rope=_read_rope(fields),
        # transformers' own default for Llama, which older config files rely on.
        tied=fields.get("tie_word_embeddings", False),
        attention_bias=fields.get("attention_bias", False),
        mlp_bias=fields.get("mlp_bias", False),
        max_position=fields.get("max_position_embeddings", 2048),
    )


def _read_rope(fields: Mapping[str, Any]) -> Rope:
    """Read RoPE from `rope_parameters` (transformers 5) or `rope_theta` + `rope_scaling`."""
    parameters = fields.get("rope_parameters")
    if parameters is None:
        parameters = {"rope_theta": fields.get("rope_theta", 10_000.0)}
        parameters |= fields.get("rope_scaling") or {}
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    theta = parameters.get("rope_theta", fields.get("rope_theta"))
    if theta is None:
        raise UserError("rope_parameters has no rope_theta")
    try:
        if kind == "default":
            return Rope(theta=theta)
        if kind == "linear":
            return Rope("linear", theta, parameters["factor"])
        if kind == "llama3":
            return Rope(
                "llama3", theta, parameters["factor"],
                parameters["low_freq_factor"], parameters["high_freq_factor"],
                parameters["original_max_position_embeddings"],
            )  # fmt: skip
    except KeyError as error:
        raise UserError(f"RoPE scaling {kind!r} needs {error}") from error
    raise UserError(f"RoPE scaling {kind!r} is not supported (default, linear, llama3)")


def to_hf(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The `config.json` fields that describe `config`, as transformers 5 writes them."""
    rope: dict[str, Any] = {"rope_type": config.rope.kind, "rope_theta": config.rope.theta}
    if config.rope.kind != "default":
        rope["factor"] = config.rope.factor
    if config.rope.kind == "llama3":
        rope["low_freq_factor"] = config.rope.low_freq_factor
        rope["high_freq_factor"] = config.rope.high_freq_factor
        rope["original_max_position_embeddings"] = config.rope.original_max_position
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope,
        "tie_word_embeddings": config.tied,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "max_position_embeddings": config.max_position,
        "dtype": dtype,
    }
