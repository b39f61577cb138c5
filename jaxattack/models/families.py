"""Hugging Face `config.json`: what each family's fields mean for our one decoder.

Transformers' own config class fills in what a file leaves out and settles what it says twice, so a
checkpoint means here what it means there. What would change the arithmetic and is not known is
refused by name (`models.fields`).
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from jaxattack.errors import UserError
from jaxattack.models import fields as rules
from jaxattack.models import ropes
from jaxattack.models.config import ModelConfig
from jaxattack.models.folder import check_kind, read_json
from jaxattack.models.stops import generation_stops

Fields = Mapping[str, Any]

SILU = {"silu": "silu", "swish": "silu"}
GELU = {"gelu_pytorch_tanh": "gelu_tanh"}


def _nothing(_: Any) -> dict[str, Any]:
    return {}


@dataclasses.dataclass(frozen=True)
class Family:
    """A model type: what of its config is read, and what that means for our decoder.

    Attributes:
        architecture: transformers' class of its language model.
        reads: fields beside those that all families with RoPE have.
        switches: fields of `ModelConfig`, from transformers' own config, where it is no Llama.
        writes: fields of config.json, from a `ModelConfig`, that no other family has.
        activations: the names of its activations, the default first, and ours.
    """

    architecture: str
    reads: frozenset[str] = frozenset()
    switches: Callable[[Any], Mapping[str, Any]] = _nothing
    writes: Callable[[ModelConfig], Mapping[str, Any]] = _nothing
    activations: Mapping[str, str] = dataclasses.field(default_factory=SILU.copy)


_SIZES = frozenset(
    """vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size
    rms_norm_eps""".split()
)
_COMMON = _SIZES | frozenset(
    """num_key_value_heads head_dim rope_theta rope_scaling rope_parameters tie_word_embeddings
    max_position_embeddings original_max_position_embeddings hidden_act""".split()
)
_WINDOWS = frozenset({"sliding_window", "layer_types"})
_QWEN = _WINDOWS | {"use_sliding_window", "max_window_layers"}
_GEMMA2 = _WINDOWS | frozenset(
    """attention_bias hidden_activation query_pre_attn_scalar final_logit_softcapping
    attn_logit_softcapping""".split()
)
_GEMMA3 = _GEMMA2 - {"attn_logit_softcapping"} | {"sliding_window_pattern", "rope_local_base_freq"}
_BLOOM = frozenset(
    """vocab_size hidden_size n_embed n_layer num_hidden_layers n_head num_attention_heads
    layer_norm_epsilon tie_word_embeddings n_inner seq_length""".split()
)
# A text model with others around it, and what the text model is called on its own.
WRAPPED = {"gemma3": "gemma3_text"}
# Fields in which null is a value of its own; elsewhere it is as good as absent.
_NULL_SAYS = frozenset(
    "num_key_value_heads sliding_window attn_logit_softcapping final_logit_softcapping".split()
)
_OTHER_KINDS = tuple(
    "ForSequenceClassification ForTokenClassification ForQuestionAnswering ForMaskedLM "
    "ForMultipleChoice RewardModel".split()
)


def read_config(directory: pathlib.Path) -> ModelConfig:
    """Read `config.json` of a checkpoint directory, and the stops of its generation config.

    Raises:
        UserError: the file is missing, not JSON, or describes arithmetic we do not have.
    """
    check_kind(directory)
    path = directory / "config.json"
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise UserError(f"{path}: holds no JSON object")
    try:
        config = from_hf(fields)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return dataclasses.replace(config, stops=generation_stops(directory))


def from_hf(fields: Fields) -> ModelConfig:
    """Translate the fields of a Hugging Face config, refusing what would change the maths.

    Raises:
        UserError: names the field that is missing, out of bounds or not known.
    """
    family = fields.get("model_type")
    if isinstance(family, str) and family in WRAPPED:
        return _translate(WRAPPED[family], _text_fields(family, fields), needed=False)
    if family not in FAMILIES:
        raise UserError(
            f"model_type is {family!r}; supported: {', '.join((*FAMILIES, *WRAPPED))}"
            + _hint(fields)
        )
    return _translate(family, fields)


def _translate(family: str, fields: Fields, needed: bool = True) -> ModelConfig:
    """The config of a family's fields; the sizes are `needed`, or may be transformers' defaults."""
    _check_use(fields)
    read = FAMILIES[family].reads | (frozenset() if family == "bloom" else _COMMON)
    unknown = rules.unknown(family, fields, read)
    if unknown:
        raise UserError(f"unknown fields that may change the model: {', '.join(unknown)}")
    given = {name: copy.deepcopy(fields[name]) for name in read if name in fields}
    given = {
        name: value for name, value in given.items() if value is not None or name in _NULL_SAYS
    }
    given = rules.checked(given)
    if needed:
        _need(family, given)
    theirs = _theirs(family, given)
    return _bloom(theirs, given) if family == "bloom" else _rope_family(family, theirs, given)


def _hint(fields: Fields) -> str:
    if isinstance(fields.get("text_config"), dict):
        return "; a text model inside another is read of gemma3 only: save its language model alone"
    if fields.get("is_encoder_decoder") or "layer_norm_eps" in fields:
        return "; encoders and encoder-decoders do not write text one token after the other"
    return ""


def _check_use(fields: Fields) -> None:
    """Refuse what is a model of the family, but quantised or without a language model's head."""
    for name in ("quantization_config", "quantization", "compression_config"):
        given = fields.get(name)
        if given:
            method = given.get("quant_method", "") if isinstance(given, dict) else ""
            raise UserError(
                f"{name}: quantised weights{f' ({method})' if method else ''} are not read; give "
                "the checkpoint they were made from, or dequantise it (transformers: "
                "model.dequantize().save_pretrained(new folder))"
            )
    named = fields.get("architectures")
    named = [str(name) for name in named] if isinstance(named, list) else []
    if (
        fields.get("auto_map")
        and named
        and not {row.architecture for row in FAMILIES.values()} & set(named)
    ):
        raise UserError(
            f"auto_map: the model {', '.join(named)} is code of the repository's own, which is "
            "never run; give a checkpoint of a class of transformers"
        )
    for name in named:
        if name.endswith(_OTHER_KINDS):
            raise UserError(f"architectures: a {name} has no head that writes text")


def _text_fields(family: str, fields: Fields) -> dict[str, Any]:
    """The fields of the text model inside `fields`; published files leave most to the defaults."""
    _check_use(fields)
    text = fields.get("text_config")
    if not isinstance(text, dict):
        raise UserError(f"model_type is {family!r}, but text_config is no object")
    inner = text.get("model_type", WRAPPED[family])
    if inner != WRAPPED[family]:
        raise UserError(f"text_config.model_type is {inner!r}; supported: {WRAPPED[family]}")
    if text.get("final_logit_softcapping") is not None:
        raise UserError(
            f"text_config.final_logit_softcapping={text['final_logit_softcapping']!r}: "
            f"transformers caps no logits in a {family}; take it out"
        )
    tied = fields.get("tie_word_embeddings", True)
    return {**text, "tie_word_embeddings": tied}


def _need(family: str, given: Fields) -> None:
    """Refuse a file without the sizes."""
    if family == "bloom":
        names = {
            "vocab_size": (),
            "hidden_size": ("n_embed",),
            "layer_norm_epsilon": (),
            "num_hidden_layers": ("n_layer",),
            "num_attention_heads": ("n_head",),
        }
        missing = [n for n, others in names.items() if not {n, *others} & set(given)]
    else:
        needed = _SIZES if family == "llama" else _SIZES | {"num_key_value_heads"}
        missing = sorted(needed - set(given))
    if missing:
        raise UserError(f"missing fields: {', '.join(missing)}")


def _theirs(family: str, given: Fields) -> Any:
    """Transformers' config of these fields.

    Raises:
        UserError: it refuses them.
    """
    from transformers import CONFIG_MAPPING  # here, because importing it takes seconds

    ropes.check(family, given)
    given = {k: v for k, v in given.items() if k != "original_max_position_embeddings"}
    if family == "bloom":  # a later name of a field wins over an older one
        both = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
        given = {both.get(k, k): v for k, v in sorted(given.items(), key=lambda x: x[0] in both)}
    try:
        return CONFIG_MAPPING[family](**given)
    except Exception as error:  # of many kinds: whatever its validators raise
        raise UserError(f"transformers refuses it ({' '.join(str(error).split())})") from error


def _rope_family(family: str, theirs: Any, given: Fields) -> ModelConfig:
    row = FAMILIES[family]
    bias = bool(getattr(theirs, "attention_bias", False))
    heads, kv_heads = theirs.num_attention_heads, theirs.num_key_value_heads
    if heads % kv_heads:
        raise UserError(
            f"num_key_value_heads is {kv_heads}; it should divide num_attention_heads, {heads}"
        )
    head_dim = getattr(theirs, "head_dim", None) or theirs.hidden_size // heads
    if head_dim % 2 or not head_dim:
        raise UserError(f"head_dim is {head_dim}; RoPE needs an even one")
    rope, local_rope = ropes.of_config(family, theirs)
    common = {
        "vocab_size": theirs.vocab_size,
        "hidden_size": theirs.hidden_size,
        "num_layers": theirs.num_hidden_layers,
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "mlp_size": theirs.intermediate_size,
        "norm_eps": theirs.rms_norm_eps,
        "rope": rope,
        "tied": theirs.tie_word_embeddings,
        "max_position": theirs.max_position_embeddings,
        "family": family,
        "qkv_bias": bias,
        "o_bias": bias,
        "local_rope": local_rope,
        "mlp_bias": bool(getattr(theirs, "mlp_bias", False)),
        "activation": _activation(family, given),
        **_windows(theirs),
    }
    return ModelConfig(**(common | dict(row.switches(theirs))))


def _mistral(theirs: Any) -> dict[str, Any]:
    window = theirs.sliding_window
    local = (True,) * theirs.num_hidden_layers
    return {"window": window, "local_layers": local} if window else {}


def _gemma(theirs: Any) -> dict[str, Any]:
    return {"norm": "rms+1", "embed_scale": theirs.hidden_size**0.5}


def _gemma23(theirs: Any) -> dict[str, Any]:
    return _gemma(theirs) | {
        "query_scale": theirs.query_pre_attn_scalar**-0.5,
        "post_norms": True,
        "final_softcap": theirs.final_logit_softcapping or 0.0,
    }


def _gemma2(theirs: Any) -> dict[str, Any]:
    return _gemma23(theirs) | {"attention_softcap": theirs.attn_logit_softcapping or 0.0}


def _gemma3(theirs: Any) -> dict[str, Any]:
    return _gemma23(theirs) | {"qk_norm": True}


def _bloom(theirs: Any, given: Fields) -> ModelConfig:
    hidden, heads = theirs.hidden_size, theirs.n_head
    if given.get("n_inner") not in (None, 4 * hidden):
        raise UserError(f"n_inner is {given['n_inner']}; BLOOM's MLP is 4 times hidden_size")
    if hidden % heads:
        raise UserError(f"num_attention_heads is {heads}; it should divide hidden_size, {hidden}")
    return ModelConfig(
        vocab_size=theirs.vocab_size,
        hidden_size=hidden,
        num_layers=theirs.n_layer,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        mlp_size=4 * hidden,
        norm_eps=theirs.layer_norm_epsilon,
        rope=None,
        tied=theirs.tie_word_embeddings,
        max_position=given.get("seq_length", 2048),
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


def _activation(family: str, given: Fields) -> str:
    known = FAMILIES[family].activations
    name = given.get("hidden_activation") or given.get("hidden_act", next(iter(known)))
    if name not in known:
        raise UserError(f"hidden_act is {name!r}; supported for {family}: {', '.join(known)}")
    return known[name]


def _windows(theirs: Any) -> dict[str, Any]:
    """The window, and which layers are local, where layers are of kinds."""
    layers = theirs.num_hidden_layers
    kinds = getattr(theirs, "layer_types", None)
    if kinds is None:
        return {}
    if len(kinds) != layers or set(kinds) - {"sliding_attention", "full_attention"}:
        raise UserError(f"layer_types does not name a known kind for each of {layers} layers")
    local = tuple(kind == "sliding_attention" for kind in kinds)
    if not any(local):
        return {}
    window = getattr(theirs, "sliding_window", None)
    if not window:
        raise UserError("layer_types has sliding_attention, but there is no sliding_window")
    return {"window": window, "local_layers": local}


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", frozenset({"attention_bias", "mlp_bias"})),
    "mistral": Family("MistralForCausalLM", frozenset({"sliding_window"}), _mistral),
    "qwen2": Family("Qwen2ForCausalLM", _QWEN, lambda _: {"qkv_bias": True}),
    "qwen3": Family("Qwen3ForCausalLM", _QWEN | {"attention_bias"}, lambda _: {"qk_norm": True}),
    # Gemma 1's first files say "gelu" and mean its tanh form, as transformers has it.
    "gemma": Family(
        "GemmaForCausalLM",
        frozenset({"attention_bias", "hidden_activation"}),
        _gemma,
        activations=GELU | {"gelu": "gelu_tanh"},
    ),
    "gemma2": Family("Gemma2ForCausalLM", _GEMMA2, _gemma2, activations=GELU),
    "gemma3_text": Family("Gemma3ForCausalLM", _GEMMA3, _gemma3, activations=GELU),
    "bloom": Family("BloomForCausalLM", _BLOOM),  # the one with ALiBi: see `_bloom`
}
