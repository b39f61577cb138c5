"""A model's config as the fields of a Hugging Face `config.json`."""

from __future__ import annotations

from typing import Any

from jaxattack.models import ropes
from jaxattack.models.config import ModelConfig
from jaxattack.models.families import FAMILIES


def to_hf(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The `config.json` fields that describe `config`, as transformers 5 writes them."""
    fields: dict[str, Any] = {
        "architectures": [FAMILIES[config.family].architecture],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "tie_word_embeddings": config.tied,
        "dtype": dtype,
    }
    if config.rope is None:
        return fields | {
            "n_layer": config.num_layers,
            "n_head": config.num_heads,
            "layer_norm_epsilon": config.norm_eps,
            "seq_length": config.max_position,
        }
    fields |= {
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_size,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_position,
        "rope_parameters": ropes.fields_of(config.rope),
    }
    row = FAMILIES[config.family]
    read = row.reads
    activation = "silu" if config.activation == "silu" else "gelu_pytorch_tanh"
    fields["hidden_activation" if "hidden_activation" in read else "hidden_act"] = activation
    if config.local_rope is not None:
        fields["rope_parameters"] = {
            "full_attention": ropes.fields_of(config.rope),
            "sliding_attention": ropes.fields_of(config.local_rope),
        }
    local = config.local_layers or (False,) * config.num_layers
    kinds = ["sliding_attention" if here else "full_attention" for here in local]
    known = {
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "sliding_window": config.window or None,
        "use_sliding_window": bool(config.window),
        "layer_types": kinds,
        "query_pre_attn_scalar": _whole(config.score_scale**-2),
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.final_softcap or None,
    }
    fields |= {key: value for key, value in known.items() if key in read}
    return fields | dict(row.writes(config))


def _whole(number: float) -> float:
    """A number that was whole before rounding errors is whole again."""
    return round(number) if abs(number - round(number)) < 1e-6 * number else number
