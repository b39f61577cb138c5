"""What is wrong with a reply before anyone judges its content."""

from __future__ import annotations

import unicodedata
from collections import Counter

# The script most letters of a reply in the language should have, by the start of their Unicode
# names. Languages in Latin letters cannot be told apart this way.
_SCRIPTS = {
    "ar": ("ARABIC",),
    "hi": ("DEVANAGARI",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "th": ("THAI",),
    "zh": ("CJK",),
}
_LATIN = ("LATIN",)


def triage(reply: str, prompt: str, language: str, cut: bool) -> str:
    """The first of these that holds, else "ok".

    "empty"; "cut" - stopped by the token limit; "echo" - repeats the prompt; "repeats" - one
    stretch of text over and over; "script" - most letters are not of the language's script.
    """
    text = " ".join(reply.split())
    if not text:
        return "empty"
    if cut:
        return "cut"
    if text.casefold() == " ".join(prompt.split()).casefold():
        return "echo"
    if _repeats(text):
        return "repeats"
    if not _script_fits(text, language):
        return "script"
    return "ok"


def _repeats(text: str, size: int = 8, share: float = 0.5) -> bool:
    """Whether one stretch of `size` characters covers more than `share` of a longer text."""
    if len(text) < 5 * size:
        return False
    stretches = Counter(text[i : i + size] for i in range(len(text) - size + 1))
    return stretches.most_common(1)[0][1] * size > share * len(text)


def _script_fits(text: str, language: str) -> bool:
    scripts = _SCRIPTS.get(language, _LATIN)
    names = [unicodedata.name(char, "") for char in text if char.isalpha()]
    fitting = sum(name.startswith(scripts) for name in names)
    return 2 * fitting >= len(names)
