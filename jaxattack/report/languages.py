"""English names of language codes, for people who do not carry ISO 639 in their heads."""

from collections.abc import Sequence

_NAMES = (
    "af Afrikaans|am Amharic|ar Arabic|bg Bulgarian|bn Bengali|ca Catalan|cs Czech|da Danish|"
    "de German|el Greek|en English|es Spanish|et Estonian|eu Basque|fa Persian|fi Finnish|"
    "fr French|gu Gujarati|ha Hausa|he Hebrew|hi Hindi|hr Croatian|hu Hungarian|hy Armenian|"
    "id Indonesian|ig Igbo|is Icelandic|it Italian|ja Japanese|jv Javanese|ka Georgian|"
    "kk Kazakh|km Khmer|kn Kannada|ko Korean|lo Lao|lt Lithuanian|lv Latvian|ml Malayalam|"
    "mr Marathi|ms Malay|my Burmese|nb Norwegian|ne Nepali|nl Dutch|pa Punjabi|pl Polish|"
    "pt Portuguese|ro Romanian|ru Russian|si Sinhala|sk Slovak|sl Slovenian|so Somali|"
    "sq Albanian|sr Serbian|sv Swedish|sw Swahili|ta Tamil|te Telugu|th Thai|tl Tagalog|"
    "tr Turkish|uk Ukrainian|ur Urdu|uz Uzbek|vi Vietnamese|yo Yoruba|zh Chinese|zu Zulu"
)
LANGUAGE_NAMES: dict[str, str] = {
    code: name for code, _, name in (entry.partition(" ") for entry in _NAMES.split("|"))
}


def language_name(code: str) -> str:
    """English name of a language code, or the code itself where we know none."""
    return LANGUAGE_NAMES.get(code, code)


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
