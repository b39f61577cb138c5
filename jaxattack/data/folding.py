"""One form for texts that are compared: answers, replies, prompts, phrases and names.

Two spellings of one word fold to the same text; two words do not. What a script writes or leaves
out at will goes (case, Arabic and Hebrew vowel points, Greek accents, invisible characters), what
tells words apart stays (Latin accents, the vowel signs of Indic scripts, Thai tones).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable

from opencc import OpenCC

# Letters and signs that are written for one another.
_VARIANTS = {
    **dict.fromkeys("ىیې", "ي"),
    **dict.fromkeys("ةۀەھہۃ", "ه"),
    **dict.fromkeys("کڪ", "ك"),
    **dict(zip("ٱıёѐѝ", "اiееи", strict=True)),
    **dict(zip("٫٬،؛؟。、", ".,,;?.,", strict=True)),
    **dict.fromkeys("‘’‛ʻʼʽˈ′`´ꞌ׳՚", "'"),
    **dict.fromkeys("“”„‟″〝〞״", '"'),
    **dict.fromkeys("‐‑⁃−˗⁻₋֊־᐀", "-"),
}

# Combining marks that may be left out, in decomposed text: all of the Semitic scripts (so أ is ا),
# the Devanagari nukta, the accents of Greek, the stress of Cyrillic (not the breve of й).
_OPTIONAL_MARKS = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4"
    "\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u08d3-\u08ff\u093c]"
    "|(?<=[\u0370-\u03ff\u1f00-\u1fff])[\u0300-\u036f]+"
    "|(?<=[\u0400-\u052f])[\u0300\u0301]+"
    "|(?<=i)\u0307"  # of İ, whose dot casefold sets apart
)
_INVISIBLE = {0x034F, 0x0640, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164}  # tatweel, fillers
_BARE = {"đ": "d", "ł": "l", "ø": "o", "ħ": "h", "ð": "d", "æ": "ae", "œ": "oe"}


def fold(text: str) -> str:
    """The form in which texts are compared; folding twice changes nothing more."""
    while (folded := _once(text)) != text:
        text = folded
    return text


def fold_all(texts: Iterable[str]) -> tuple[str, ...]:
    """Folded texts, without repeats and empty ones."""
    return tuple(dict.fromkeys(folded for text in texts if (folded := fold(text))))


def unmarked(text: str) -> str:
    """A folded text without its Latin accents, as some type it: `cote d'ivoire`."""
    plain = unicodedata.normalize("NFD", "".join(_BARE.get(char, char) for char in text))
    return unicodedata.normalize("NFC", re.sub("(?<=[a-z])[\u0300-\u036f]+", "", plain))


@functools.lru_cache(maxsize=1 << 16)
def script(char: str) -> str:
    """Script of a letter or of its mark, such as "LATIN"; "" for digits and signs."""
    if not char.isalpha() and not unicodedata.category(char).startswith("M"):
        return ""
    name = re.sub("^(HALFWIDTH|FULLWIDTH|MODIFIER LETTER) ", "", unicodedata.name(char, ""))
    if name.startswith(("CJK", "IDEOGRAPHIC", "KANGXI")):
        return "HAN"
    if name.startswith(("KATAKANA", "HIRAGANA")):
        return "KANA"
    return name.split(" ", 1)[0]


def _once(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().translate(_CHARACTERS)
    if not text.isascii():
        text = _OPTIONAL_MARKS.sub("", unicodedata.normalize("NFD", text))
        text = re.sub(
            "\u0e4d([\u0e48-\u0e4b])\u0e32", "\\1\u0e4d\u0e32", text
        )  # Thai am, tone first
        text = text.replace("\u0e40\u0e40", "\u0e41")  # two Thai e typed for one ae
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split())


class _Characters(dict[int, str]):
    """What each character folds to, found when it is first met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if char in _VARIANTS:
            found = _VARIANTS[char]
        elif category == "Nd":
            found = str(unicodedata.decimal(char))
        elif char.isspace():
            found = " "
        elif category in ("Cf", "Cc") or code in _INVISIBLE or 0xFE00 <= code <= 0xFE0F:
            found = ""
        else:
            found = _simplified(char) if script(char) == "HAN" else char
        self[code] = found
        return found


_CHARACTERS = _Characters()


def _simplified(char: str) -> str:
    """The simplified form of a traditional Chinese character."""
    convert = _converter().convert
    return convert(convert(char))


@functools.cache
def _converter() -> OpenCC:
    return OpenCC("t2s")
