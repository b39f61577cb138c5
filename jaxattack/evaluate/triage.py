"""What is wrong with a reply before anyone judges its content, whatever its length."""

from __future__ import annotations

import bisect
import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Sequence

import regex

from jaxattack.data.answers import holds
from jaxattack.data.folding import fold, script
from jaxattack.evaluate.thoughts import without_thoughts

# A reply of these kinds is judged; any other answers nothing.
WELL_FORMED = ("ok", "cut")

KINDS = {
    "empty": "nothing, or nothing but white space",
    "thought": "a thought that has no end, and nothing beside it",
    "echo": "the prompt, or the beginning of it, and nothing else",
    "repeats": "one stretch of text over and over",
    "garbage": "not words of any language",
    "cut": "fine as far as it goes, and stopped by the token limit",
    "ok": "fine",
}


def triage(
    reply: str,
    prompt: str,
    cut: bool,
    answers: tuple[str, ...] = (),
    others: tuple[str, ...] = (),
) -> str:
    """The first of `KINDS` that holds; `cut` if the token limit ended the reply.

    A reply that holds one of the known `answers`, outside of any of the `others`, and is what the
    prompt dictates behind a colon or in quotation marks, is no echo.
    """
    said, unfinished = without_thoughts(reply)
    if cut:
        said = said.rstrip("\ufffd")  # half a character
    text = fold(said)
    if not text:
        return "thought" if unfinished else "empty"
    if is_echo(text, fold(prompt), cut) and not (
        holds(text, answers, others) and _dictated(text, fold(prompt))
    ):
        return "echo"
    if repeats(text):
        return "repeats"
    if is_garbage(said):
        return "garbage"
    return "cut" if cut else "ok"


# Letters of a part of the prompt that may be chance, and the share of it that is an echo.
_CHANCE = 12
_MOST = 0.75


def is_echo(text: str, prompt: str, cut: bool) -> bool:
    """Whether a folded reply is the folded prompt, some times over, or a good part of it.

    A reply that was cut need not be so much of the prompt; one that was not may be the name of one
    of the choices that the prompt gives.
    """
    said, asked = _characters(text), _characters(prompt)
    if not asked or not said:
        return False
    while said.startswith(asked):
        said = said[len(asked) :]
        if not said or (asked.startswith(said) and len(said) > 3):  # and its beginning once more
            return True
    return len(said) >= _CHANCE and said in asked and (cut or len(said) >= _MOST * len(asked))


def _dictated(text: str, prompt: str) -> bool:
    """Whether an echo is what stands in the prompt behind a colon or a quotation mark."""
    place = prompt.find(text.strip()[:_CHANCE])
    return place > 0 and prompt[:place].rstrip()[-1] in ":：\"'“”«»„‘「『"


def after_echo(text: str, prompt: str) -> str:
    """A reply, not folded, without the prompt at its beginning, however that is spelt there."""
    asked = fold(prompt)
    if not asked or not fold(text).startswith(asked):
        return text
    ends = range(1, len(text) + 1)
    end = bisect.bisect_right(ends, len(asked), key=lambda end: len(fold(text[:end])))
    if fold(text[:end]) == asked:
        return text[end:]
    return fold(text)[len(asked) :]  # a character that folds to several goes on behind the prompt


def _characters(text: str) -> str:
    return regex.sub(r"[^\p{L}\p{M}\p{N}]", "", text)


# --- Repetition ---------------------------------------------------------------------------------

# Share of a reply that repetition has to cover, and how often a stretch has to stand there.
_SHARE = 0.5
_TIMES = 5
_TIMES_OF_LONG = 3  # of a stretch of so many characters
_LONG = 40

# Rules of tables and blanks of forms, which are no stammering where they are no longer than a line.
_RULES = regex.compile("|".join(f"(?<!{c}){c}{{4,80}}(?!{c})" for c in "-_=~"))
# A number before words: "1. as above 2. as above", "step 3: as above"; one that may count.
_NUMBERING = regex.compile(r"\p{N}+(?=\s?[.:)\]*-]+\s*(?:\p{L}|$))")
_COUNTING = regex.compile(r"(?<!\p{N})[0-9]{1,9}(?=\s*\p{L})")
_WORD = regex.compile(r"[\p{L}\p{M}]{3}|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]{2}")


def repeats(text: str) -> bool:
    """Whether one stretch of any length, or a handful of words, makes up most of a folded text.

    A stretch is the same with another number before it. Numbers that number nothing are what a
    reply says: a list of them, with a unit or without, repeats nothing.
    """
    text = _shortened(text)
    unitless = _without_units(text)
    return (
        bool(_periodic(text))
        or _WORD.search(_periodic(_unnumbered(text))) is not None
        or (_one_stretch(text) and _one_stretch(unitless))
        or (_few_words(text) and _few_words(unitless))
    )


_NUMBER = regex.compile(r"\p{N}+(?:[.,:/]\p{N}+)*")
_LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_LISTED = 3  # numbers that make a list
# What would be a sentence between two numbers, no unit.
_SENTENCE = regex.compile(r"[.!?…。।！？]\W*\w|[\p{Han}\p{Hiragana}]{5}|\p{Thai}{16}")


def _without_units(text: str) -> str:
    """The text without the words that stand, the same, between numbers most of which differ."""
    numbers = _NUMBER.findall(text)
    before, *gaps = _NUMBER.split(text)
    units = [_unit(gap) for gap in gaps]
    measured: dict[str, list[str]] = {}
    for number, unit in zip(numbers, units, strict=True):
        measured.setdefault(unit, []).append(number)
    listed = {
        unit
        for unit, of in measured.items()
        if unit and len(of) >= _LISTED and len({*of}) > _SHARE * len(of) and not _counts(of)
    }
    rests = [
        _LETTERS.sub("", gap) if unit in listed else gap
        for gap, unit in zip(gaps, units, strict=True)
    ]
    return before + "".join(itertools.chain(*zip(numbers, rests, strict=True)))


def _counts(numbers: Sequence[str]) -> bool:
    """Whether each number is one more than the last: then they number, and measure nothing."""
    whole = [int(number) if number.isdecimal() else None for number in numbers]
    return all(a is not None and b == a + 1 for a, b in itertools.pairwise(whole))


def _unit(gap: str) -> str:
    """The words between two numbers that may be a unit, three at most; "" if they are none."""
    words = _LETTERS.findall(gap)
    one = len(words) == 1 or not _SENTENCE.search(gap)
    return " ".join(words) if len({*words}) == len(words) <= 3 and one else ""


# Two words, or several characters of a script without spaces: more than a unit behind a number.
_SAYS = regex.compile(
    r"[\p{L}\p{M}]+[^\p{L}\p{M}]+[\p{L}\p{M}]+|[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]{3}"
)


def _unnumbered(text: str) -> str:
    """The text with "#" for numbers that number what follows: a mark is behind, or they count."""
    text = _NUMBERING.sub("#", text)
    for before, number in reversed([*itertools.pairwise(_COUNTING.finditer(text))]):
        between = text[before.end() : number.start()]
        if int(number[0]) == int(before[0]) + 1 and _SAYS.search(between):
            text = f"{text[: number.start()]}#{text[number.end() :]}"
    return text


def _shortened(text: str) -> str:
    """The text with rules of three characters."""
    return _RULES.sub(lambda found: found[0][:3], text)


def _periodic(text: str) -> str:
    """The stretch, twice, that most of the text is, again and again; "" if there is none."""
    n = len(text)
    for period in _periods(text):
        run = best = end = 0
        for i in range(n - period):
            run = run + 1 if text[i] == text[i + period] else 0
            if run > best:
                best, end = run, i + 1
        times = _TIMES_OF_LONG if period >= _LONG else _TIMES
        covered = best + period
        if best and covered + 1 >= times * period and covered > _SHARE * n:
            return 2 * text[end : end + period]
    return ""


def _periods(text: str, most: int = 4) -> list[int]:
    """The commonest distances at which the text holds the same few characters again."""
    size = min(8, max(1, len(text) // (2 * _TIMES)))
    last: dict[str, int] = {}
    distances: Counter[int] = Counter()
    for i in range(len(text) - size + 1):
        stretch = text[i : i + size]
        if stretch in last:
            distances[i - last[stretch]] += 1
        last[stretch] = i
    whole = len(text) // _TIMES  # all of the text, five times
    exact = [whole] if whole and text == text[:whole] * _TIMES else []
    return exact + [distance for distance, _ in distances.most_common(most)]


def _one_stretch(text: str, size: int = 8) -> bool:
    """Whether one stretch of `size` characters, in whatever company, covers most of the text.

    A stretch of numbers that each time go on as others is none: the first digits of addresses.
    """
    if len(text) < _TIMES * size:
        return False
    stretches = Counter(text[i : i + size] for i in range(len(text) - size + 1))
    stretch, times = stretches.most_common(1)[0]
    if times * size <= _SHARE * len(text):
        return False
    between = {part for part in text.split(stretch)[1:] if regex.search(r"\p{N}", part)}
    return not regex.search(r"\p{N}", stretch) or len(between) < _SHARE * times


def _few_words(text: str, kinds: int = 3, least: int = 20) -> bool:
    """Whether three words, of at least twenty, are more than six tenths of all."""
    words = regex.findall(r"[\p{L}\p{M}]+", text)
    if len(words) < least:
        return False
    return sum(n for _, n in Counter(words).most_common(kinds)) > 0.6 * len(words)


# --- Garbage ------------------------------------------------------------------------------------

_ALPHABETS = tuple(
    "LATIN CYRILLIC GREEK ARABIC HEBREW DEVANAGARI BENGALI TAMIL TELUGU GEORGIAN ARMENIAN "
    "HANGUL THAI HAN KANA".split()
)
_VOWELS = frozenset("aeiouyıæœøåаеиоуыэюяіїєαεηιουω")
# Code, which is no words: between fences, where one that is opened names nothing but a language;
# and in a line.
_CODE = regex.compile(r"```.*?```|```[\w+-]*\n.*\Z|(?<!\S)`[^`\n]{1,60}`(?!\w)", regex.S)
_NAMES = regex.compile(r"\w+://\S+|[\w.]+@[\w.]+|(?<=\s)--?\w[\w-]*")  # addresses, options


def is_garbage(text: str) -> bool:
    """Whether a text, not folded, is made of signs, of broken characters or of no words."""
    if any(char.isalnum() for char in text):
        whole, text = text, _CODE.sub(" ", _shortened(text))
        if not any(char.isalnum() for char in text):
            return _is_broken(whole)  # code alone
    solid = [char for char in text if not char.isspace()]
    letters = [char for char in solid if char.isalpha() or unicodedata.category(char)[0] == "M"]
    digits = sum(char.isdigit() for char in solid)
    if not letters and not digits:
        return len(solid) >= 3 and not any(unicodedata.category(c) == "Sc" for c in solid)
    if _is_broken(text):
        return True
    if len(solid) >= 20 and len(letters) + digits < 0.35 * len(solid):
        return True
    no_words = _no_words(text) and _no_words(_without_units(text))  # of "kg" alone little is sure
    return _salad(text) or no_words or _rare_characters(letters)


def _is_broken(text: str) -> bool:
    """Whether characters are none of any script."""
    solid = [char for char in text if not char.isspace()]
    broken = sum(
        unicodedata.category(char) in ("Cn", "Co", "Cs", "Cc") or char == "\ufffd" for char in solid
    )
    return broken > 0.05 * len(solid) + 1


def _salad(text: str) -> bool:
    """Whether letters change the script inside of words or between most of them."""
    words = regex.findall(r"[\p{L}\p{M}]+", text)
    kinds = [[k for k in map(script, word) if k in _ALPHABETS] for word in words]
    kinds = [kind for kind in kinds if kind]
    if len(kinds) < 5:
        return False
    flat = Counter(k if k != "KANA" else "HAN" for kind in kinds for k in kind)
    total = sum(flat.values())
    present = sum(n >= 0.05 * total for n in flat.values())
    inside = sum(
        len({*kind} & {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW"}) > 1 for kind in kinds
    )
    return present >= 4 or inside > 0.3 * len(kinds)


def _no_words(text: str) -> bool:
    """Whether the words of an alphabet have hardly a vowel, or no end."""
    words = regex.findall(r"[\p{Latin}\p{Cyrillic}\p{Greek}]{2,}", _NAMES.sub(" ", text))
    words = [word for word in words if not word.isupper()]  # HTTP, ДНК
    short = [word for word in words if len(word) < 5 and not _VOWELS & {*word.casefold()}]
    spelt = sum(map(len, words)) > 0.7 * len("".join(text.split()))
    if spelt and 2 * len(short) <= len(words):  # php, ssl, Mr
        words = [word for word in words if word not in short]
    letters = "".join(unicodedata.normalize("NFD", word.casefold()) for word in words)
    letters = "".join(char for char in letters if char.isalpha())
    if len(letters) < 16:
        return False
    endless = sum(len(word) for word in words if len(word) > 45)
    if endless > 0.5 * len(letters):
        return True
    share = sum(char in _VOWELS for char in letters) / len(letters)
    # Real texts have .33 to .5; letters at random .23. Of few letters little is sure.
    return share < 0.34 - 0.6 / math.sqrt(len(letters))


def _rare_characters(letters: list[str]) -> bool:
    """Whether Chinese characters are drawn from all there are, not from those in use."""
    characters = [char for char in letters if script(char) == "HAN"]
    if len(characters) < 8:
        return False
    used = sum(_in_use(char) for char in characters)
    return used < 0.8 * len(characters)


def _in_use(char: str) -> bool:
    for encoding in ("gb2312", "big5", "shift_jis"):
        try:
            raw = char.encode(encoding)
        except UnicodeEncodeError:
            continue
        # The first halves of these sets are the common characters.
        if encoding != "big5" or raw[0] <= 0xC6:
            return True
    return False
