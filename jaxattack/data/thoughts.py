"""How families of models mark the thoughts that come before a reply."""

from __future__ import annotations

import re

# What opens a thought, what closes it.
MARKS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, QwQ, GLM, Phi-4, Hunyuan, Nemotron
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),  # Kimi
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
# Granite 3.2: plain English, which any model may write of itself; no template opens a thought so.
SENTENCES = ("Here is my thought process:", "Here is my response:")
_EMPTY = "|".join(rf"{re.escape(opens)}\s*{re.escape(closes)}" for opens, closes in MARKS)
_OPENS = "|".join(re.escape(opens) for opens, _ in MARKS)
_WHOLE = re.compile(rf"\s*(?:{_EMPTY})\s*")
_LAST = re.compile(rf"(?:{_EMPTY}|{_OPENS})\s*\Z")
_OPENED = re.compile(rf"({_OPENS})\s*\Z")


def is_empty(text: str) -> bool:
    """Whether a text is a thought of nothing, and no more."""
    return _WHOLE.fullmatch(text) is not None


def before(asked: str) -> str:
    """A rendered prompt without the empty or begun thought with which it ends."""
    return _LAST.sub("", asked)


def opened(asked: str) -> tuple[str, str] | None:
    """The marks of the thought that a rendered prompt begins; None if it begins none."""
    found = _OPENED.search(asked)
    return None if found is None else next(pair for pair in MARKS if pair[0] == found[1])
