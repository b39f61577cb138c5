"""Which examples of a source are wanted: languages, kinds, and a part of its own."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from jaxattack.data import registry
from jaxattack.data.dialogues import Example
from jaxattack.data.registry import DataSet
from jaxattack.data.uri import Address
from jaxattack.errors import UserError

# Up to which fraction of the hash's range a key belongs to a part.
BOUNDS = {"attack": 0.5, "calibration": 0.75, "test": 1.0}


def part_of(key: str) -> str:
    """The part a prompt (or an id) belongs to: half attack, a quarter calibration, a quarter test.

    It depends on the text alone, up to case, width and spaces, so that a prompt is in the same
    part in every set, split and revision.
    """
    plain = " ".join(unicodedata.normalize("NFKC", key).casefold().split())
    share = int.from_bytes(hashlib.sha256(plain.encode()).digest()[:8], "big") / 2**64
    return next(part for part, bound in BOUNDS.items() if share < bound)


def select(
    address: Address, entry: DataSet, examples: Sequence[Example], kinds: Sequence[str]
) -> list[Example]:
    """The examples that the URI and the caller ask for, in the order given.

    Raises:
        UserError: a language that was asked for has none, a part that would separate translations
            of one prompt, or nothing is left.
    """
    asked = registry.chosen(address, entry) if "language" in address.options else {}
    spoken = {example.language for example in examples}
    lacking = [code for code in asked if code not in spoken]
    if examples and lacking:
        raise UserError(
            f"{address.uri}: no rows in {', '.join(lacking)}; there are rows in: "
            f"{', '.join(sorted(spoken))}"
        )
    part = address.options.get("part", "")
    if part and entry.by == "prompt":
        _check_translations(address, examples)
    chosen = [
        example
        for example in examples
        if (not asked or example.language in asked)
        and example.kind in kinds
        and (not part or part_of(example.id if entry.by == "id" else example.prompt) == part)
    ]
    if not chosen:
        of = f" in the part {part}" if part else ""
        raise UserError(
            f"{address.uri}: no {' or '.join(kinds)} examples{of}, of {len(examples)} read"
        )
    return chosen


def _check_translations(address: Address, examples: Sequence[Example]) -> None:
    parts: dict[str, str] = {}
    for example in examples:
        if parts.setdefault(example.id, part := part_of(example.prompt)) != part:
            raise UserError(
                f"{address.uri}: the rows of id {example.id!r} would be in different parts; if "
                "they are translations of each other, add by=id"
            )
