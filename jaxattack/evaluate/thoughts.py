"""Thoughts that a reasoning model writes before its reply, and what is left without them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jaxattack.data.thoughts import MARKS, SENTENCES, opened


def _pattern(mark: str) -> str:
    """A mark in any case, but for `[THINK]`: people write "[think]" themselves."""
    exact = re.escape(mark)
    return exact if mark.startswith("[") else f"(?i:{exact})"


_OPENS = "|".join(_pattern(opens) for opens, _ in MARKS)
_CLOSES = "|".join(_pattern(closes) for _, closes in MARKS)
_MARK = re.compile(f"(?P<opens>{_OPENS})|(?P<closes>{_CLOSES})")


def without_thoughts(text: str) -> tuple[str, bool]:
    """What a model says beside its thoughts, and whether its last thought has no end.

    A close without its beginning ends a thought that the prompt's template opened, unless nothing
    stands behind it: then it ends the reply. Thoughts between sentences instead of marks need both
    of them, the first at the beginning: one alone may be part of a reply.
    """
    text = _without_sentences(text)
    said: list[str] = []
    start, inside, ended = 0, False, ""
    for mark in _MARK.finditer(text):
        piece = "" if inside else text[start : mark.start()]
        if mark["opens"]:
            said.append(piece)
            inside, ended = True, ""
        elif inside:
            inside = False
        else:
            before = "".join(said) + piece
            ended = before if before.strip() else ended
            said.clear()
        start = mark.end()
    if not inside:
        said.append(text[start:])
    rest = "".join(said)
    return (rest if rest.strip() else ended or rest), inside


def _without_sentences(text: str) -> str:
    """A text behind the thought with which it begins, if sentences mark that."""
    opens, closes = SENTENCES
    if not text.lstrip().startswith(opens):
        return text
    return text.partition(closes)[2] if closes in text else text


def opened_by(prompt: str) -> str:
    """The mark of a thought with which a rendered prompt ends; "" if it ends with none.

    A mark further up is the user's, who may ask about it.
    """
    marks = opened(prompt)
    return "" if marks is None else marks[0]


def decode(tokenizer: Any, prompt: Sequence[int], written: Sequence[int]) -> str:
    """Text of generated tokens, without special ones except the marks of thoughts.

    If the prompt's template opened a thought, the text begins with that mark: without it, a thought
    that was cut would pass for a reply.
    """
    special = set(tokenizer.all_special_ids)
    kept = [token for token in written if token not in special or _is_mark(tokenizer, token)]
    mark = opened_by(tokenizer.decode(list(prompt)[-32:]))
    return mark + tokenizer.decode(kept)


def _is_mark(tokenizer: Any, token: int) -> bool:
    return _MARK.fullmatch(tokenizer.convert_ids_to_tokens(token)) is not None
