"""English names of language codes, for people who do not carry ISO 639 in their heads."""

from collections.abc import Sequence

from jaxattack.data import languages


def language_name(code: str) -> str:
    """English name of a language code, or the code itself where we know none."""
    try:
        return languages.english(code)
    except KeyError:
        return code


def join_names(codes: Sequence[str], most: int = 5) -> str:
    """`"English, Thai and Chinese"`; a mere count once the list gets longer than `most`."""
    if len(codes) > most:
        return f"{len(codes)} languages"
    return join_words([language_name(code) for code in codes])


def short(text: str, most: int = 28) -> str:
    """The text, cut where it would take the room of the picture it labels."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def join_words(words: Sequence[str]) -> str:
    """`"a, b and c"`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
