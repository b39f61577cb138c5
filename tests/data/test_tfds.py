"""`tfds:` sources prepared on the spot, read without their code and without TensorFlow."""

import os
import subprocess
import sys

import pytest

from jaxattack.data import sources
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError

TEXT = "\n_START_ARTICLE_\nสีน้ำเงิน {0}\n_START_SECTION_\nการใช้\n_START_PARAGRAPH_\nฟ้า_NEWLINE_ทะเล"
ARTICLES = [{"wikidata_id": f"Q{i}", "text": TEXT.format(i), "version_id": "1"} for i in range(9)]


def test_texts_of_wiki40b(prepared):
    prepared("wiki40b", "th", ARTICLES)
    assert sources.describe("tfds:wiki40b/th").resolved == "1.3.0"
    found = sources.load_texts("tfds:wiki40b/th", limit=50)
    assert sorted(found) == [f"สีน้ำเงิน {i}\n\nการใช้\nฟ้า\nทะเล" for i in range(9)]
    assert sources.load_texts("tfds:wiki40b/th@1.3.0?split=train[:4]", limit=50) == found[:4]
    assert sources.load_texts("tfds:wiki40b/th", limit=2) == found[:2]


def test_what_is_known_of_it(prepared):
    absent = sources.describe("tfds:wiki40b/th")
    assert (absent.resolved, absent.rows, absent.licence) == ("", None, "CC BY-SA 3.0")
    folder = prepared("wiki40b", "th", ARTICLES)
    known = sources.describe("tfds:wiki40b/th")
    assert (known.resolved, known.rows, known.languages) == ("1.3.0", 9, ("th",))
    assert sources.load_texts(f"tfds:{folder}", limit=1)[0].startswith("_START_ARTICLE_")
    as_known = f"tfds:{folder}?as=wiki40b/th"
    assert sources.load_texts(as_known, 1) == sources.load_texts("tfds:wiki40b/th", 1)


def test_prompts_of_a_prepared_set(prepared):
    rows = [{"name": f"n{i}", "question": f"Paint {i}?"} for i in range(3)]
    prepared("colours", "plain", rows)
    found = sources.load("tfds:colours/plain?id=name&prompt=question&language=en&kind=benign")
    assert sorted(found, key=lambda e: e.id) == [
        Example(f"n{i}", "en", f"Paint {i}?", kind="benign") for i in range(3)
    ]
    with pytest.raises(UserError, match="missing or empty columns: prompt; there are: name, ques"):
        sources.load("tfds:colours/plain?language=en")


def test_what_is_wrong_with_a_prepared_set(prepared):
    prepared("wiki40b", "th", ARTICLES)
    for uri, says in (
        ("tfds:wiki40b/de", "not prepared here; write it with tfds in the array_record format"),
        ("tfds:wiki40b/th@9.9.9", "not prepared here"),
        ("tfds:nothing/at@1.0.0?text=text", "not prepared here"),
        ("tfds:./nothing?text=text", "not prepared here"),
        ("tfds:wiki40b/th?split=tests", "Unknown split 'tests'"),
        ("tfds:wiki40b/th?text=body", "columns: body; there are: text, version_id, wikidata_id"),
    ):
        with pytest.raises(UserError, match=says) as caught:
            sources.load_texts(uri, limit=1)
        assert "\n" not in str(caught.value)


def test_tensorflow_is_not_imported(prepared, tmp_path):
    prepared("wiki40b", "th", ARTICLES)
    program = (
        "import sys\n"
        "from jaxattack.data import sources\n"
        "assert len(sources.load_texts('tfds:wiki40b/th', 3)) == 3\n"
        "assert not {'tensorflow', 'torch', 'apache_beam'} & set(sys.modules)\n"
    )
    environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path / "tfds")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
