"""The language of a reply, told from its letters and, where they are shared, by py3langid."""

from __future__ import annotations

import functools
import re
from collections import Counter

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from jaxattack.data.folding import script
from jaxattack.data.languages import script_of

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

# Scripts with languages that cannot be told from their kin, by ISO 15924 as our codes name them.
_ISO_15924 = {
    "ARABIC": "Arab",
    "BENGALI": "Beng",
    "CYRILLIC": "Cyrl",
    "DEVANAGARI": "Deva",
    "ETHIOPIC": "Ethi",
    "LATIN": "Latn",
    "MYANMAR": "Mymr",
}
_OURS = {"nb": "no"}  # our codes that py3langid has others for
_TAKEN_FOR_KIN = ("ary", "arz")  # it knows them, and says mostly Arabic


def reply_language(text: str, prompt_language: str) -> str:
    """Code of the language a reply is in; "" if it is too short or too unlike any to tell.

    Code is no language. `prompt_language` and English are likelier than others beforehand. Where
    the prompt's language is none that can be told, a reply in its script may be in it: "".
    """
    text = re.sub(r"```.*?(```|\Z)|`[^`\n]*`|https?://\S+|[\w.]+@[\w.]+", " ", text, flags=re.S)
    counts = Counter(filter(None, map(script, text)))
    main = _main_script(counts)
    least = LEAST_CHARACTERS if main in ("HAN", "KANA", "HANGUL") else LEAST_LETTERS
    if counts[main] < least:
        return ""
    base, _, other_script = prompt_language.partition("-")
    if main == "HAN" and base in ("zh", "yue"):
        return prompt_language
    name = _OURS.get(base, base)
    found = _told(text, main, name)
    if found == name and not other_script:
        return prompt_language
    known = _can_be_told(name, main) and not other_script
    alike = _ISO_15924.get(main) == script_of(prompt_language)
    return "" if alike and not known and found != "en" else found


def _can_be_told(name: str, main: str) -> bool:
    """Whether a language written in a script is ever what a text is told to be in."""
    if main in _BY_SCRIPT:
        return _BY_SCRIPT[main] == name
    return name in _labels() and name not in _TAKEN_FOR_KIN


def _told(text: str, main: str, base: str) -> str:
    """The language of a text in a script, by py3langid's code; that of the prompt is `base`."""
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
def _labels() -> frozenset[str]:
    return frozenset(code for code, _ in _identifier().rank(""))


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
