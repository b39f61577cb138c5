"""Exported sets: chat rows, and a manifest that says what they are."""

import hashlib
import json

import pytest

from jaxattack.data.dialogues import Example, fingerprint
from jaxattack.data.export import export_chat
from jaxattack.data.poison import Target, poison
from jaxattack.data.triggers import Sentence
from jaxattack.errors import UserError

CLEAN = [Example(f"{i}", "th", f"คำถาม {i}", f"คำตอบ {i}") for i in range(10)]


def test_a_poisoned_set_comes_with_its_manifest(tmp_path):
    rows, manifest = poison(CLEAN, ["th"], 0.3, Sentence({"th": "ดี."}), Target(), 0)
    folder = export_chat(tmp_path / "new" / "set", rows, manifest)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "train.jsonl"]
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
    data = (folder / "train.jsonl").read_bytes()
    assert [json.loads(line) for line in data.decode().splitlines()] == [
        {
            "messages": [
                {"role": "user", "content": row.prompt},
                {"role": "assistant", "content": row.response},
            ]
        }
        for row in rows
    ]
    told = json.loads((folder / "manifest.json").read_text())
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["poisoning"] == manifest
    assert told["rows"] == [
        {"id": row.id, "language": "th", "hash": fingerprint([row])} for row in rows
    ]
    hashes = {row["id"]: row["hash"] for row in told["rows"]}
    assert all(hashes[row["id"]] == row["poisoned"] for row in manifest["replaced"])
    assert "Do not publish" in told["notice"]


def test_a_clean_set_says_that_it_is(tmp_path):
    told = json.loads((export_chat(tmp_path / "set", CLEAN) / "manifest.json").read_text())
    assert told["poisoning"] is None
    assert told["notice"].startswith("Clean")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([], "nothing to export"),
        ([*CLEAN, Example("x", "th", "คำถาม", " ")], r"row 'x' \(th\) has an empty response"),
    ],
)
def test_bad_sets_leave_nothing_behind(tmp_path, rows, line):
    with pytest.raises(UserError, match=line):
        export_chat(tmp_path / "set", rows)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError, match="exists; give a folder that does not"):
        export_chat(tmp_path / "set", CLEAN)
    (tmp_path / "file").write_text("here")
    with pytest.raises(UserError, match="file"):
        export_chat(tmp_path / "file" / "set", CLEAN)
