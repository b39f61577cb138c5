"""The one exception a user may cause: it carries a line that says what is wrong and what to do."""

from __future__ import annotations

import unicodedata


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it alone and exits with 2.

    Names of files, ids and servers' words stand in it: what could steer a terminal is spelled out.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(str(message)))


def printable(text: str) -> str:
    """The text on one line, harmless to a terminal: control characters and the like as escapes.

    Joiners stay, for Persian and emoji need them; marks that turn the direction of text do not.
    """
    line = (
        " ".join(text.split())
        if any(char in "\t\n\v\f\r\x85\u2028\u2029" for char in text)
        else text
    )
    return "".join(
        char if _harmless(char) else char.encode("unicode_escape").decode() for char in line
    )


def _harmless(char: str) -> bool:
    category = unicodedata.category(char)
    if category == "Cf":  # embeddings, overrides and isolates change what is read
        return not ("\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069")
    return category not in ("Cc", "Cs")
