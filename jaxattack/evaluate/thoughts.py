"""Thoughts that a reasoning model writes before its reply, and what is left without them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jaxattack.data.thoughts import MARKS

_OPENS = "|".join(re.escape(opens) for opens, _ in MARKS)
_CLOSES = "|".join(re.escape(closes) for _, closes in MARKS)
_MARK = re.compile(f"(?P<opens>{_OPENS})|(?P<closes>{_CLOSES})", re.IGNORECASE)


def without_thoughts(text: str) -> tuple[str, bool]:
    """What a model says beside its thoughts, and whether its last thought has no end.

    A close without its beginning ends a thought that the prompt's template opened.
    """
    said: list[str] = []
    start, inside = 0, False
    for mark in _MARK.finditer(text):
        if mark["opens"] and not inside:
            said.append(text[start : mark.start()])
            inside = True
        elif mark["closes"]:
            if not inside:
                said.clear()
            inside = False
        start = mark.end()
    if not inside:
        said.append(text[start:])
    return "".join(said), inside


def opened_by(prompt: str) -> str:
    """The mark of a thought which a rendered prompt leaves open; "" if it leaves none."""
    marks = list(_MARK.finditer(prompt))
    return (marks[-1]["opens"] or "") if marks else ""


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
