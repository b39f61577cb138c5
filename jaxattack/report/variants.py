"""Names of variants and masks, and the words a reader understands without the naming scheme."""

import math
from typing import Any, NamedTuple

from jaxattack.report.languages import join_names, language_name

METHOD_NAMES = {
    "sil": "SIL",
    "random": "random",
    "matched_random": "tensor-matched random",
    "magnitude": "largest change",
    "weight": "largest weight",
    "snip": "SNIP",
    "wanda": "Wanda",
    "fisher": "Fisher",
    "other": "another language’s SIL",
    "benign": "SIL of benign tuning",
    "sil_minus_benign": "SIL minus benign",
    "union": "union of all SIL",
    "intersection": "intersection of all SIL",
    "complement": "all but SIL’s",
    "sil_leaf": "SIL, tensor by tensor",
    "sil_row": "SIL, row by row",
    "sil_attacked": "SIL, gradient when attacked",
    "sil_path": "SIL, gradient along the path",
    "sil_mean": "SIL, |mean gradient|",
    "sil_blocks": "SIL, blocks only",
}
# Chosen without the SIL mask they are compared with.
CONTROLS = "random matched_random magnitude weight snip wanda fisher other benign".split()
MASKED = ("stitched", "rewound", "frozen", "restitched")  # kinds named by a mask's fraction
ADAPTED = ("adapted", "transplanted")  # kinds that speak languages the aligned model lacks
# In the order of a table of all of them.
KINDS = ["aligned", "attacked", "mixed", "benign", *MASKED, "pathway", *ADAPTED]
KINDS += ["unattacked", "sharing"]
_HOW = {"full": "full tuning", "lora": "LoRA"}


class Variant(NamedTuple):
    """A parsed variant name: `stitched/en/sil@0.2` -> ("stitched", "en", "sil", 0.2).

    `fraction` is whatever number stands after the @: a share, a count of pairs, a round.
    """

    kind: str
    language: str = ""
    method: str = ""
    fraction: float | None = None


def parse_variant(name: str) -> Variant:
    """Parse a variant name; a shape we do not know becomes a kind of its own.

    Where the language slot holds no single language the kind says so: `attacked/en+th` is
    `mixed`, `sharing/aligned/…` is `unattacked`, `adapted/full/…` has its way as the method.
    """
    if name.count("/") == 1:
        kind, language = name.split("/")
        return Variant("mixed" if kind == "attacked" and "+" in language else kind, language)
    if name.count("/") == 2 and name.count("@") == 1:
        kind, language, mask = name.split("/")
        method, _, number = mask.partition("@")
        if is_number(number):
            found = Variant(kind, language, method, float(number))
            if kind == "adapted":
                return found._replace(language="", method=language)
            if (kind, language) == ("sharing", "aligned"):
                return found._replace(kind="unattacked", language="")
            return found
    return Variant(name)


def parse_mask(name: str) -> tuple[str, float | None]:
    """`sil/en@0.2` -> ("sil", 0.2): a mask's name puts the method first, a variant's last."""
    method, _, rest = name.partition("/")
    language, _, fraction = rest.partition("@")
    return method, parse_variant(f"mask/{language}/{method}@{fraction}").fraction


def variant_label(variant: Variant) -> str:
    """A variant in words a reader understands without the naming scheme."""
    if variant.kind == "aligned":
        return "aligned model"
    if variant.kind in ("attacked", "mixed") and not variant.method:
        return f"attacked in {join_names(variant.language.split('+'))}"
    if variant.kind == "benign" and not variant.method:
        return f"tuned on benign pairs, {language_name(variant.language)}"
    if variant.fraction is None:
        return "/".join(part for part in (variant.kind, variant.language) if part)
    first, second = kind_label(variant)
    if not variant.language:
        return f"{first} ({second})" if second else first
    return f"{first} ({second}), {language_name(variant.language)}"


def kind_label(kind: Variant) -> tuple[str, str]:
    """The kind of a variant, whatever its language, on two lines."""
    if kind.fraction is None:
        names = {"mixed": ("attacked", "several languages"), "benign": ("benign tuning", "")}
        return names.get(kind.kind, (kind.kind, ""))
    number = f"{kind.fraction:g}"
    if kind.kind == "attacked":
        return "attacked", f"{number} {kind.method if number != '1' else 'pair'}"
    if kind.kind == "pathway":
        return "attacked again", f"round {number}"
    if kind.kind == "unattacked":
        return "aligned", f"{kind.method} {number}"
    if kind.kind == "sharing":
        return "attacked", f"{kind.method} {number}"
    if kind.kind == "adapted":
        return "adapted", _HOW.get(kind.method, kind.method)
    if kind.kind == "transplanted":
        return kind.kind, transplant_label(kind)
    if kind.method == "complement":
        return kind.kind, f"all but SIL’s {share(kind.fraction)}"
    return kind.kind, f"{METHOD_NAMES.get(kind.method, kind.method)}, {share(kind.fraction)}"


def transplant_label(variant: Variant) -> str:
    """`full-sil@0.2` -> `SIL’s 20 %, full tuning`."""
    how, _, part = variant.method.partition("-")
    what = f"SIL’s {share(variant.fraction or 0)}" if part == "sil" else "whole vector"
    return f"{what}, {_HOW.get(how, how)}"


def share(fraction: float) -> str:
    """A mask fraction: `20 %`, `0.5 %`."""
    return f"{fraction * 100:.3g}\u00a0%"


def is_number(value: Any) -> bool:
    """Whether the value can be drawn: a finite number."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
