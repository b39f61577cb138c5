"""Whether a text holds one of the known answers, as a word where its script has words."""

from __future__ import annotations

import functools

import regex

from jaxattack.data.folding import fold, fold_all, script, unmarked

# Scripts whose words are not set apart; Hangul and katakana are half-way (see below).
UNSPACED = frozenset({"HAN", "KANA", "THAI", "LAO", "KHMER", "MYANMAR", "JAVANESE", "BALINESE"})
_RUN_TOGETHER = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# A letter, mark or digit that would go on with the word. \p{M} alone belongs to what it stands on.
_GOES_ON = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_RUN_TOGETHER}]]"
_KATAKANA = "[\\p{Katakana}ー]"

# What Korean hangs on a word, and what Arabic and Hebrew put before one.
_PARTICLES = (
    "은|는|이|가|을|를|의|와|과|도|만|며|고|다|라|란|요|씩|쯤|및|야|죠|나|이나|이며|이고|이다|이라|"
    "이란|이야|이죠|이지|지만|이지만|입니다|입니까|이에요|예요|에요|이었다|였다|이었습니다|였습니다|인데|"
    "인가요|이라고|라고|이라는|라는|으?로(?:는|도|만|써|서)?|에(?:는|도|서|서는|서도|게|게는)?|께서|한테|"
    "까지|부터|하고|처럼|보다|밖에|정도"
)
# After a number a counter, too; 10만 is a hundred thousand, and 만 no particle there.
_COUNTERS = (
    "개월|마리|달러|유로|사람|가지|시간|퍼센트|프로|(?:킬로|센티|밀리)?(?:미터|그램)|킬로|리터|"
    "[개명원번살년월일시분초점위회권대장병잔층쪽배엔세도호차]"
)
_AFTER_LATIN = rf"(?=(?:{_PARTICLES})(?!\p{{Hangul}}))"
_AFTER_DIGIT = (
    rf"(?=\p{{Hangul}})(?=(?![만천백십억조])(?:{_COUNTERS})?(?:{_PARTICLES})?(?!\p{{Hangul}}))"
)
_ARABIC_ARTICLE = "[وف]?(?:[بك]?ال|لل)"
_ARABIC_CLITICS = f"(?:{_ARABIC_ARTICLE}|[وف]?[بكل]|[وف])"
_HEBREW_CLITICS = "(?:[וש]?[בכלמהש]ה?|ו)"

# Words that open many a sentence: as an answer they stand at the end of a clause, "No." or
# "It is no, since ...", not "No idea".
_COMMON = frozenset(
    "a e i o u y à no non nein não nee nie nej нет hayır không tidak नहीं لا לא".split()
)
_CLAUSE_ENDS = r"(?=\s*(?:[.,;:!?…)\]\"'*]|$|-\s))"


def holds(text: str, answers: tuple[str, ...], others: tuple[str, ...] = ()) -> bool:
    """Whether the text holds one of the answers outside of any of the `others`.

    Words matter: "Asie du Sud" is not in "Asie du Sud-Est", nor 12 in 12.5. An accent may be
    missing (not added or changed) in a text that has none at all.
    """
    plain = fold(text).replace("*", "")
    bare = unmarked(plain) == plain
    found = _pattern(answers, others, bare).finditer(plain)
    return any(match["answer"] is not None for match in found)


@functools.lru_cache(maxsize=4096)
def _pattern(answers: tuple[str, ...], others: tuple[str, ...], bare: bool) -> regex.Pattern[str]:
    """Any answer (group `answer`) or other; at one place the longest."""
    right = dict.fromkeys(_spellings(answers, bare), True)
    every = right | dict.fromkeys(_spellings(others, bare) - right.keys(), False)
    parts = [
        f"(?P<answer>{_word(name)})" if every[name] else _word(name)
        for name in sorted(every, key=lambda name: (-len(name), name))
    ]
    return regex.compile("|".join(parts) or "(?P<answer>(?!))", regex.V1)


def _spellings(names: tuple[str, ...], bare: bool) -> set[str]:
    found = set(fold_all(names))
    if bare:
        found |= {unmarked(name) for name in found if sum(map(str.isalpha, name)) >= 4}
    return found


def _word(name: str) -> str:
    """Pattern of a folded answer with what may stand around it."""
    body = _number(name) or "".join(_parts(name))
    first, last = _kind(name[0]), _kind(name[-1])
    before, after = "", r"(?!\p{M})"
    if first == "digit":
        before = rf"(?<!{_GOES_ON})(?<![0-9][.,:/'])(?<!-)"
        if regex.match("[0-9]{3}(?![0-9])", name):
            before += "(?<![0-9] )"  # the end of 12 500
    elif first == "HANGUL":
        before = r"(?<!\p{Hangul})"
    elif first and first not in UNSPACED:
        before = rf"(?<!{_GOES_ON})(?<!{_GOES_ON}-)" + _clitics(name, first)
    if last == "digit":
        after = rf"(?!(?!{_AFTER_DIGIT}){_GOES_ON})"
        after += r"(?![.,:/'][0-9])(?!/)(?!-\p{L})(?! [0-9]{3}(?![0-9]))"
    elif last == "HANGUL":
        after = rf"(?=[화권]?(?:{_PARTICLES})?(?!\p{{Hangul}}))"
    elif last and last not in UNSPACED:
        goes_on = rf"(?!{_AFTER_LATIN}){_GOES_ON}" if last == "LATIN" else _GOES_ON
        after = rf"(?!{goes_on})(?!-{_GOES_ON})"
        if last == "ARABIC" and len(name) >= 4:
            after = "ا?" + after  # the accusative of a number's noun
        if last == "LATIN" and len(name) == 1:  # nor what is left out in C'est, I'd and C++
            before, after = r"(?<!\p{L}')" + before, after + r"(?!'\p{L})(?![+#])"
    elif regex.match(_KATAKANA, name[-1]):
        after = f"(?!{_KATAKANA})"
    if name in _COMMON:
        after += _CLAUSE_ENDS
    return before + body + after


def _clitics(name: str, first: str) -> str:
    """What may be written together with the beginning of a word; less before a short one."""
    length = len(_stem(name.split()[0]))
    if first == "ARABIC":
        return f"(?:{_ARABIC_CLITICS})?" if length >= 4 else f"(?:{_ARABIC_ARTICLE})?"
    if first == "HEBREW":
        return f"{_HEBREW_CLITICS}?" if length >= 3 else "ה?"
    return ""


def _parts(name: str) -> list[str]:
    """The words of an answer and what may stand between them: a hyphen is as good as a space."""
    found: list[str] = []
    for word in regex.split("([ -])", name):
        if word in (" ", "-"):
            around = {_kind(found[-1][-1:]), ""} if found else {""}
            found.append("[ ・·-]?" if around & UNSPACED else "[ -]")
        elif word:
            stem = _stem(word)
            article = "(?:ال)?" if _kind(word[0]) == "ARABIC" and found else ""
            point = "[.,]" if regex.fullmatch(r"[0-9]+\.[0-9]+", word) else r"\."
            found.append(article + regex.escape(stem).replace(r"\.", point))
    return found


def _stem(word: str) -> str:
    """An Arabic word without its article."""
    return word.removeprefix("ال") if len(word) >= 4 else word


def _number(name: str) -> str:
    """Pattern of an integer that may be written in groups of three; "" if it is none."""
    if not regex.fullmatch("[0-9]{4,}|[0-9]{1,3}(?:[, '][0-9]{3})+", name):
        return ""
    digits = regex.sub("[^0-9]", "", name)
    head = len(digits) % 3 or 3
    return "[., ']?".join(
        [digits[:head], *(digits[i : i + 3] for i in range(head, len(digits), 3))]
    )


def _kind(char: str) -> str:
    return "digit" if char.isdigit() else script(char)
