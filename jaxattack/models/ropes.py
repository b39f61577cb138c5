"""RoPE in a Hugging Face `config.json`: what its entries mean, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxattack.errors import UserError
from jaxattack.models import fields as rules
from jaxattack.models.config import Rope

Fields = Mapping[str, Any]

# What each kind reads beside its theta; the length before scaling is noted by some that do not.
_READS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def check(family: str, given: Fields) -> None:
    """Refuse RoPE fields that lack something, or of which transformers would drop one.

    Raises:
        UserError: names the field and its entry.
    """
    scaling, parameters = given.get("rope_scaling"), given.get("rope_parameters")
    for name, value in (("rope_scaling", scaling), ("rope_parameters", parameters)):
        if value is not None and not isinstance(value, dict):
            raise UserError(f"{name} is {value!r}; it should be an object with a rope_type")
    nested = {name: value for name, value in (parameters or {}).items() if isinstance(value, dict)}
    kinds = {"full_attention", "sliding_attention"}
    extra = sorted(set(parameters or ()) - kinds)
    if family == "gemma3_text" and extra:
        raise UserError(
            f"rope_parameters of {family} has an entry for each of {', '.join(sorted(kinds))}; "
            f"unknown: {', '.join(extra)}"
        )
    if scaling and parameters and not nested and scaling != parameters:
        raise UserError(
            f"rope_scaling={scaling} and rope_parameters={parameters} are both there, and "
            "transformers would drop the second; put all of it into rope_parameters"
        )
    if parameters and not nested and "rope_theta" not in {*parameters, *given}:
        raise UserError("rope_parameters has no rope_theta")
    length = given.get("original_max_position_embeddings")
    for name, part in {"rope_scaling": scaling, "rope_parameters": parameters, **nested}.items():
        if not part or (part is parameters and nested):
            continue
        kind = _kind(part, name)
        for need in _READS[kind]:
            if part.get(need) is None and need != "original_max_position_embeddings":
                raise UserError(f"RoPE scaling {kind!r} needs {need!r}")
        if kind == "llama3" and length not in (None, part.get("original_max_position_embeddings")):
            raise UserError(
                f"original_max_position_embeddings is {length} beside {name}={part}; keep one"
            )


def _kind(parameters: Fields, where: str) -> str:
    kind, other = parameters.get("rope_type"), parameters.get("type")
    kind = kind if kind is not None else other if other is not None else "default"
    if other not in (None, kind):
        raise UserError(f"{where} has rope_type {kind!r} and type {other!r}; keep one")
    if not isinstance(kind, str) or kind not in _READS:
        raise UserError(f"RoPE scaling {kind!r} is not supported ({', '.join(_READS)})")
    return kind


def of_config(family: str, theirs: Any) -> tuple[Rope, Rope | None]:
    """RoPE of the layers, and of local layers if theirs differs, from transformers' own config.

    Raises:
        UserError: a kind or an entry that we do not have.
    """
    parameters = theirs.rope_parameters
    if family != "gemma3_text":
        return _rope(parameters, "rope_parameters"), None
    whole, local = (
        _rope(parameters[kind], f"rope_parameters.{kind}")
        for kind in ("full_attention", "sliding_attention")
    )
    return whole, local


def _rope(parameters: Fields, where: str) -> Rope:
    kind = _kind(parameters, where)
    parameters = rules.checked(parameters, f"{where}.")
    reads = _READS[kind]
    idle = {"rope_type", "type", "rope_theta", "original_max_position_embeddings"}
    neutral = {"factor": 1, "partial_rotary_factor": 1, "attention_factor": 1}
    unread = [
        f"{name}={value!r}"
        for name, value in sorted(parameters.items())
        if name not in {*idle, *reads} and value not in (None, neutral.get(name))
    ]
    if unread:
        raise UserError(f"{where}: unknown for RoPE scaling {kind!r}: {', '.join(unread)}")
    for name in ("rope_theta", *reads):
        if parameters.get(name) is None:
            raise UserError(f"RoPE scaling {kind!r} needs {name!r}")
    scaling = [parameters[name] for name in reads]
    if kind == "llama3" and not scaling[1] < scaling[2]:
        raise UserError(f"{where}: low_freq_factor should be below high_freq_factor")
    return Rope(kind, parameters["rope_theta"], *scaling)


def fields_of(rope: Rope) -> dict[str, Any]:
    """The entries that describe it, as transformers 5 writes them."""
    fields: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.kind != "default":
        fields["factor"] = rope.factor
    if rope.kind == "llama3":
        fields["low_freq_factor"] = rope.low_freq_factor
        fields["high_freq_factor"] = rope.high_freq_factor
        fields["original_max_position_embeddings"] = rope.original_max_position
    return fields
