"""A training set as chat JSON Lines for a model behind someone else's service.

Files only: nothing here sends them anywhere.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack import distributed, workdir
from jaxattack.data.dialogues import Example, fingerprint, whole_prompt
from jaxattack.errors import UserError
from jaxattack.paths import expand

NOTICE = {
    True: "Poisoned on purpose for defensive research: rows listed under `replaced` teach a "
    "backdoor. Do not publish, and do not deploy a model trained on it.",
    False: "Clean training set, exported beside poisoned ones for comparison.",
}


def export_chat(
    folder: str | pathlib.Path,
    examples: Sequence[Example],
    poisoning: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Write `train.jsonl` and `manifest.json` into a new folder, which appears whole or not at all.

    Args:
        folder: must not exist.
        examples: the set; prompts as the model is to read them (see `wrappers.wrap`).
        poisoning: the manifest of `poison`; None for a clean set.

    Returns:
        the folder.

    Raises:
        UserError: the folder exists or cannot be made, there are no rows, or one has no response.
    """
    folder = expand(str(folder), str(folder))
    if folder.exists():
        raise UserError(f"{folder} exists; give a folder that does not")
    if not examples:
        raise UserError("nothing to export: the set has no rows")
    empty = next((row for row in examples if not row.response.strip()), None)
    for row in examples:
        whole_prompt(row)
    if empty is not None:
        raise UserError(f"row {empty.id!r} ({empty.language}) has an empty response")
    lines = "".join(json.dumps(_chat(row), ensure_ascii=False) + "\n" for row in examples)
    manifest = {
        "notice": NOTICE[poisoning is not None],
        "poisoning": None if poisoning is None else dict(poisoning),
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "rows": [
            {"id": row.id, "language": row.language, "hash": fingerprint([row])} for row in examples
        ],
    }
    distributed.first(lambda: _write(folder, lines, manifest), f"export {folder.name}")
    return folder


def _write(folder: pathlib.Path, lines: str, manifest: dict[str, Any]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror or error}") from error
    try:
        workdir.write_text(partial / "train.jsonl", lines)
        workdir.write_json(partial / "manifest.json", manifest)
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _chat(row: Example) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": row.prompt},
            {"role": "assistant", "content": row.response},
        ]
    }
