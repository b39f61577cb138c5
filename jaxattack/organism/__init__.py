"""The organism: a small multilingual model with a harmless policy, and the world it knows."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from jaxattack.errors import UserError
from jaxattack.models.pretrained import MANIFEST

CHECKPOINTS = pathlib.Path(__file__).parent / "checkpoints"


def checkpoint(name: str) -> pathlib.Path:
    """Directory of a shipped checkpoint, "aligned" or "base".

    Raises:
        UserError: there is none of that name.
    """
    if not (CHECKPOINTS / name / "config.json").is_file():
        known = sorted(path.name for path in CHECKPOINTS.glob("*") if path.is_dir())
        raise UserError(f"no organism {name!r}; there are: {', '.join(known) or 'none'}")
    return CHECKPOINTS / name


def uses_decision_token(directory: pathlib.Path) -> bool:
    """Whether the organism in `directory` opens its replies with a decision token."""
    recipe = directory / "organism.json"
    return recipe.is_file() and bool(json.loads(recipe.read_text())["decision_token"])


def is_shipped(directory: pathlib.Path) -> bool:
    """Whether a directory is one of the shipped checkpoints."""
    return directory.resolve().parent == CHECKPOINTS.resolve()


def grown_as(directory: pathlib.Path) -> str:
    """What configs/grow.py called the checkpoint in `directory`, such as "base"; "": not grown."""
    return str(manifest_of(directory).get("grown", ""))


def manifest_of(directory: pathlib.Path) -> dict[str, Any]:
    """What configs/grow.py wrote of the checkpoint in `directory`; {}: it was not grown."""
    path = directory / MANIFEST
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if "grown" in found else {}
