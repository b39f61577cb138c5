"""The tokens that end a reply, as a checkpoint's files name them."""

from __future__ import annotations

import json
import pathlib

from jaxattack.errors import UserError


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
        try:
            stops = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            listed = stops if isinstance(stops, list) else [] if stops is None else [stops]
            found |= dict.fromkeys(int(stop) for stop in listed)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            kind = name.removesuffix(".json").replace("_", " ")
            raise UserError(f"{path}: not a {kind} ({error})") from error
    return tuple(found)
