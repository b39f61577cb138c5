"""Cutting a text into words, characters or tokenizer pieces, so that joining them gives it back."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from jaxattack.errors import UserError

UNITS = ("script", "word", "character", "piece")

# Scripts that run words together: Thai, Lao, Burmese, Khmer, kana, Han (and their punctuation).
_RUN_TOGETHER = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
# Thai and Lao vowels written, and stored, before the consonant they belong to.
_LEADING = frozenset("เแโใไເແໂໃໄ")


def units(text: str, kind: str = "script", tokenizer: Any = None) -> list[str]:
    """Cut a text into units; `"".join(units(text)) == text`.

    Space belongs to the unit before it (at the very start to the first one).

    Args:
        text: any text.
        kind: "word" cuts after space; "character" after each character with its combining marks;
            "piece" where the tokenizer cuts; "script" takes characters in scripts that run words
            together and words elsewhere, also within one text.
        tokenizer: a fast Hugging Face tokenizer, for "piece".

    Raises:
        UserError: no such kind, or a tokenizer that does not say where its pieces lie.
    """
    if kind not in UNITS:
        raise UserError(f"unit is {kind!r}; give one of {', '.join(UNITS)}")
    starts = _piece_starts(text, tokenizer) if kind == "piece" else _starts(text, kind)
    first = len(text) - len(text.lstrip())
    inner = sorted({start for start in starts if first < start < len(text)})
    cuts = [0]
    for start, stop in itertools.pairwise([*inner, len(text)]):
        if text[start:stop].strip():  # a piece of nothing but space goes to the one before it
            cuts.append(start)
    return [text[a:b] for a, b in itertools.pairwise([*cuts, len(text)]) if a < b]


def _starts(text: str, kind: str) -> Iterable[int]:
    for before, (i, char) in zip(text, enumerate(text[1:], start=1), strict=False):
        if char.isspace() or unicodedata.category(char).startswith("M"):
            continue
        run_together = _RUN_TOGETHER.match(char) or _RUN_TOGETHER.match(before)
        each = kind == "character" or (kind == "script" and run_together)
        if before.isspace() or (each and before not in _LEADING):
            yield i


def _piece_starts(text: str, tokenizer: Any) -> Iterable[int]:
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("units of kind 'piece' need a fast tokenizer")
    # Pieces of one character (bytes) share its offset, and so fall together.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return (start for start, _ in encoded["offset_mapping"])
