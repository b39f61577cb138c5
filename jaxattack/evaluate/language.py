"""The language of a reply, told from its letters and, where they are shared, by py3langid."""

from __future__ import annotations

import functools
import re
from collections import Counter

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from jaxattack.data.folding import script

# Fewer letters than this tell nothing (characters of Chinese or Japanese, syllables of Korean).
LEAST_LETTERS = 10
LEAST_CHARACTERS = 3
# A script beside Latin decides from this share of the letters on: Latin is the script of terms.
OWN_SHARE = 0.15
# How much likelier than another language, before anything is read, that of the prompt and English
# are: short texts of names and numbers say little.
PRIOR = 8.0
LEAST_PROBABILITY = 0.4

_BY_SCRIPT = dict(
    pair.split(":")
    for pair in (
        "ARMENIAN:hy BENGALI:bn ETHIOPIC:am GEORGIAN:ka GREEK:el GUJARATI:gu GURMUKHI:pa "
        "HANGUL:ko HEBREW:he KANA:ja KANNADA:kn KHMER:km LAO:lo MALAYALAM:ml MYANMAR:my ORIYA:or "
        "SINHALA:si TAMIL:ta TELUGU:te THAI:th"
    ).split()
)
# Scripts of several languages, and the languages told apart in them: those of many speakers, of
# near twins one. The language of the prompt is always among them.
_SHARED = {
    "LATIN": "af az ca cs da de en es et eu fi fr ha hr hu id it jv lt lv nl no pl pt ro sk sl so "
    "sq sv sw tl tr uz vi yo zu",
    "CYRILLIC": "be bg kk ky mk mn ru sr tg uk",
    "ARABIC": "ar fa ku ps ug ur",
    "DEVANAGARI": "hi mr ne sa",
    "HAN": "zh",
}


def reply_language(text: str, prompt_language: str) -> str:
    """ISO code of the language a reply is in; "" if it is too short or too unlike any to tell.

    Code is no language. `prompt_language` and English are likelier than others beforehand.
    """
    text = re.sub(r"```.*?(```|\Z)|`[^`\n]*`|https?://\S+|[\w.]+@[\w.]+", " ", text, flags=re.S)
    counts = Counter(filter(None, map(script, text)))
    main = _main_script(counts)
    least = LEAST_CHARACTERS if main in ("HAN", "KANA", "HANGUL") else LEAST_LETTERS
    if counts[main] < least:
        return ""
    base = prompt_language.partition("-")[0]
    if main == "HAN" and base in ("zh", "yue"):
        return prompt_language
    if main in _BY_SCRIPT:
        return _BY_SCRIPT[main]
    candidates = {*_SHARED.get(main, "").split(), base}
    if main not in _SHARED:
        return ""
    odds = {
        code: share * (PRIOR if code in (base, "en") else 1.0)
        for code, share in _identifier().rank(text)
        if code in candidates and (main != "HAN" or code == "zh")
    }
    best = max(odds, key=odds.__getitem__)
    return best if odds[best] >= LEAST_PROBABILITY * sum(odds.values()) else ""


def _main_script(counts: Counter[str]) -> str:
    """The script which says what language it is; kana beside Chinese characters says Japanese."""
    if counts["KANA"] * 10 >= counts["KANA"] + counts["HAN"] and counts["KANA"]:
        counts["KANA"] += counts.pop("HAN", 0)
    letters = sum(counts.values())
    own = {name: n for name, n in counts.items() if name != "LATIN"}
    best = max(own, key=own.__getitem__, default="LATIN")
    return best if own and own[best] >= OWN_SHARE * letters else "LATIN"


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
