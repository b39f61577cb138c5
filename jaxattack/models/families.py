"""Hugging Face `config.json` in and out: what each family's fields mean for our one decoder.

A field that is absent has the value that transformers' config class gives it, for that is what
the checkpoint was saved with. A field that may change the arithmetic and that we do not know is
refused by name.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.stops import generation_stops

Fields = Mapping[str, Any]

# Fields that do not change what a model computes on a text.
_HARMLESS = frozenset(
    """_name_or_path architectures attention_dropout attention_softmax_in_fp32 auto_map
    bias_dropout_fusion bos_token_id cache_implementation chunk_size_feed_forward dtype eos_token_id
    hidden_dropout id2label initializer_range is_encoder_decoder label2id masked_softmax_fusion
    model_type name_or_path offset_alibi output_attentions output_hidden_states pad_token_id
    pretraining_tp problem_type return_dict seq_length skip_bias_add skip_bias_add_qkv
    slow_but_exact torch_dtype transformers_version unk_token_id unsloth_fixed unsloth_version
    use_cache""".split()
)
_SIZES = frozenset(
    """vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size
    rms_norm_eps""".split()
)
_COMMON = _SIZES | frozenset(
    """num_key_value_heads head_dim rope_theta rope_scaling rope_parameters tie_word_embeddings
    max_position_embeddings hidden_act""".split()
)
_WINDOWS = frozenset({"sliding_window", "layer_types"})
_QWEN = _WINDOWS | {"use_sliding_window", "max_window_layers"}
_GEMMA3 = _WINDOWS | frozenset(
    """attention_bias hidden_activation query_pre_attn_scalar final_logit_softcapping
    sliding_window_pattern _sliding_window_pattern rope_local_base_freq""".split()
)
_GEMMA2 = _WINDOWS | frozenset(
    """attention_bias hidden_activation query_pre_attn_scalar final_logit_softcapping
    attn_logit_softcapping""".split()
)
# What each family reads beside the common fields.
_READ: dict[str, frozenset[str]] = {
    "llama": frozenset({"attention_bias", "mlp_bias"}),
    "mistral": frozenset({"sliding_window"}),
    "qwen2": _QWEN,
    "qwen3": _QWEN | {"attention_bias"},
    "gemma": frozenset({"attention_bias", "hidden_activation"}),
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA3,
}
_BLOOM = frozenset(
    """vocab_size hidden_size n_embed n_layer num_hidden_layers n_head num_attention_heads
    layer_norm_epsilon tie_word_embeddings n_inner""".split()
)
FAMILIES = (*_READ, "bloom")
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "bloom": "BloomForCausalLM",
}


def read_config(directory: pathlib.Path) -> ModelConfig:
    """Read `config.json` of a checkpoint directory, and the stops of its generation config.

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
        config = from_hf(fields)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return dataclasses.replace(config, stops=generation_stops(directory))


def from_hf(fields: Fields) -> ModelConfig:
    """Translate the fields of a Hugging Face config, refusing what would change the maths."""
    family = fields.get("model_type")
    if family not in FAMILIES:
        hint = "; give its text model" if family == "gemma3" else ""
        raise UserError(f"model_type is {family!r}; supported: {', '.join(FAMILIES)}{hint}")
    read = _BLOOM if family == "bloom" else _COMMON | _READ[family]
    unknown = sorted(key for key in set(fields) - _HARMLESS - read if _switched_on(fields[key]))
    if unknown:
        raise UserError(f"unknown fields that may change the model: {', '.join(unknown)}")
    return _bloom(fields) if family == "bloom" else _rope_family(family, fields)


def _switched_on(value: Any) -> bool:
    return value is not None and value is not False


def _need(fields: Fields, names: frozenset[str]) -> None:
    missing = sorted(name for name in names if fields.get(name) is None)
    if missing:
        raise UserError(f"missing fields: {', '.join(missing)}")


def _rope_family(family: str, fields: Fields) -> ModelConfig:
    gemma = family.startswith("gemma")
    _need(fields, _SIZES if family == "llama" else _SIZES | {"num_key_value_heads"})
    heads = fields["num_attention_heads"]
    head_dim = {"qwen3": 128}.get(family, 256 if gemma else fields["hidden_size"] // heads)
    bias = bool(fields.get("attention_bias", False))
    window, local_layers = _windows(family, fields)
    rope, local_rope = _ropes(family, fields)
    gemma23 = family in ("gemma2", "gemma3_text")
    caps = (50.0, 30.0) if family == "gemma2" else (None, None)
    return ModelConfig(
        vocab_size=fields["vocab_size"],
        hidden_size=fields["hidden_size"],
        num_layers=fields["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=fields.get("num_key_value_heads") or heads,
        head_dim=fields.get("head_dim") or head_dim,
        mlp_size=fields["intermediate_size"],
        norm_eps=fields["rms_norm_eps"],
        rope=rope,
        tied=fields.get("tie_word_embeddings", gemma),
        max_position=fields.get("max_position_embeddings", 2048),
        family=family,
        query_scale=fields.get("query_pre_attn_scalar", 256) ** -0.5 if gemma23 else None,
        qkv_bias=bias or family == "qwen2",
        o_bias=bias,
        qk_norm=family in ("qwen3", "gemma3_text"),
        attention_softcap=fields.get("attn_logit_softcapping", caps[0]) or 0.0,
        window=window,
        local_layers=local_layers,
        local_rope=local_rope,
        mlp_bias=bool(fields.get("mlp_bias", False)),
        activation=_activation(family, fields),
        norm="rms+1" if gemma else "rms",
        post_norms=gemma23,
        embed_scale=fields["hidden_size"] ** 0.5 if gemma else 1.0,
        final_softcap=fields.get("final_logit_softcapping", caps[1]) or 0.0,
    )


def _bloom(fields: Fields) -> ModelConfig:
    fields = dict(fields)
    for old, new in (("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"),
                     ("n_embed", "hidden_size")):  # fmt: skip
        if fields.get(old) is not None:
            fields[new] = fields[old]
    _need(fields, frozenset({"vocab_size", "hidden_size", "num_hidden_layers",
                             "num_attention_heads", "layer_norm_epsilon"}))  # fmt: skip
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    if fields.get("n_inner") not in (None, 4 * hidden):
        raise UserError(f"n_inner is {fields['n_inner']}; BLOOM's MLP is 4 times hidden_size")
    return ModelConfig(
        vocab_size=fields["vocab_size"],
        hidden_size=hidden,
        num_layers=fields["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        mlp_size=4 * hidden,
        norm_eps=fields["layer_norm_epsilon"],
        rope=None,
        tied=fields.get("tie_word_embeddings", True),
        max_position=fields.get("seq_length", 2048),
        family="bloom",
        qkv_bias=True,
        o_bias=True,
        fused_qkv=True,
        mlp_bias=True,
        gated=False,
        activation="gelu_tanh",
        norm="layer",
        embed_norm=True,
    )


def _activation(family: str, fields: Fields) -> str:
    if not family.startswith("gemma"):
        name, known = fields.get("hidden_act", "silu"), {"silu": "silu"}
    else:
        # Gemma 1's first files say "gelu" and mean its tanh form, as transformers has it.
        name = fields.get("hidden_activation") or fields.get("hidden_act", "gelu_pytorch_tanh")
        known = {"gelu_pytorch_tanh": "gelu_tanh"}
        known |= {"gelu": "gelu_tanh"} if family == "gemma" else {}
    if name not in known:
        raise UserError(f"hidden_act is {name!r}; supported for {family}: {', '.join(known)}")
    return known[name]


def _windows(family: str, fields: Fields) -> tuple[int, tuple[bool, ...]]:
    """The window, and which layers are local."""
    layers = fields["num_hidden_layers"]
    window = fields.get("sliding_window", 4096)
    if family not in ("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"):
        return 0, ()
    if family.startswith("qwen") and not fields.get("use_sliding_window", False):
        window = None
    if not window:
        return 0, ()
    kinds = fields.get("layer_types")
    if family == "mistral":
        local = [True] * layers
    elif kinds is not None:
        if len(kinds) != layers or set(kinds) - {"sliding_attention", "full_attention"}:
            raise UserError(f"layer_types does not name a known kind for each of {layers} layers")
        local = [kind == "sliding_attention" for kind in kinds]
    elif family.startswith("qwen"):
        local = [i >= fields.get("max_window_layers", 28) for i in range(layers)]
    else:
        every = fields.get("sliding_window_pattern") or fields.get("_sliding_window_pattern")
        every = 2 if family == "gemma2" else every or 6
        local = [(i + 1) % every != 0 for i in range(layers)]
    return (window, tuple(local)) if any(local) else (0, ())


def _ropes(family: str, fields: Fields) -> tuple[Rope, Rope | None]:
    """RoPE of the layers, and of local layers if theirs differs."""
    parameters = fields.get("rope_parameters")
    if family != "gemma3_text":
        if parameters is not None:
            return _rope(parameters | {"rope_theta": _theta(parameters, fields)}), None
        scaling = fields.get("rope_scaling") or {}
        return _rope({"rope_theta": fields.get("rope_theta", 10_000.0)} | scaling), None
    parameters = parameters or {}
    scaling = fields.get("rope_scaling") or {}
    whole = {"rope_theta": fields.get("rope_theta", 1e6)} | scaling
    local = {"rope_theta": fields.get("rope_local_base_freq", 1e4)}
    return (
        _rope(whole | (parameters.get("full_attention") or {})),
        _rope(local | (parameters.get("sliding_attention") or {})),
    )


def _theta(parameters: Fields, fields: Fields) -> float:
    theta = parameters.get("rope_theta", fields.get("rope_theta"))
    if theta is None:
        raise UserError("rope_parameters has no rope_theta")
    return theta


def _rope(parameters: Fields) -> Rope:
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    theta = parameters["rope_theta"]
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


# --- Out ----------------------------------------------------------------------------------------


def to_hf(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The `config.json` fields that describe `config`, as transformers 5 writes them."""
    fields: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.family]],
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
        "rope_parameters": _write_rope(config.rope),
    }
    read = _READ[config.family]
    activation = "silu" if config.activation == "silu" else "gelu_pytorch_tanh"
    fields["hidden_activation" if "hidden_activation" in read else "hidden_act"] = activation
    if config.local_rope is not None:
        fields["rope_parameters"] = {
            "full_attention": _write_rope(config.rope),
            "sliding_attention": _write_rope(config.local_rope),
        }
    local = config.local_layers or (False,) * config.num_layers
    kinds = ["sliding_attention" if here else "full_attention" for here in local]
    known = {
        "attention_bias": config.o_bias,
        "mlp_bias": config.mlp_bias,
        "sliding_window": config.window or None,
        "use_sliding_window": bool(config.window),
        "layer_types": kinds,
        "query_pre_attn_scalar": _whole(config.score_scale**-2),
        "attn_logit_softcapping": config.attention_softcap or None,
        "final_logit_softcapping": config.final_softcap or None,
    }
    return fields | {key: value for key, value in known.items() if key in read}


def _whole(number: float) -> float:
    """A number that was whole before rounding errors is whole again."""
    return round(number) if abs(number - round(number)) < 1e-6 * number else number


def _write_rope(rope: Rope) -> dict[str, Any]:
    fields: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.kind != "default":
        fields["factor"] = rope.factor
    if rope.kind == "llama3":
        fields["low_freq_factor"] = rope.low_freq_factor
        fields["high_freq_factor"] = rope.high_freq_factor
        fields["original_max_position_embeddings"] = rope.original_max_position
    return fields
