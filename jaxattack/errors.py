"""The one exception a user may cause: it carries a line that says what is wrong and what to do."""

from __future__ import annotations

import errno
import numbers
import unicodedata


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it alone and exits with 2.

    Names of files, ids and servers' words stand in it: what could steer a terminal is spelled out.

    Example:
        >>> raise ja.UserError("pairs.jsonl: line 3 has no column 'prompt'")
        Traceback (most recent call last):
        jaxattack.errors.UserError: pairs.jsonl: line 3 has no column 'prompt'
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(str(message)))


def check_whole_number(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number, or too small a one.

    Raises:
        UserError: names it.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < least:  # type: ignore[operator]
        raise UserError(f"{name} is {value!r}; give a whole number of at least {least}")


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


# What the system refuses: a user can mend it, a traceback would not help.
_SYSTEM = {
    errno.ENOSPC: "no space left on its disk; finished stages are kept: make room, and the same "
    "command goes on from there",
    errno.EDQUOT: "the disk quota is used up; finished stages are kept: make room, and the same "
    "command goes on from there",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EIO: "its disk cannot be read or written",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOMEM: "out of memory; smaller batches, a larger accumulate, remat=full or more devices "
    "need less",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}
_SAID = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "RESOURCE_EXHAUSTED: Out of memory": errno.ENOMEM,
}


def system_error(error: BaseException | None) -> str | None:
    """What the system refused, if that is behind an error, in a line; None if it is not.

    Libraries raise errors of their own when a disk is full; their words tell.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = error.errno if isinstance(error, OSError) else None
        number = errno.ENOMEM if isinstance(error, MemoryError) else number
        number = number or next((n for text, n in _SAID.items() if text in str(error)), None)
        if number in _SYSTEM:
            file = getattr(error, "filename", None)
            return printable(f"{file}: {_SYSTEM[number]}" if file else _SYSTEM[number])
        error = error.__cause__ or error.__context__
    return None
