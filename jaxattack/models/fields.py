"""Which fields of a Hugging Face `config.json` speak of arithmetic: a rule, not a list of names.

Transformers computes what the fields of a model type's config class say, and ignores every other
field of the file. So do we, with two exceptions that are refused by name: a field of the class
whose arithmetic we lack, and a field the class lacks whose name speaks of arithmetic that the
shapes of the weights would not show (a wrong size or a bias is seen when the weights are read).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxattack.errors import UserError

Fields = Mapping[str, Any]

# How a model is run, trained, tokenized or sampled, whatever else the name has in it.
_BOOKKEEPING = re.compile(
    r"""^_ | \. | dropout | pdrop | initializer | init_(std|method) | flash | sdpa
    | implementation | _in_fp32$ | (^|_)fused | fusion$ | checkpointing | neftune | unsloth
    | version | (tensor|model|pipeline|sequence)_parallel | ^tokenizer
    | token(_ids?|_index|_type)?s?$
    | ^use_cache$ | ^pretraining_tp$ | ^slow_but_exact$ | ^offset_alibi$ | logits_to_keep
    | ^dual_chunk_attention_config$  # the authors' own, beyond the length that was trained
    """,
    re.VERBOSE,
)
_ARITHMETIC = re.compile(
    r"""rope | rotary | yarn | ntk | alibi | attn | attention | window | causal | bidirection | mask
    | sink | chunk | norm | (^|_)eps(ilon)?($|_) | cap(s|ped|ping)?($|_) | clip | scal | multipl
    | logit | residual | parallel | shift | activation | hidden_act | act_fn | (^|_)gate | expert
    | moe | router | quant | position_(embedding|encoding) | intermediate | interleave | layer_types
    | per_layer | sharing | transformers_weights | (factor|ratio|pct|percent|fraction)$""",
    re.VERBOSE,
)
# A factor of 1 changes nothing, unless it stands for another default.
_FACTOR = re.compile(r"scal|multipl|(factor|ratio|pct|percent|fraction)$")
_OWN_DEFAULT = re.compile(r"attention|attn|query")
_GATED = ("silu", "swish", "swiglu")  # names of the one activation that gated families have


@functools.cache
def known_to_transformers(family: str) -> tuple[Mapping[str, Any], frozenset[str]]:
    """Fields of a model type's config class, with defaults, and names that are bookkeeping."""
    from transformers import CONFIG_MAPPING, GenerationConfig, PreTrainedConfig  # takes seconds

    common = set(vars(PreTrainedConfig())) | set(GenerationConfig().to_dict())
    known = {
        name: value
        for name, value in vars(CONFIG_MAPPING[family]()).items()
        if name not in common and not name.startswith("_")
    }
    return known, frozenset(common | {"model_type", "torch_dtype", "num_labels", "auto_map"})


def unknown(family: str, fields: Fields, read: Collection[str]) -> list[str]:
    """Fields, beside those that are `read`, that may change the arithmetic: "name=value" each."""
    known, bookkeeping = known_to_transformers(family)
    found = []
    for name in sorted(set(fields) - set(read)):
        value = fields[name]
        if name in bookkeeping or _BOOKKEEPING.search(name):
            continue
        if name in known:
            harmless = value in (None, known[name], *((False,) if known[name] is None else ()))
        else:
            harmless = not _ARITHMETIC.search(name) or _changes_nothing(name, value, fields, known)
        if not harmless:
            found.append(f"{name}={_short(value)}")
    return found


def _changes_nothing(name: str, value: Any, fields: Fields, known: Fields) -> bool:
    """Whether an unknown field's value leaves the arithmetic as it is."""
    if name.endswith("causal"):
        return value in (None, True)
    if value is None or value is False or value == 0 or value in ("", [], {}):
        return True
    if "act" in name and value in _GATED:
        return fields.get("hidden_act", known.get("hidden_act")) in _GATED
    if name == "layer_types":
        return isinstance(value, list) and set(map(str, value)) == {"full_attention"}
    if value == 1 and not isinstance(value, bool):
        return bool(_FACTOR.search(name)) and not _OWN_DEFAULT.search(name)
    # Gemma 2's files say the window a second time, as sliding_window_size.
    stem = name.removesuffix("_size")
    return stem != name and value == fields.get(stem, known.get(stem))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- Types and sizes ----------------------------------------------------------------------------

# No published decoder comes near; beyond them sums and names would take memory before the weights
# that the file holds could be compared.
_MOST = {"num_hidden_layers": 10_000, "n_layer": 10_000}
_MOST_OF_OTHERS = 2**31 - 1
_WHOLE = frozenset(
    """vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim max_position_embeddings sliding_window n_layer n_head n_embed
    n_inner seq_length sliding_window_pattern _sliding_window_pattern max_window_layers
    original_max_position_embeddings""".split()
)
_ABOVE_ZERO = frozenset(
    """rms_norm_eps layer_norm_epsilon rope_theta rope_local_base_freq query_pre_attn_scalar
    attn_logit_softcapping final_logit_softcapping factor low_freq_factor
    high_freq_factor""".split()
)
_SWITCHES = frozenset("tie_word_embeddings attention_bias mlp_bias use_sliding_window".split())
_TEXTS = frozenset({"hidden_act", "hidden_activation", "rope_type", "type"})


def checked(fields: Fields, where: str = "") -> dict[str, Any]:
    """The fields with each number of the type it is used as; None stays.

    Raises:
        UserError: names a field that is no number, text or switch, or out of bounds.
    """
    return {name: _checked(f"{where}{name}", name, value) for name, value in fields.items()}


def _checked(shown: str, name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _WHOLE:
        if type(value) is not int:
            raise UserError(f"{shown} is {_short(value)}; it should be a whole number")
        least, most = int(name != "max_window_layers"), _MOST.get(name, _MOST_OF_OTHERS)
        if not least <= value <= most:
            raise UserError(f"{shown} is {_short(value)}; it should be from {least} to {most}")
    elif name in _ABOVE_ZERO:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{shown} is {_short(value)}; it should be a number")
        # float32 is what it is computed with
        if not (1e-38 < value < 1e38 and math.isfinite(value)):
            raise UserError(f"{shown} is {_short(value)}; it should be a finite number above 0")
        if name != "query_pre_attn_scalar":  # a whole number in transformers' class
            return float(value)
    elif name in _SWITCHES and not isinstance(value, bool):
        raise UserError(f"{shown} is {_short(value)}; it should be true or false")
    elif name in _TEXTS and not isinstance(value, str):
        raise UserError(f"{shown} is {_short(value)}; it should be a name")
    return value
