"""The memory of the host process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys

_TUNABLES, _HUGE, _ASKED = "GLIBC_TUNABLES", "glibc.malloc.hugetlb", "JAXATTACK_HUGE_PAGES"
_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask_for_huge_pages() -> None:
    """Begin the `jaxattack` command anew with large blocks of memory in huge pages, if there are.

    XLA on CPU allocates a program's buffers anew at every call. In pages of 4 KiB the first touch
    of them is a fifth of a training step of a model with 270M weights; many systems give pages of
    2 MiB to who asks, and the C library asks only if it is told so before the program begins (glibc
    2.35 and later). To be called first of all, when nothing is done that would be done twice.
    Another program that calls the command's function, as a notebook, is left alone.
    """
    told = os.environ.get(_TUNABLES, "")
    if _HUGE in told or _ASKED in os.environ or not (_is_command() and _on_request()):
        return
    os.environ[_TUNABLES] = ":".join(filter(None, (told, f"{_HUGE}=1")))
    os.environ[_ASKED] = "1"  # a C library that takes the first away is asked once
    with contextlib.suppress(OSError, ValueError):  # it goes on as it is
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _is_command() -> bool:
    """Whether Python was begun for the command, by its script or as a module."""
    given = sys.orig_argv[1:]
    if "-m" in given:
        return given[given.index("-m") + 1 :][:1] == ["jaxattack.run"]
    return given == sys.argv and os.path.basename(sys.argv[0]) == "jaxattack"


def _on_request() -> bool:
    """Whether huge pages are for who asks, and the C library can."""
    try:
        library, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        asked = "[madvise]" in _PAGES.read_text(encoding="ascii")
        return asked and library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    except (AttributeError, OSError, ValueError):  # another system or C library
        return False
