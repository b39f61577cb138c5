"""The tokens that end a reply, as a checkpoint's files name them."""

from __future__ import annotations

import pathlib

from jaxattack.errors import UserError
from jaxattack.models.folder import read_json


def generation_stops(directory: pathlib.Path) -> tuple[int, ...]:
    """Token ids that end a reply by the checkpoint's configs, that of generation first.

    Raises:
        UserError: one of the files is damaged.
    """
    found: dict[int, None] = {}
    for name in ("generation_config.json", "config.json"):
        path = directory / name
        if not path.is_file():
            continue
        kind = name.removesuffix(".json").replace("_", " ")
        try:
            stops = read_json(path).get("eos_token_id")
            listed = stops if isinstance(stops, list) else [] if stops is None else [stops]
            found |= dict.fromkeys(int(stop) for stop in listed)
        except UserError as error:
            raise UserError(f"{path}: not a {kind} ({error})") from error
        except (ValueError, AttributeError, TypeError, OverflowError) as error:
            raise UserError(f"{path}: not a {kind} ({error})") from error
    return tuple(found)
