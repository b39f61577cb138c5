"""Paths as a user writes them."""

from __future__ import annotations

import os
import pathlib

from jaxattack.errors import UserError


def expand(path: str | os.PathLike[str], what: str) -> pathlib.Path:
    """The path with `~` and `~name` filled in; `what` names it in an error.

    Raises:
        UserError: there is no such user, or no home.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        start = str(path).partition("/")[0]
        raise UserError(f"{what}: {start} is nobody's home here") from error
