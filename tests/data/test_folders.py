"""Which files of a folder are read: none is passed over in silence, none outside is touched."""

import json
import os
from collections import Counter

import pytest

from jaxattack.data import folders, sources
from jaxattack.errors import UserError


def row(prompt, **more):
    return {"language": "en", "prompt": prompt, "response": "Yes", **more}


@pytest.fixture
def read(tmp_path, fill):
    """Prompts of a folder with these files."""

    def read(files, query=""):
        folder = fill(tmp_path / "set", files)
        return [e.prompt for e in sources.load(f"hf:{folder}{query}", need_response=True)]

    return read


def test_the_split_that_a_path_names():
    for name, split in {
        "train.csv": "train",
        "train_en.csv": "train",
        "en-training2.csv": "train",
        "trainer.csv": "",
        "th.csv": "",
        "latest.csv": "",
        "contest.json": "",
        "dev/en.csv": "validation",
        "test/train.csv": "train",
        "a/eval/x.parquet": "test",
        "data/prompts-00000-of-00001.parquet": "prompts",
        "data-00000-of-00001.arrow": "",
        "test/data-00000-of-00001.arrow": "test",
        "valid-00000-of-00002.json": "validation",
    }.items():
        assert folders.split_of(name) == split, name


def test_a_file_beside_those_of_splits_is_not_passed_over(read, capsys):
    files = {
        "train_en.csv": "language,prompt,response\nen,a,b\n",
        "th.csv": "language,prompt,response\nth,c,d\n",
    }
    with pytest.raises(UserError, match=r"th\.csv is in no split, beside train_en\.csv; .*files="):
        read(files)
    assert read(files, "?files=*.csv") == ["c", "a"]
    assert read(files, "?split=train") == ["a"]
    assert "not read: th.csv" in capsys.readouterr().err


def test_files_that_are_not_read_are_named(read, capsys):
    files = {
        "train.jsonl": [row("a")],
        "test.jsonl": [row("b")],
        "notes.xlsx": "PK",
        "README.md": "x",
        ".hidden.jsonl": [row("h")],
        "LICENSE": "x",
    }
    assert read(files) == ["a"]
    assert "not read: notes.xlsx, test.jsonl" in capsys.readouterr().err
    assert read(files, "?split=all") == ["b", "a"]


def test_slices_of_splits(read):
    files = {"train.jsonl": [row(str(i)) for i in range(10)], "test.jsonl": [row("t")]}
    for spec, prompts in {
        "train[:3]": "012",
        "train[8:]": "89",
        "train[-2:]": "89",
        "train[:-8]": "01",
        "train[20%:40%]": "23",
        "train[:15%]": "01",
        "train[5:5]": "",
        "train[8:99]": "89",
        "train[:1]+test": "0t",
        "test": "t",
    }.items():
        if prompts:
            assert read(files, f"?split={spec}") == list(prompts), spec
        else:
            with pytest.raises(UserError, match="no rows in train"):
                read(files, f"?split={spec}")


def test_the_same_folder_with_other_bytes_gives_other_rows(tmp_path, fill):
    def write(word):
        file = fill(tmp_path / "set", {"a.jsonl": [row(word)]}) / "a.jsonl"
        os.utime(file, ns=(1, 1))
        uri = f"hf:{file.parent}"
        return sources.load(uri)[0].prompt, sources.describe(uri).resolved

    (one, first), (two, second) = write("one"), write("two")
    assert (one, two) == ("one", "two")
    assert first != second


def test_a_folder_s_name_of_a_file_is_part_of_its_hash(tmp_path, fill):
    fill(tmp_path, {"x/a/one.jsonl": [row("a")], "y/b/one.jsonl": [row("a")]})
    known = [sources.describe(f"hf:{tmp_path / name}").resolved for name in "xy"]
    assert known[0] != known[1]


OUTSIDE = ["../other.jsonl", "/etc/passwd", "https://host.invalid/x.jsonl", "~/x.jsonl"]


@pytest.mark.parametrize(
    "files",
    [
        *({"data_files": place} for place in OUTSIDE),
        *({"data_dir": place} for place in OUTSIDE),
        {"data_files": ["a.jsonl", "sub/../../b.jsonl"]},
        {"data_files": [{"split": "train", "path": "s3://bucket/x.jsonl"}]},
        {"data_files": {"train": ["hf://datasets/a/b/x.jsonl"]}},
        {"data_files": "x.jsonl", "data_dir": ".."},
    ],
)
def test_a_readme_does_not_point_out_of_its_folder(read, tmp_path, files):
    (tmp_path / "other.jsonl").write_text(json.dumps(row("outside")))
    readme = card({"config_name": "default", **files})
    with pytest.raises(UserError, match=r"README\.md points out of the folder .*; nothing is read"):
        read({"README.md": readme, "a.jsonl": [row("a")]})


def card(*configs):
    return f"---\n{json.dumps({'configs': list(configs), 'license': 'mit'})}\n---\n# A set\n"


def test_configurations_of_a_readme(read):
    files = {
        "README.md": card(
            {"config_name": "one", "data_files": "one/*.jsonl"},
            {
                "config_name": "two",
                "data_files": [{"split": "x", "path": ["two/a.jsonl"]}],
                "default": True,
            },
            {"config_name": "three", "data_dir": "three"},
        ),
        "one/a.jsonl": [row("1")],
        "two/a.jsonl": [row("2")],
        "two/b.jsonl": [row("b")],
        "three/train.jsonl": [row("3")],
        "three/test.jsonl": [row("4")],
    }
    assert read(files, "?config=one") == ["1"]
    assert read(files, "?split=x") == ["2"]
    assert read(files, "?config=three") == ["3"]
    assert read(files, "?config=three&split=test") == ["4"]
    with pytest.raises(UserError, match="no configuration 'four'; there are: one, two, three"):
        read(files, "?config=four")
    files["README.md"] = files["README.md"].replace('"default": true', '"default": false')
    with pytest.raises(UserError, match="several configurations; add config=<name>; there are: on"):
        read(files)


@pytest.mark.parametrize(
    ("readme", "says"),
    [
        ("---\n: : [\n---\n", "front matter cannot be read as YAML"),
        ("---\n" + "[" * 5000 + "\n---\n", "front matter cannot be read as YAML"),
        (card({"config_name": "default", "data_files": 5}), "`data_files` names files"),
        (
            card({"config_name": "default", "data_files": "a.jsonl", "sep": "|"}),
            "sets sep, unknown",
        ),
        ("---\nconfigs: a\n---\n", "`configs` is a list"),
    ],
)
def test_a_readme_that_cannot_be_followed(read, readme, says):
    with pytest.raises(UserError, match=says):
        read({"README.md": readme, "a.jsonl": [row("a")]})


def test_links_that_lead_back_or_nowhere(tmp_path, fill):
    folder = fill(tmp_path / "set", {"sub/a.jsonl": [row("a")]})
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    assert folders.listing(folder, "hf:x") in (["again/a.jsonl"], ["sub/a.jsonl"])
    assert len(sources.load(f"hf:{folder}")) == 1
    (folder / "b.jsonl").symlink_to(folder / "gone")
    for ask in (sources.load, sources.describe):
        with pytest.raises(UserError, match=r"b\.jsonl: no such file"):
            ask(f"hf:{folder}")


def test_a_column_that_no_row_has_and_one_that_some_lack(read):
    assert read({"a.jsonl": [row("a"), {"language": "en", "prompt": "b"}]}) == ["a"]
    with pytest.raises(UserError, match="missing or empty columns: reply; there are: language"):
        read({"a.jsonl": [row("a")]}, "?response=reply")


def test_a_control_character_in_a_name_is_spelled_out(read, capsys):
    assert read({"train.jsonl": [row("a")], "\x1b[2J-test.jsonl": [row("b")]}) == ["a"]
    assert r"not read: \x1b[2J-test.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(("odd", "count"), [([], None), (["odd.txt"], 1)])
def test_a_file_in_no_split_is_counted_once_whatever_the_languages(
    tmp_path, monkeypatch, odd, count
):
    for code in ("en", "de"):
        line = json.dumps({"id": "1", "prompt": f"Hi in {code}"})
        (tmp_path / f"{code}.jsonl").write_text(f"{line}\n")
    found = folders.files_of
    monkeypatch.setattr(folders, "files_of", lambda *given: (found(*given)[0], odd))
    lost = Counter()
    uri = f"hf:{tmp_path}?files={{language}}.jsonl&language=en,de&prompt=prompt"
    assert len(sources.load(uri, lost=lost)) == 2
    assert lost.get(sources.UNREAD) == count
