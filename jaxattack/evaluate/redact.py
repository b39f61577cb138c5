"""Taking a key out of what a server says, however it says it."""

from __future__ import annotations

import base64
import functools
import re
import urllib.parse

MARK = "[key]"
# So many characters of a key in a row are taken out; fewer are found in any text.
PIECE = 6
# A shorter key is taken out whole only: of token-abc123 pieces stand in "a token appears".
SHORT = 14
# What servers that want no key are given in place of one: EMPTY, none, not-needed.
_PLACEHOLDER = re.compile(r"[A-Za-z][A-Za-z._ -]{0,14}")


def hide(text: str, key: str | None) -> str:
    """The text without the key: whole, in pieces, spaced out, backwards, in base64, hex or escapes.

    What is compared are letters and digits alone, in any case, so nothing put between them helps.
    A word for no key is none: taking it out would change what a model said.
    """
    if not key or not text or _PLACEHOLDER.fullmatch(key):
        return text
    text = text.replace(key, MARK)
    size, pieces = _pieces(key)
    places = [i for i, char in enumerate(text) if char.isascii() and char.isalnum()]
    plain = "".join(text[i] for i in places).lower()
    # A piece that is found may overlap the next: the places of all of them are taken out as one.
    hidden = [False] * len(text)
    for start in range(len(plain) - size + 1):
        if plain[start : start + size] in pieces:
            first, last = places[start], places[start + size - 1]
            hidden[first : last + 1] = [True] * (last + 1 - first)
    if not any(hidden):
        return text
    marked = "".join("\0" if gone else char for char, gone in zip(text, hidden, strict=True))
    return re.sub("\0+", MARK, marked)


@functools.lru_cache(maxsize=4)
def _pieces(key: str) -> tuple[int, frozenset[str]]:
    """All pieces of all the spellings of a key, and how long they are."""
    raw = key.encode()
    spellings = [key, key[::-1], raw.hex(), urllib.parse.quote(key, safe="")]
    spellings += ["".join(f"{byte:02x}" for byte in reversed(raw))]
    spellings += ["".join(f"u{byte:04x}" for byte in raw), "".join(f"x{byte:02x}" for byte in raw)]
    for lead in range(3):  # where in base64's groups of three the key begins
        whole = base64.b64encode(b"\0" * lead + raw).decode()
        spellings.append(whole[(lead * 8 + 5) // 6 : (lead + len(raw)) * 8 // 6])
    plain = [re.sub("[^a-z0-9]", "", spelling.lower()) for spelling in spellings]
    size = PIECE if len(plain[0]) >= SHORT else max(4, len(plain[0]))
    found = {spelling[i : i + size] for spelling in plain for i in range(len(spelling) - size + 1)}
    return size, frozenset(found)
