"""Data URIs taken apart, and the registry's layouts by URI."""

import pathlib
import re

import pytest

from jaxattack.data import registry
from jaxattack.data.uri import OPTIONS, parse
from jaxattack.errors import UserError

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_every_part_of_a_uri():
    address = parse("hf:PKU-Alignment/BeaverTails@v1.0?split=train[:9]&files=a/*.csv&id=")
    assert (address.scheme, address.name) == ("hf", "PKU-Alignment/BeaverTails")
    assert address.revision == "v1.0"
    assert address.options == {"split": "train[:9]", "files": "a/*.csv", "id": ""}
    assert parse("hf:a/b@refs/convert/parquet").revision == "refs/convert/parquet"
    assert parse("tfds:wiki40b/th@1.3.0").name == "wiki40b/th"
    assert parse("tfds:wiki40b/th").revision == ""
    assert parse("jsonl:a@b/c.jsonl").name == "a@b/c.jsonl"
    assert parse("organism:attack").name == "attack"


@pytest.mark.parametrize("uri", ["hf:./a@b", "hf:/a/b", "hf:~/b", "tfds:./a/1.0.0"])
def test_a_folder_needs_no_revision(uri):
    address = parse(uri)
    assert address.folder == pathlib.Path(uri.partition(":")[2]).expanduser()
    assert address.revision == ""


def test_a_folder_below_folders_needs_no_dot(tmp_path, monkeypatch):
    (tmp_path / "sets" / "de" / "csv").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse("hf:sets/de/csv").folder == pathlib.Path("sets/de/csv")
    with pytest.raises(UserError, match="owner/name"):
        parse("hf:sets/de/nothere")
    assert parse("hf:sets/de@main").folder is None  # may be a set's id


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pairs.jsonl", "give organism:<split>, jsonl:<file>"),
        ("csv:file.csv", "data URI 'csv:file.csv'"),
        ("jsonl:a b.jsonl jsonl:c", "2 data URIs where one is asked for: jsonl:a b.jsonl, jsonl:c"),
        ("organism:attack hf:a/b@main", "2 data URIs where one is asked for"),
        ("jsonl:", "jsonl:<file>"),
        ("hf:squad@main", "owner/name"),
        ("hf:a/b/c@main", "owner/name"),
        ("hf:a/b", "hf:a/b@main"),
        ("hf:a/b@?split=x", "which revision after an @"),
        ("hf:a/b@main?splitt=x", "no option 'splitt'; there are: config, split"),
        ("jsonl:a?split=x", "jsonl: has no option 'split'"),
        ("organism:attack?split=en", "no option 'split'; there are: policy, language"),
        ("jsonl:a?language=", "option language has no value"),
        ("jsonl:a?language", "option language has no value"),
        ("jsonl:a?kind=benign&kind=benign", "kind is given twice"),
        ("jsonl:a?kind=harmful", "kind is 'harmful'; give one of restricted, benign"),
        ("jsonl:a?part=train", "part is 'train'; give one of attack, calibration, test"),
    ],
)
def test_what_is_wrong_with_a_uri(uri, says):
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        parse(uri)
    assert "\n" not in str(caught.value)


def layout(uri):
    return registry.layout(parse(uri))


def test_a_registered_set_knows_its_layout():
    entry = layout("hf:PKU-Alignment/BeaverTails@main")
    assert entry.columns == {"prompt": "prompt", "response": "response"}
    assert (entry.split, entry.keep) == ("30k_train", ("is_safe", False))
    changed = layout("hf:walledai/AdvBench@main?response=target&split=x&kind=benign")
    assert changed.columns == {"prompt": "prompt", "response": "target"}
    assert (changed.split, changed.kind) == ("x", "benign")
    assert layout("hf:Paul/XSTest@main?kind=benign").restricted is None


def test_a_folder_may_be_read_as_a_registered_set():
    assert layout("hf:./copy?as=PKU-Alignment/BeaverTails").licence == "CC BY-NC 4.0"
    with pytest.raises(UserError, match=r"as=a/b is not in the registry: PKU-Alignment/Beaver"):
        layout("hf:./copy?as=a/b")


def test_a_language_in_the_name_is_the_set_s():
    assert layout("tfds:wiki40b/zh-tw").languages == ("zh-tw",)
    with pytest.raises(UserError, match="no language 'tlh'; there are: ar, bg"):
        layout("tfds:wiki40b/tlh")


def test_languages_asked_for_in_any_code():
    def chosen(uri):
        return registry.chosen(parse(uri), layout(uri))

    asked = chosen("hf:DAMO-NLP-SG/MultiJail@main?language=zho_Hans,Bengali")
    assert asked == {"zh": "zh", "bn": "bn"}
    assert chosen("hf:CohereLabs/aya_redteaming@main?language=tgl") == {"tl": "Filipino"}
    assert len(chosen("hf:DAMO-NLP-SG/MultiJail@main")) == 10
    assert chosen("jsonl:a?language=ger") == {"de": "ger"}
    with pytest.raises(UserError, match="no language de, ja; there are: en, zh, it"):
        chosen("hf:DAMO-NLP-SG/MultiJail@main?language=de,ja")
    with pytest.raises(UserError, match="unknown language 'zzz'"):
        chosen("jsonl:a?language=zzz")


@pytest.mark.parametrize("entry", registry.SETS, ids=lambda entry: entry.id)
def test_the_page_has_a_row_of_every_set(entry):
    count = len(entry.languages)
    spoken = f"{count} languages" if count > 10 else ", ".join(entry.languages)
    columns = ", ".join(f"{field} = {column}" for field, column in entry.columns.items())
    cells = (f"`{entry.scheme}:{entry.id}`", entry.access, entry.licence, spoken, columns)
    row = f"| {' | '.join(cells)} | {entry.notes} |"
    assert row in PAGE


def test_the_page_has_no_other_rows_and_every_option():
    assert len(re.findall(r"^\| `(hf|tfds):", PAGE, flags=re.M)) == len(registry.SETS)
    for option in {option for options in OPTIONS.values() for option in options}:
        assert re.search(rf"\| `[^|]*\b{option}=", PAGE), option


def test_counts_of_the_published_sets():
    """Sums that the publications state."""
    entries = {entry.id: entry for entry in registry.SETS}
    beavers = entries["PKU-Alignment/BeaverTails"].rows
    assert beavers["30k_train"] + beavers["30k_test"] == 30_207
    assert beavers["330k_train"] + beavers["330k_test"] == 333_963
    aya = dict(entries["CohereLabs/aya_redteaming"].rows)
    assert aya.pop("all") == sum(aya.values())
