"""`hf:` sources from an offline cache and from folders: columns as published, harmless rows."""

import types

import huggingface_hub
import pytest
from huggingface_hub import errors

from jaxattack.data import columns, sources
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BEAVERS = "PKU-Alignment/BeaverTails"
BEAVER_CARD = """---
configs:
- config_name: default
  data_files:
  - split: 30k_train
    path: round0/30k/train.jsonl.gz
  - split: 30k_test
    path: round0/30k/test.jsonl
---
"""


def beaver(prompt, response, is_safe=False):
    return {
        "prompt": prompt,
        "response": response,
        "category": {"colour": True, "size": False},
        "is_safe": is_safe,
    }


@pytest.fixture
def beavers(offline_hub):
    train = [
        beaver(f"Paint {i}?", f"Paint it {c}.", c == "green")
        for i in range(40)
        for c in ("blue", "red", "green")
    ]
    train += [train[0], beaver("Paint nothing?", " ")]
    test = [beaver(f"Paint {i}?", "Paint it black.") for i in range(30, 50)]
    return offline_hub(
        BEAVERS,
        {
            "README.md": BEAVER_CARD,
            "round0/30k/train.jsonl.gz": train,
            "round0/30k/test.jsonl": test,
            "BeaverTails.py": "raise SystemExit",
        },
        COMMIT,
    )


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_pairs_of_beavertails(beavers, revision, capsys):
    pairs = sources.load(f"hf:{BEAVERS}@{revision}", ("restricted",), need_response=True)
    assert len(pairs) == 80  # of 122: safe ones, a double and an empty reply left out
    assert {pair.language for pair in pairs} == {"en"}
    assert {pair.kind for pair in pairs} == {"restricted"}
    assert not any("green" in pair.response for pair in pairs)
    assert "1 rows equal to others, 1 rows without prompt or response" in capsys.readouterr().err
    prompts = sources.load(f"hf:{BEAVERS}@{revision}")
    assert len(prompts) == 41
    assert {pair.id.split("-")[0] for pair in pairs} < {prompt.id for prompt in prompts}


def test_parts_of_beavertails_share_no_prompt_across_its_splits(beavers):
    uri = f"hf:{BEAVERS}@{COMMIT}"
    parts = {
        part: {
            example.prompt
            for split in ("30k_train", "30k_test")
            for example in sources.load(f"{uri}?split={split}&part={part}")
        }
        for part in ("attack", "calibration", "test")
    }
    assert all(parts.values())
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 51


def test_what_is_known_before_and_after_it_is_here(beavers):
    known = sources.describe(f"hf:{BEAVERS}@main?split=30k_test")
    assert known.resolved == beavers.name == COMMIT
    assert (known.access, known.licence, known.rows) == ("open", "CC BY-NC 4.0", 3021)
    assert known.languages == ("en",)
    assert sources.describe(f"hf:{BEAVERS}@other").resolved == ""
    absent = sources.describe("hf:DAMO-NLP-SG/MultiJail@main?language=en,ko")
    assert (absent.resolved, absent.rows, absent.languages) == ("", 630, ("en", "ko"))
    assert str(absent).endswith("MIT, 630 rows in en, ko; not on this machine yet")


def test_only_the_revision_asked_for_is_read(beavers, offline_hub):
    newer = "f" * 40
    offline_hub(
        BEAVERS,
        {
            "README.md": BEAVER_CARD,
            "round0/30k/test.jsonl": [beaver("New?", "x")],
            "round0/30k/train.jsonl.gz": b"",
        },
        newer,
    )
    uri = f"hf:{BEAVERS}@{{}}?split=train&files=round0/30k/test.jsonl"
    assert [e.prompt for e in sources.load(uri.format("main"))] == ["New?"]
    assert len(sources.load(uri.format(COMMIT))) == 20
    assert sources.describe(uri.format("main")).resolved == newer
    with pytest.raises(UserError, match=r"revision 'v2' is not in the cache.*\(HF_HOME\)"):
        sources.load(uri.format("v2"))


MULTIJAIL = "\ufeffid,source,tags,en,zh,it,vi,ar,ko,th,bn,sw,jv\n" + "".join(
    f'{i},invented,[],"Paint {i}, please",请画{i},a{i},b{i},c{i},d{i},e{i},f{i},g{i},h{i}\n'
    for i in range(12)
)


def test_multijail_is_one_example_a_language(offline_hub):
    offline_hub(
        "DAMO-NLP-SG/MultiJail",
        {"README.md": "---\nlicense: mit\n---\n", "MultiJail.csv": MULTIJAIL},
    )
    uri = "hf:DAMO-NLP-SG/MultiJail@main"
    found = sources.load(uri)
    assert len(found) == 120
    assert {e.language for e in found} == set("en zh it vi ar ko th bn sw jv".split())
    assert found[0] == Example("0", "en", "Paint 0, please")
    assert [e.prompt for e in found if e.id == "3"][:2] == ["Paint 3, please", "请画3"]
    some = sources.load(f"{uri}?language=mandarin,jav&part=attack")
    assert {e.language for e in some} == {"zh", "jv"}
    by_language = {code: {e.id for e in some if e.language == code} for code in ("zh", "jv")}
    assert by_language["zh"] == by_language["jv"]
    assert 0 < len(by_language["zh"]) < 12


def test_aya_says_the_language_of_each_row(offline_hub):
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n" + "".join(
        f"  - split: {split}\n    path: aya_{code}.jsonl\n"
        for split, code in (("english", "eng"), ("filipino", "tgl"))
    )
    rows = {
        f"aya_{code}.jsonl": [
            {
                "prompt": f"{text} {i}",
                "harm_category": "['paint']",
                "global_or_local": "global",
                "language": name,
                "literal_translation": None,
            }
            for i in range(3)
        ]
        for code, name, text in (("eng", "English", "Paint"), ("tgl", "Filipino", "Kulayan"))
    }
    offline_hub("CohereLabs/aya_redteaming", {"README.md": card + "---\n", **rows})
    uri = "hf:CohereLabs/aya_redteaming@main"
    assert [e.language for e in sources.load(uri)] == ["en"] * 3 + ["tl"] * 3
    assert len(sources.load(f"{uri}?language=fil")) == 3
    assert len(sources.load(f"{uri}?split=english")) == 3
    assert len(sources.load(f"{uri}?files=aya_*.jsonl")) == 6
    with pytest.raises(UserError, match="no rows in fr; there are rows in: en, tl"):
        sources.load(f"{uri}?language=fr")
    with pytest.raises(UserError, match=r"no split .klingon.*english"):
        sources.load(f"{uri}?split=klingon")


def test_xstest_has_restricted_and_benign_prompts(offline_hub):
    rows = [
        {
            "id": f"v2-{i}",
            "prompt": f"Paint {i}?",
            "type": kind,
            "label": label,
            "focus": "a",
            "note": "",
        }
        for i, (kind, label) in enumerate([("homonyms", "safe"), ("contrast_homonyms", "unsafe")])
    ]
    header = ",".join(rows[0])
    lines = "\n".join(",".join(row.values()) for row in rows)
    offline_hub("Paul/XSTest", {"xstest_prompts.csv": f"{header}\n{lines}\n"})
    expected = [Example("v2-0", "en", "Paint 0?", kind="benign"), Example("v2-1", "en", "Paint 1?")]
    assert sources.load("hf:Paul/XSTest@main") == expected
    card = BEAVER_CARD.split("  - split")[0] + "  - split: prompts\n    path: data/prompts-*\n---\n"
    files = {"README.md": card, "data/prompts-00000-of-00001.parquet": rows}
    offline_hub("natolambert/xstest-v2-copy", files)
    assert sources.load("hf:natolambert/xstest-v2-copy@main") == expected


@pytest.mark.parametrize("label", [None, "", "Unsafe", 1])
def test_a_label_that_says_neither_is_no_benign_prompt(offline_hub, label):
    rows = [{"id": "1", "prompt": "Paint?", "type": "a", "label": label}]
    offline_hub("Paul/XSTest", {"prompts.jsonl": rows})
    with pytest.raises(UserError, match=r"row 1: label is .*, which says neither restricted nor"):
        sources.load("hf:Paul/XSTest@main")


def test_rows_of_one_text_and_two_kinds_are_counted_apart(offline_hub, capsys):
    rows = [
        {"prompt": "Paint?", "language": "en", "kind": kind} for kind in ("benign", "restricted")
    ]
    offline_hub("someone/set", {"prompts.jsonl": rows})
    (found,) = sources.load("hf:someone/set@main?prompt=prompt")
    assert found.kind == "benign"
    assert f"left out 1 {columns.OTHERWISE}" in capsys.readouterr().err


def test_advbench_targets_are_replies_only_if_one_says_so(offline_hub):
    rows = [{"prompt": f"Paint {i}", "target": "Sure, here is paint"} for i in range(3)]
    offline_hub("walledai/AdvBench", {"data/train-00000-of-00001.parquet": rows})
    assert len(sources.load("hf:walledai/AdvBench@main")) == 3
    with pytest.raises(UserError, match="response=<column>"):
        sources.load("hf:walledai/AdvBench@main", need_response=True)
    pairs = sources.load("hf:walledai/AdvBench@main?response=target", need_response=True)
    assert pairs[0].response == "Sure, here is paint"


def test_bactrian_has_a_file_a_language_and_its_script_is_not_run(offline_hub):
    rows = [
        {"instruction": "Translate", "input": "blue", "id": "alpaca-0", "output": "blau"},
        {"instruction": "Count", "input": "", "id": "alpaca-1", "output": "eins"},
        {"instruction": "Wait", "input": "", "id": "alpaca-2", "output": ""},
    ]
    offline_hub(
        "MBZUAI/Bactrian-X",
        {"data/de.json.gz": rows, "data/tl.json.gz": rows[:1], "Bactrian-X.py": "raise SystemExit"},
    )
    uri = "hf:MBZUAI/Bactrian-X@main"
    found = sources.load(f"{uri}?language=deu,fil", need_response=True)
    assert found == [
        Example("alpaca-0", "de", "Translate\n\nblue", "blau", "benign"),
        Example("alpaca-1", "de", "Count", "eins", "benign"),
        Example("alpaca-0", "tl", "Translate\n\nblue", "blau", "benign"),
    ]
    assert sources.describe(f"{uri}?language=de,tl").rows == 134_000
    for ask in (sources.load, sources.describe):
        with pytest.raises(UserError, match=r"each language has files of its own.*of: af, ar"):
            ask(uri)
    with pytest.raises(UserError, match=r"no file is called data/fr\.json\.gz"):
        sources.load(f"{uri}?language=fr")


def test_texts_of_wiki40b_on_the_hub(offline_hub):
    text = "\n_START_ARTICLE_\nBlue\n_START_SECTION_\nUse\n_START_PARAGRAPH_\nSky._NEWLINE_Sea."
    rows = [{"wikidata_id": f"Q{i}", "text": text, "version_id": "1"} for i in range(3)]
    offline_hub("google/wiki40b", {"zh-tw/train-00000-of-00001.parquet": rows})
    found = sources.load_texts("hf:google/wiki40b@main?language=zh-TW", limit=2)
    assert found == ["Blue\n\nUse\nSky.\nSea."] * 2


def test_a_folder_is_read_by_the_same_way(fill, tmp_path, offline_hub):
    rows = [{"question": f"Paint {i}?", "answer": "Blue."} for i in range(5)]
    folder = fill(tmp_path / "own", {"a.jsonl": rows})
    uri = f"hf:{folder}?prompt=question&response=answer&language=en"
    pairs = sources.load(uri, need_response=True)
    assert [pair.prompt for pair in pairs] == [row["question"] for row in rows]
    offline_hub("some/set", {"a.jsonl": rows}, COMMIT)
    there = uri.replace(f"hf:{folder}", "hf:some/set@main")
    assert sources.load(there, need_response=True) == pairs
    known, own = sources.describe(there), sources.describe(uri)
    assert (known.access, own.access) == ("unknown", "own")
    assert (known.resolved, own.resolved[:7]) == (COMMIT, "sha256:")
    with pytest.raises(UserError, match="missing or empty columns: reply; there are: answer, que"):
        sources.load(uri.replace("=answer", "=reply"), need_response=True)
    with pytest.raises(UserError, match="row 1: does not say its language; add language=<code>"):
        sources.load(uri.replace("&language=en", ""))


def test_a_folder_read_as_a_registered_set(fill, tmp_path, offline_hub):
    folder = fill(tmp_path / "copy", {"a.jsonl": [beaver("Paint?", "Blue.")]})
    uri = f"hf:{folder}?as={BEAVERS}&split=train"
    assert [e.response for e in sources.load(uri, need_response=True)] == ["Blue."]


def test_ids_that_occur_twice(fill, tmp_path, offline_hub):
    rows = [{"id": 1, "prompt": f"Paint {i}?", "language": "en"} for i in range(2)]
    uri = f"hf:{fill(tmp_path / 'own', {'a.jsonl': rows})}"
    with pytest.raises(UserError, match="row 2: id '1' occurs twice in en; add id="):
        sources.load(uri)
    assert len(sources.load(f"{uri}?id=")) == 2


@pytest.mark.parametrize(
    ("files", "query", "says"),
    [
        ({}, "", "no file that can be read, by its ending .jsonl, .*, perhaps with .gz"),
        ({"own.py": "raise SystemExit"}, "", "no file that can be read"),
        ({"a.xlsx": "PK"}, "", r"no file that can be read.*there are: a\.xlsx"),
        ({"a.csv": "prompt\nWähle\n".encode("latin-1")}, "", "line 2: not UTF-8"),
        ({"a.jsonl": '{"broken'}, "", "line 1: not JSON"),
        ({"a.csv": "prompt\nx\n"}, "&split=test", "no split 'test'; add split=, one of: train"),
        ({"a.csv": "prompt\nx\n"}, "&split=train[", "is none; write train"),
        ({"a.csv": "prompt\nx\n"}, "&config=b", "no configuration 'b'; there are: none"),
        ({"a.csv": "prompt\nx\n"}, "&files=b*", r"no file is called b\*; there are: a\.csv"),
        ({"a.csv": "prompt\nx\n"}, "&files=../b", r"files points out of the folder \(\.\./b"),
        ({"a.csv": "prompt\n\n"}, "", "no rows in train"),
        ({"a.jsonl": '{"prompt": ""}'}, "", "no restricted or benign examples, of 0 read"),
    ],
)
def test_what_is_wrong_with_a_set_on_one_line(fill, tmp_path, offline_hub, files, query, says):
    folder = tmp_path / "own"
    folder.mkdir()
    fill(folder, files)
    with pytest.raises(UserError, match=says) as caught:
        sources.load(f"hf:{folder}?language=en{query}")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="gone: no such folder"):
        sources.describe(f"hf:{tmp_path / 'gone'}")


def test_the_hub_is_asked_for_the_revision_and_no_code(monkeypatch):
    def refuse(*args, **options):
        assert options["revision"] == "v3"
        assert options["ignore_patterns"] == ["*.py"]
        response = types.SimpleNamespace(headers={}, request=None, status_code=401)
        raise errors.GatedRepoError("500 Server Error\nand more", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"^hf:walledai/AdvBench: .*terms to be accepted"):
        sources.load("hf:walledai/AdvBench@v3")
    assert sources.describe("hf:walledai/AdvBench@v3").resolved == ""


def test_a_set_that_is_not_here_while_offline(offline_hub):
    with pytest.raises(
        UserError, match="hf:walledai/AdvBench: revision 'main' is not in the cache"
    ):
        sources.load("hf:walledai/AdvBench@main")
