"""Examples from JSON Lines files, good and bad."""

import json

import pytest

from jaxattack.data.dialogues import Example
from jaxattack.data.sources import read_jsonl
from jaxattack.errors import UserError

ROW = {"id": "1", "language": "en", "prompt": "What?", "response": "That."}


@pytest.fixture
def write(tmp_path):
    """A function from rows (or lines) to the path of a file of them."""

    def write(*rows, encoding="utf-8"):
        path = tmp_path / "rows.jsonl"
        lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows]
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return str(path)

    return write


def test_rows_become_examples(write):
    path = write(ROW, "", {**ROW, "language": "de", "kind": "benign", "answers": ["das", "dies"]})
    assert read_jsonl(path, need_response=True) == [
        Example("1", "en", "What?", "That."),
        Example("1", "de", "What?", "That.", "benign", ("das", "dies")),
    ]


def test_prompts_need_no_response(write):
    path = write({key: ROW[key] for key in ("id", "language", "prompt")})
    assert read_jsonl(path, need_response=False) == [Example("1", "en", "What?")]
    with pytest.raises(UserError, match="line 1: missing or empty columns: response"):
        read_jsonl(path, need_response=True)


def test_a_byte_order_mark_is_no_matter(write):
    assert len(read_jsonl(write(ROW, encoding="utf-8-sig"), True)) == 1


@pytest.mark.parametrize("number", [0, 7])
def test_numbers_may_be_ids(write, number):
    assert read_jsonl(write({**ROW, "id": number}), True)[0].id == str(number)


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\u000b", "\n", "\r"])
def test_line_marks_inside_a_text_do_not_end_the_row(write, mark):
    prompt = f"one{mark}two"
    assert read_jsonl(write({**ROW, "prompt": prompt}), True)[0].prompt == prompt


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: a row is an object"),
        ({**ROW, "id": ""}, "line 2: missing or empty columns: id"),
        ({**ROW, "prompt": " "}, "line 2: missing or empty columns: prompt"),
        ({"question": "What?"}, "columns: id, language, prompt, response; there are: question"),
        ({}, "there are: none"),
        (ROW, "line 2: id '1' occurs twice in en"),
        ({**ROW, "id": "2", "kind": "harmful"}, "line 2: kind is 'harmful'"),
        ({**ROW, "id": "2", "answers": "yen"}, "line 2: answers is a list"),
        ({**ROW, "id": "2", "answers": [""]}, "line 2: answers is a list"),
        ({**ROW, "id": "2", "answers": [3]}, "line 2: answers is a list"),
    ],
)
def test_a_bad_row_is_named_by_its_line(write, row, words):
    with pytest.raises(UserError, match=words):
        read_jsonl(write(ROW, row), need_response=True)


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_an_empty_file_is_refused(write, lines):
    with pytest.raises(UserError, match="no rows"):
        read_jsonl(write(*lines), need_response=False)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jsonl: no such file"):
        read_jsonl(str(tmp_path / "gone.jsonl"), need_response=False)


def test_a_file_in_another_encoding_is_named(write):
    path = write({**ROW, "prompt": "Währung?"}, encoding="latin-1")
    with pytest.raises(UserError, match=r"rows\.jsonl.*UTF-8"):
        read_jsonl(path, need_response=False)
