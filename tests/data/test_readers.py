"""Files of every kind: what stands in them comes out, and what is wrong is named by its place."""

import bz2
import gzip
import io
import json
import lzma
import os
from collections import Counter

import pyarrow
import pytest
from pyarrow import parquet

from jaxattack.data import columns, jsons, readers, sources
from jaxattack.errors import UserError

ROWS = [
    {"id": "1", "language": "en", "prompt": "Hi, you", "response": "Yes"},
    {"id": "2", "language": "th", "prompt": "สวัสดี\nอีกครั้ง", "response": "ใช่"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = 'id,language,prompt,response\n1,en,"Hi, you",Yes\n2,th,"สวัสดี\nอีกครั้ง",ใช่\n'
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
HEAD = "id,language,prompt,response\n"


def columnar(rows):
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def arrow(rows, write):
    out, table = io.BytesIO(), pyarrow.Table.from_pylist(rows)
    with write(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


@pytest.fixture
def read(tmp_path):
    """Pairs of a file with this name and content, by `jsonl:`."""

    def read(name, content, query=""):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return sources.load(f"jsonl:{path}{query}", need_response=True)

    return read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a", LINES),
        ("a.jsonl", "\ufeff" + LINES.replace("\n", "\r\n\r\n")),
        ("a.jsonl.gz", gzip.compress(LINES.encode())),
        ("A.NDJSON.BZ2", bz2.compress(LINES.encode())),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS)),
        ("a.json", "\ufeff\n " + json.dumps(ROWS, indent=2) + "\n"),
        ("a.json.xz", lzma.compress(json.dumps(ROWS).encode())),
        ("a.json", json.dumps({"version": 1, "data": ROWS})),
        ("a.json", json.dumps({"version": 1, "data": ROWS}, indent=1)),
        ("a.csv", TABLE),
        ("a.csv", "\ufeff" + TABLE),
        ("a.csv.gz", gzip.compress(TABLE.encode())),
        ("a.csv", TABLE.replace(",", ";").replace("Hi; you", "Hi, you")),
        ("a.tsv", TABLE.replace(",", "\t").replace("Hi\t you", "Hi, you")),
        ("a.parquet", columnar(ROWS)),
        ("a.arrow", arrow(ROWS, pyarrow.ipc.new_stream)),
        ("a.arrow", arrow(ROWS, pyarrow.ipc.new_file)),
    ],
)
def test_every_kind_of_file_has_the_same_rows(read, tmp_path, name, content):
    found = read(name, content)
    assert [vars(e) for e in found] == [
        {
            "id": r["id"],
            "language": r["language"],
            "prompt": r["prompt"],
            "response": r["response"],
            "kind": "restricted",
            "answers": (),
            "others": (),
        }
        for r in ROWS
    ]
    assert sources.describe(f"jsonl:{tmp_path / name}").rows == len(ROWS)


CELLS = [
    "4",
    "007",
    "0.50",
    "1e3",
    "None",
    "NA",
    "N/A",
    "null",
    "NaN",
    "nan",
    "true",
    "False",
    "2020-01-02",
    "inf",
    "-",
    "#N/A",
    " x ",
]


def test_a_cell_of_a_table_is_what_is_written(read):
    text = HEAD + "".join(f"{i},en,{cell},{cell}\n" for i, cell in enumerate(CELLS))
    found = read("a.csv", text)
    assert [e.response for e in found] == CELLS
    assert [e.prompt for e in found] == CELLS
    ids = read("a.csv", HEAD + "007,en,a,b\n7,en,a,b\nNA,en,a,b\n")
    assert [e.id for e in ids] == ["007", "7", "NA"]


def test_empty_cells_are_absent(read):
    head = "id,language,prompt,response,kind,answers\n"
    found = read("a.csv", f'{head}1,en,a,b,,\n2,en,a,b,benign,"[""x"", ""y""]"\n')
    assert [(e.kind, e.answers) for e in found] == [("restricted", ()), ("benign", ("x", "y"))]


@pytest.mark.parametrize("value", [4, -12, 10**30])
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_whole_number_as_a_reply_is_its_digits(read, kind, value):
    row = {**ROWS[0], "id": 7, "response": value}
    found = read(f"a.{kind}", json.dumps([row] if kind == "json" else row))
    assert (found[0].id, found[0].response) == ("7", str(value))
    if value == 4:
        assert read("a.parquet", columnar([row]))[0].response == "4"


NOT_TEXTS = {
    "5": "5, a number",
    "true": "true, true or false",
    "NaN": "NaN, a number",
    "1.5": "1.5, a n",
    "-Infinity": "-Infinity, a number",
    '{"text": "a"}': "an object",
    "[1]": "a list",
    "[]": "a list",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in ("prompt", "response", "language", "kind", "id")
        for value in NOT_TEXTS
        if value != "5" or field not in ("id", "response")  # there it is its digits
    ],
)
def test_what_is_no_text_is_refused_by_line_and_column(read, field, value):
    fields = {key: json.dumps(text) for key, text in {**ROWS[0], "kind": "benign"}.items()}
    line = ", ".join(f'"{key}": {text}' for key, text in {**fields, field: value}.items())
    with pytest.raises(UserError, match=f"line 3: column {field} is {NOT_TEXTS[value]}"):
        read("a.jsonl", LINES + "{" + line + "}")


BAD = {
    "surrogate": (
        "a.jsonl",
        json.dumps({**ROWS[0], "prompt": "ok \ud83d"}),
        r"line 1: column prompt has half of a character in it \(\\ud83d\)",
    ),
    "surrogate in an id": ("a.jsonl", json.dumps({**ROWS[0], "id": "\udc00"}), "column id has ha"),
    "surrogate in answers": ("a.jsonl", json.dumps({**ROWS[0], "answers": ["\udc00"]}), "answers"),
    "unseen": ("a.jsonl", json.dumps({**ROWS[0], "prompt": " \u200b\ufeff"}), "empty columns: pr"),
    "deep line": ("a.jsonl", LINES + "[" * 100_000, "line 3: JSON that is nested too deeply"),
    "deep value": ("a.jsonl", '{"a":' * 100_000, "line 1: JSON that is nested too deeply"),
    "deep array": ("a.json", "[" * 100_000, "row 1: JSON that is nested too deeply"),
    "deep object": ("a.json", '{"a":' * 100_000, "nested too deeply"),
    "key twice": ("a.jsonl", '{"id": "1", "id": "2"}', "line 1: not JSON .the key 'id' occurs tw"),
    "key twice in an array": ("a.json", '[{"a": 1, "a": 2}]', "row 1: not JSON .the key 'a' occ"),
    "long number": ("a.jsonl", '{"id": ' + "1" * 5000 + "}", "line 1: not JSON"),
    "utf-16": ("a.jsonl", LINES.encode("utf-16"), "not UTF-8 .UTF-16"),
    "utf-16 without mark": ("a.csv", TABLE.encode("utf-16-le"), "not UTF-8 .UTF-16"),
    "utf-16 array": ("a.json", json.dumps(ROWS).encode("utf-16"), "not UTF-8 .UTF-16"),
    "latin-1": ("a.jsonl", LINES.encode() + "é\n".encode("latin-1"), "line 3: not UTF-8"),
    "latin-1 array": ("a.json", '[{"a": "é"}]'.encode("latin-1"), "not UTF-8"),
    "latin-1 table": ("a.csv", HEAD.encode() + b"1,en,\xe9,b\n", "line 2: not UTF-8"),
    "gzip by another name": ("a.jsonl", gzip.compress(LINES.encode()), r"should end in \.gz"),
    "zip": ("a.zip", b"PK\x03\x04rest", "a zip archive or an office document"),
    "zstd": ("a.jsonl.zst", b"\x28\xb5\x2f\xfdrest", "compressed by zstd, which is not read"),
    "parquet by another name": ("a.json", columnar(ROWS), r"should end in \.parquet"),
    "LFS pointer": ("a.csv", LFS, "pointer of Git LFS"),
    "LFS Parquet": ("a.parquet", LFS, "pointer of Git LFS"),
    "no gzip": ("a.jsonl.gz", LINES, "Not a gzipped file"),
    "half a gzip": ("a.jsonl.gz", gzip.compress(LINES.encode())[:-9], "ended before the end-of"),
    "no parquet": ("a.parquet", "PAR1", "no .parquet file that can be read"),
    "no arrow": ("a.arrow", b"ARROW1 and more", "no .arrow file that can be read"),
    "half an arrow": ("a.arrow", arrow(ROWS, pyarrow.ipc.new_stream)[:400], "no .arrow file that"),
    "packed parquet": ("a.parquet.gz", gzip.compress(columnar(ROWS)), r"end in \.parquet"),
    "half an array": ("a.json", json.dumps(ROWS)[:-9], "row 2: not JSON"),
    "no comma": ("a.json", json.dumps(ROWS).replace("}, {", "} {"), "row 1: the array goes on"),
    "after an array": ("a.json", json.dumps(ROWS) + "[]", "more after the end of the array"),
    "numbers": ("a.json", "[1, 2]", "row 1: a row is an object"),
    "empty array": ("a.json", " [ ] ", "the file has no rows"),
    "nothing": ("a.json", "", "the file has no rows"),
    "header alone": ("a.csv", HEAD, "the file has no rows"),
    "a cell too many": ("a.csv", HEAD + "1,en,a,b\n2,en,a,b,c\n", "row 2: 5 cells, and the header"),
    "a cell too few": ("a.csv", HEAD + "1,en,a\n", "row 1: 3 cells, and the header has 4"),
    "open quote": ("a.csv", HEAD + '1,en,"a,b\n', "row 1: not CSV .unexpected end of data"),
    "header twice": ("a.csv", "id,prompt,prompt\n1,a,b\n", "two columns are called 'prompt'"),
    "no column": ("a.csv", "id,language\n1,en\n", "empty columns: prompt, response; there are: id"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_wrong_is_one_line(read, case):
    name, content, says = BAD[case]
    with pytest.raises(UserError, match=says) as caught:
        read(name, content)
    assert len(str(caught.value)) < 700


def test_what_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for name, says in {
        str(tmp_path): "a folder, not a file",
        str(tmp_path / "pipe"): "not a plain file",
        "/dev/zero": "not a plain file",
        str(tmp_path / "a"): "symbolic links",
        str(tmp_path / "gone"): "no such file",
        str(tmp_path / "pipe" / "x"): "no such file",
        "a\0b": "null byte",
        "x" * 5000: "File name too long",
        "~nobody-here/x": "~nobody-here is nobody's home",
    }.items():
        for ask in (sources.load, sources.describe):
            with pytest.raises(UserError, match=says):
                ask(f"jsonl:{name}")
    with pytest.raises(UserError, match="nobody's home"):
        sources.load("hf:~nobody-here/x")


def test_long_lines_and_cells_are_refused_before_they_are_whole(read, monkeypatch):
    monkeypatch.setattr(jsons, "LONGEST", 1000)
    long = json.dumps([{**ROWS[0], "prompt": "x" * 2000}])
    for name, content, says in (
        ("a.jsonl", long[1:-1], "line 1: longer than"),
        ("a.csv", HEAD + f'1,en,"{"x" * 600}\n{"x" * 600}",b\n', "field larger than field limit"),
        ("a.json", long[:-9], "row 1: not JSON"),
    ):
        with pytest.raises(UserError, match=says):
            read(name, content)


def test_an_array_of_any_length_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(jsons, "_CHUNK", 7)
    rows = [{"id": i, "prompt": "สวัส😀" * i, "n": [1.5, {"a": None}]} for i in range(9)]
    for indent in (None, 3):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=indent is None))
        assert [row for _, row in readers.rows(path, "a")] == json.loads(path.read_text())


def test_equal_rows_take_no_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"language": "en", "prompt": "Hi"}\n' * 5000)
    monkeypatch.setattr(sources, "MOST", 1)
    lost = Counter()
    assert len(sources.load(f"jsonl:{path}?id=", lost=lost)) == 1
    assert lost == {columns.EQUAL: 4999}
    path.write_text('{"language": "en", "prompt": "Hi"}\n{"language": "en", "prompt": "Ho"}\n')
    with pytest.raises(UserError, match="more than 1 rows; take a slice"):
        sources.load(f"jsonl:{path}?id=")
