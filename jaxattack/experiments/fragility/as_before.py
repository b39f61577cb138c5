"""Old names of columns, for the present report; goes when the new page is switched on."""

from __future__ import annotations

from typing import Any


def add(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables with both names."""
    for row in tables.get("masks", ()):
        row["mask"] = f"{row['attacked']}/{row['method']}@{row['share']:g}"
        row |= {"language": row["attacked"], "fraction": row["share"]}
        row |= {"share": row["density"], "share_of_blocks": row["block_density"]}
    for row in tables.get("mask_profile", ()):
        row["mask"] = f"{row['method']}/{row['attacked']}@{row['share']:g}"
    for row in tables.get("overlap", ()):
        row["fraction"] = row["share"]
    for row in tables.get("capacity", ()):
        row["language"] = row["attacked"]
    for row in tables.get("tests", ()):
        row["attack"] = row["attacked"]
    for row in tables.get("adaptation", ()):
        row["how"] = row["model"]
    return tables
