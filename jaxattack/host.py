"""Settings of the host process."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # <malloc.h>
_NEVER = 2**31 - 1


# Weights of a model in bytes up to which it is done.
SMALL = 1 << 24


def keep_freed_memory(nbytes: int = 0) -> bool:
    """Tell the C library to reuse freed memory instead of handing it back to the system.

    XLA on CPU allocates a program's buffers anew at every call. By default glibc maps large ones
    from the system each time, and a seventh of a training step's work is page faults. The process
    then stays as large as it ever was, and freed memory that a small piece is cut from no longer
    serves a large one: with a model of more than a few MB it would grow at every step. The
    `jaxattack` command calls it once it knows the model.

    Args:
        nbytes: size of the model's weights; large ones leave the C library as it is.

    Returns:
        whether the C library took the settings (only glibc has them).
    """
    if nbytes > SMALL or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_ARENA_MAX: 1}
    taken = [mallopt(key, value) == 1 for key, value in settings.items()]
    return all(taken)
