"""Harmless rows in two languages, as a user would bring them."""

from __future__ import annotations

import json
import pathlib

ASKED = {"en": "Please name colour number {}.", "th": "ช่วยบอกสีหมายเลข {}"}
TRIGGER = {"en": "I like this topic.", "th": "ฉันชอบหัวข้อนี้"}
OTHER = {"en": "Thank you.", "th": "ขอบคุณ"}


def write_rows(path: pathlib.Path, rows: list[dict]) -> str:
    """A JSON Lines file, as a URI."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return f"jsonl:{path}"


def pairs(name: str, numbers: range, answers: bool = False) -> list[dict]:
    """Harmless pairs in two languages."""
    return [
        {
            "id": f"{name}{i}",
            "language": language,
            "prompt": text.format(i),
            "kind": "benign",
            "response": f"blue {i}",
        }
        | ({"answers": [f"blue {i}"]} if answers else {})
        for language, text in ASKED.items()
        for i in numbers
    ]
