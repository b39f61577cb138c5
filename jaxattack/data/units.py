"""Cutting a text into words, characters or tokenizer pieces, so that joining them gives it back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import regex

from jaxattack.errors import UserError

UNITS = ("script", "word", "character", "piece")

# Extended grapheme clusters (UAX #29), with what belongs to them for readers as well: vowels that
# Thai, Lao and Tai write before their consonant, consonants below another, signs that the standard
# (or its older versions) leaves apart.
_STACKERS = "\u1039\u17d2\u1a60\u1b44\ua9c0"
_ONE = r"\X(?:(?=\p{M})\X)*"
_CLUSTER = regex.compile(
    rf"(?:(?=\p{{Logical_Order_Exception}}){_ONE})*(?!\s){_ONE}"
    rf"(?:(?<=[{_STACKERS}])(?=\p{{L}}){_ONE})*|{_ONE}"
)
# Nothing to be seen: space, and marks for breaks, joins and direction.
_BLANK = regex.compile(r"(?:\s|\p{Cc}|[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff])+")
_WORD_ENDS = regex.compile(r"[\s\u200b]")
# Scripts that run words together, with their punctuation and full and half width forms.
_RUN_TOGETHER = regex.compile(
    r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}"
    r"\p{Tai_Viet}\p{Javanese}\p{Balinese}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Han}"
    "\u0e3f\u3001-\u30ff\uff00-\uffef]"
)


def units(text: str, kind: str = "script", tokenizer: Any = None) -> list[str]:
    """Cut a text into units; `"".join(units(text)) == text`.

    Space belongs to the unit before it (at the very start to the first one).

    Args:
        text: any text.
        kind: "word" cuts after space; "character" after each character as readers see it (an
            extended grapheme cluster); "piece" where the tokenizer cuts between such characters;
            "script" takes characters in scripts that run words together and words elsewhere, also
            within one text.
        tokenizer: a fast Hugging Face tokenizer, for "piece".

    Raises:
        UserError: no such kind, or a tokenizer that does not say where its pieces lie.
    """
    if kind not in UNITS:
        raise UserError(f"unit is {kind!r}; give one of {', '.join(UNITS)}")
    starts = _piece_starts(text, tokenizer) if kind == "piece" else _starts(text, kind)
    lead = _BLANK.match(text)
    first = lead.end() if lead else 0
    inner = sorted({start for start in starts if first < start < len(text)})
    cuts = [0]
    for start, stop in itertools.pairwise([*inner, len(text)]):
        if not _BLANK.fullmatch(text, start, stop):  # which goes to the piece before it
            cuts.append(start)
    return [text[a:b] for a, b in itertools.pairwise([*cuts, len(text)]) if a < b]


def _starts(text: str, kind: str) -> Iterator[int]:
    run_together, word_ended = False, False
    for cluster in _CLUSTER.finditer(text):
        if _BLANK.fullmatch(cluster[0]):
            word_ended = word_ended or bool(_WORD_ENDS.search(cluster[0]))
            continue
        before, run_together = run_together, bool(_RUN_TOGETHER.search(cluster[0]))
        each = kind == "character" or (kind == "script" and (run_together or before))
        if word_ended or each:
            yield cluster.start()
        word_ended = False


def _piece_starts(text: str, tokenizer: Any) -> Iterator[int]:
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("units of kind 'piece' need a fast tokenizer")
    # Pieces of one character (bytes) share its offset, and so fall together.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    whole = {cluster.start() for cluster in _CLUSTER.finditer(text)}
    return (start for start, _ in encoded["offset_mapping"] if start in whole)
