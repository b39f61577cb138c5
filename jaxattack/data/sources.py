"""Examples from the user's own files."""

from __future__ import annotations

import json
import pathlib

from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError

COLUMNS = ("id", "language", "prompt")


def read_jsonl(path: str, need_response: bool) -> list[Example]:
    """Read examples from a JSON Lines file.

    Columns: id, language, prompt; response (for pairs); kind ("restricted", the default, or
    "benign"); answers (a list of strings, if the right answers are known).

    Raises:
        UserError: no such file, a line that is not JSON, wrong columns, a double id, or nothing.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"jsonl:{path}: no such file")
    examples = []
    seen: set[tuple[str, str]] = set()
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"jsonl:{path}: not UTF-8 ({error.reason})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"jsonl:{path}, line {number}"
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: not JSON ({error})") from error
        example = _example(fields, where, need_response)
        if (example.language, example.id) in seen:
            raise UserError(f"{where}: id {example.id!r} occurs twice in {example.language}")
        seen.add((example.language, example.id))
        examples.append(example)
    if not examples:
        raise UserError(f"jsonl:{path}: the file has no rows")
    return examples


def _example(fields: object, where: str, need_response: bool) -> Example:
    if not isinstance(fields, dict):
        raise UserError(f"{where}: a row is an object with the columns {', '.join(COLUMNS)}")
    wanted = COLUMNS + (("response",) if need_response else ())
    missing = [name for name in wanted if fields.get(name) is None or not str(fields[name]).strip()]
    if missing:
        raise UserError(
            f"{where}: missing or empty columns: {', '.join(missing)}; there are: "
            f"{', '.join(sorted(fields)) or 'none'}"
        )
    kind = fields.get("kind", "restricted")
    if kind not in ("restricted", "benign"):
        raise UserError(f"{where}: kind is {kind!r}; give 'restricted' or 'benign'")
    answers = fields.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(a, str) and a for a in answers):
        raise UserError(f"{where}: answers is a list of strings")
    return Example(
        id=str(fields["id"]),
        language=str(fields["language"]),
        prompt=str(fields["prompt"]),
        response=str(fields.get("response") or ""),
        kind=kind,
        answers=tuple(answers),
    )
