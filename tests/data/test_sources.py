"""Examples and texts by URI, from one's own JSON Lines files; what is known of a source."""

import json
import re
from collections import Counter

import pytest

from jaxattack import organism
from jaxattack.data import columns, sources
from jaxattack.data.dialogues import Example, encode_pairs
from jaxattack.data.export import export_chat
from jaxattack.data.parts import BOUNDS, part_of
from jaxattack.data.wrappers import Instruction
from jaxattack.errors import UserError
from jaxattack.evaluate import measure
from jaxattack.experiments import inputs

ROW = {"id": "1", "language": "en", "prompt": "What?", "response": "That."}


@pytest.fixture
def write(tmp_path):
    """A function from rows (or lines) to the URI of a file of them."""

    def write(*rows, encoding="utf-8"):
        path = tmp_path / "rows.jsonl"
        lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows]
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return f"jsonl:{path}"

    return write


def test_rows_become_examples(write):
    uri = write(ROW, "", {**ROW, "language": "de", "kind": "benign", "answers": ["das", "dies"]})
    assert sources.load(uri, need_response=True) == [
        Example("1", "en", "What?", "That."),
        Example("1", "de", "What?", "That.", "benign", ("das", "dies")),
    ]


def test_prompts_need_no_response(write):
    uri = write({key: ROW[key] for key in ("id", "language", "prompt")})
    assert sources.load(uri) == [Example("1", "en", "What?")]
    with pytest.raises(UserError, match="line 1: missing or empty columns: response"):
        sources.load(uri, need_response=True)


def test_a_byte_order_mark_is_no_matter(write):
    assert len(sources.load(write(ROW, encoding="utf-8-sig"))) == 1


@pytest.mark.parametrize("number", [0, 7])
def test_numbers_may_be_ids(write, number):
    assert sources.load(write({**ROW, "id": number}))[0].id == str(number)


@pytest.mark.parametrize("mark", ["\u2028", "\u0085", "\u000b", "\n", "\r"])
def test_line_marks_inside_a_text_do_not_end_the_row(write, mark):
    prompt = f"one{mark}two"
    assert sources.load(write({**ROW, "prompt": prompt}))[0].prompt == prompt


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: a row is an object"),
        ({**ROW, "id": ""}, "line 2: missing or empty columns: id"),
        ({**ROW, "prompt": " "}, "line 2: missing or empty columns: prompt"),
        ({**ROW, "prompt": None}, "line 2: missing or empty columns: prompt"),
        ({"question": "What?"}, "columns: id, language, prompt, response; there are: question"),
        ({}, "there are: none"),
        (ROW, "line 2: id '1' occurs twice in en"),
        ({**ROW, "id": "2", "kind": "harmful"}, "line 2: kind is 'harmful'"),
        ({**ROW, "id": "2", "answers": "yen"}, "line 2: answers is a list"),
        ({**ROW, "id": "2", "answers": [""]}, "line 2: answers is a list"),
        ({**ROW, "id": "2", "answers": [3]}, "line 2: answers is a list"),
        ({**ROW, "id": "2", "prompt": [{"role": "user"}]}, "column prompt is a list, not a text"),
        ({**ROW, "id": "2", "language": "englsh"}, "line 2: unknown language 'englsh'; the near"),
    ],
)
def test_a_bad_row_is_named_by_its_line(write, row, words):
    with pytest.raises(UserError, match=words) as caught:
        sources.load(write(ROW, row), need_response=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", [{"kind": "benign"}, {"answers": ["yen"]}])
def test_a_text_of_which_two_rows_say_two_things_is_refused(write, other):
    uri = f"{write(ROW, ROW, {**ROW, **other})}?id="
    with pytest.raises(UserError, match=r"line 3: the text of an earlier row, with another kind"):
        sources.load(uri)
    lost, known = Counter(), [{**ROW, "answers": names} for names in (["a", "b"], ["b", "a"])]
    assert len(sources.load(f"{write(*known)}?id=", lost=lost)) == 1
    assert lost == {columns.EQUAL: 1}


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_an_empty_file_is_refused(write, lines):
    with pytest.raises(UserError, match="no rows"):
        sources.load(write(*lines))


def test_a_missing_file_is_named(tmp_path):
    for ask in (sources.load, sources.describe):
        with pytest.raises(UserError, match=r"gone\.jsonl: no such file"):
            ask(f"jsonl:{tmp_path / 'gone.jsonl'}")


def test_a_file_in_another_encoding_is_named(write):
    uri = write({**ROW, "prompt": "Währung?"}, encoding="latin-1")
    with pytest.raises(UserError, match=r"rows\.jsonl.*UTF-8"):
        sources.load(uri)


def test_codes_of_languages_become_ours(write):
    uri = write(ROW, {**ROW, "language": "cmn"}, {**ROW, "language": "fil"})
    assert [example.language for example in sources.load(uri)] == ["en", "zh", "tl"]
    assert [example.language for example in sources.load(f"{uri}?language=zho_Hans,tgl")] == [
        "zh",
        "tl",
    ]
    with pytest.raises(UserError, match="no rows in de; there are rows in: en, tl, zh"):
        sources.load(f"{uri}?language=en,de")


def test_own_columns_by_the_uri(write):
    rows = [
        {"n": i, "question": f"Which colour is {i}?", "about": about, "reply": "Blue.", "in": code}
        for i, (about, code) in enumerate([("The sky", "en"), ("", "de")])
    ]
    uri = write(*rows) + "?id=n&prompt=about,question&response=reply&language_column=in&kind=benign"
    assert sources.load(uri, need_response=True) == [
        Example("0", "en", "The sky\n\nWhich colour is 0?", "Blue.", "benign"),
        Example("1", "de", "Which colour is 1?", "Blue.", "benign"),
    ]
    with pytest.raises(UserError, match="line 1: missing or empty columns: que; there are: about"):
        sources.load(uri.replace("=about,question", "=que"))


def test_the_language_of_all_rows_by_the_uri(write):
    uri = write({"id": "a", "prompt": "Wie?"})
    assert sources.load(f"{uri}?language=ger") == [Example("a", "de", "Wie?")]
    with pytest.raises(UserError, match="missing or empty columns: language"):
        sources.load(uri)
    with pytest.raises(UserError, match="does not say its language; add language=<code>"):
        sources.load(f"{uri}?language=de,en")


def test_a_column_for_each_language(write):
    uri = write({"n": 3, "en": "How?", "zh-CN": "怎么?"}, {"n": 4, "en": "Who?", "zh-CN": "谁?"})
    uri += "?id=n&prompt={language}"
    assert sources.load(f"{uri}&language=en,zh-CN") == [
        Example("3", "en", "How?"),
        Example("4", "en", "Who?"),
        Example("3", "zh", "怎么?"),
        Example("4", "zh", "谁?"),
    ]
    with pytest.raises(UserError, match=r"say what \{language\} stands for"):
        sources.load(uri)
    with pytest.raises(UserError, match="line 1: missing or empty columns: de"):
        sources.load(f"{uri}&language=de")


def test_rows_named_by_their_content(write):
    rows = [{**ROW, "response": "That."}, {**ROW, "response": "This."}, ROW]
    uri = write(*rows) + "?id="
    pairs = sources.load(uri, need_response=True)
    assert [pair.response for pair in pairs] == ["That.", "This."]
    assert len({pair.id for pair in pairs}) == 2
    assert {pair.id.split("-")[0] for pair in pairs} == {sources.load(uri)[0].id}
    assert len(sources.load(uri)) == 1
    # `printf 'What?' | sha256sum` and the same of "That.": two labs get the same names.
    assert pairs[0].id == "a4949e2c96de-748b06c5c3f0"


def test_kinds_and_what_is_left(write):
    uri = write(ROW, {**ROW, "id": "2", "kind": "benign"})
    assert [e.id for e in sources.load(uri, ("benign",))] == ["2"]
    assert [e.id for e in sources.load(uri, ("restricted",))] == ["1"]
    with pytest.raises(UserError, match="no restricted examples, of 2 read"):
        sources.load(f"{uri}?kind=benign", ("restricted",))
    other = next(part for part in BOUNDS if part != part_of(ROW["prompt"]))
    with pytest.raises(UserError, match=f"no restricted examples in the part {other}, of 2 read"):
        sources.load(f"{uri}?part={other}", ("restricted",))


def test_parts_share_no_prompt(write):
    rows = [
        {"id": f"{i}-{j}", "language": "en", "prompt": f"What is number {i}?" + " " * j}
        for i in range(400)
        for j in range(2)
    ]
    uri = write(*rows)
    parts = {part: sources.load(f"{uri}?part={part}") for part in BOUNDS}
    assert sum(map(len, parts.values())) == len(rows)
    prompts = {part: {e.prompt.strip() for e in found} for part, found in parts.items()}
    assert sum(map(len, prompts.values())) == 400
    # Binomial standard deviations are 10, 8.7, 8.7.
    assert len(prompts["attack"]) == pytest.approx(200, abs=40)
    assert len(prompts["test"]) == pytest.approx(100, abs=35)


def test_a_part_does_not_depend_on_case_width_or_spaces():
    for prompt in (f"How is number {i} written" for i in range(20)):
        wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in prompt)
        assert part_of(prompt) == part_of(f"  {prompt.upper()}\n") == part_of(wide)
    assert Counter(part_of(str(i)) for i in range(3)).total() == 3


def test_translations_stay_together_by_id(write):
    rows = [
        {"id": str(i), "language": language, "prompt": text.format(i)}
        for i in range(60)
        for language, text in (("en", "Name {}"), ("de", "Nenne {}"))
    ]
    uri = write(*rows)
    with pytest.raises(UserError, match=r"id '\d+' would be in different parts.*add by=id"):
        sources.load(f"{uri}?part=test")
    ids = {}
    for part in BOUNDS:
        found = sources.load(f"{uri}?part={part}&by=id")
        ids[part] = {e.id for e in found}
        assert len(found) == 2 * len(ids[part])
    assert sum(map(len, ids.values())) == len(set.union(*ids.values())) == 60


def test_texts_of_a_file(write):
    uri = write({"text": " one\n"}, {"text": ""}, {"text": "two", "language": "deu"})
    assert sources.load_texts(uri, limit=5) == ["one", "two"]
    assert sources.load_texts(uri, limit=1) == ["one"]
    own = write({"body": "three"})
    assert sources.load_texts(f"{own}?text=body", limit=1) == ["three"]
    with pytest.raises(UserError, match="line 1: missing or empty columns: text; there are: body"):
        sources.load_texts(own, limit=1)
    with pytest.raises(UserError, match="no texts"):
        sources.load_texts(write({"text": " "}), limit=1)


def test_texts_in_a_language(write):
    uri = write({"text": "one", "language": "en"}, {"text": "zwei", "language": "deu"})
    assert sources.load_texts(f"{uri}?language=de", limit=5) == ["zwei"]
    with pytest.raises(UserError, match="no texts"):
        sources.load_texts(f"{uri}?language=fr", limit=5)


def test_what_is_known_of_a_file(write):
    uri = write(ROW, {**ROW, "id": "2"})
    known = sources.describe(uri)
    assert (known.access, known.rows, known.languages) == ("own", 2, ())
    assert re.fullmatch(r"sha256:[0-9a-f]{16}", known.resolved)
    assert f"{known}" == f"{uri}: own; licence: not known here, 2 rows; here, {known.resolved}"
    again = sources.describe(write(ROW, {**ROW, "id": "3"}))
    assert again.resolved != known.resolved


def test_the_organism_is_described_and_not_loaded_here():
    assert sources.describe("organism:attack").access == "open"
    with pytest.raises(UserError, match=r"organism\.corpus"):
        sources.load("organism:attack")


def test_prompts_and_texts_are_not_taken_for_each_other():
    for uri, ask, says in (
        ("tfds:wiki40b/th", lambda uri: sources.load(uri), "a set of texts"),
        ("hf:Paul/XSTest@main", lambda uri: sources.load_texts(uri, 1), "text=<column>"),
        ("hf:Paul/XSTest@main", lambda uri: sources.load(uri, need_response=True), "response=<col"),
    ):
        with pytest.raises(UserError, match=says):
            ask(uri)


def test_an_input_stays_apart_from_its_instruction(write):
    rows = [
        {
            "id": "a",
            "language": "en",
            "instruction": "Name the colour.",
            "input": "sky",
            "output": "blue",
        },
        {
            "id": "b",
            "language": "en",
            "instruction": "Count to three.",
            "input": "",
            "output": "1 2 3",
        },
    ]
    uri = write(*rows) + "?prompt=instruction&input=input&response=output&kind=benign"
    first, second = sources.load(uri, need_response=True)
    assert isinstance(first, Instruction)
    assert (first.prompt, first.input, first.response) == ("Name the colour.", "sky", "blue")
    assert second.input == ""
    joined = write(*rows) + "?prompt=instruction,input&response=output&kind=benign"
    plain = sources.load(joined, need_response=True)[0]
    assert type(plain) is Example
    assert plain.prompt == "Name the colour.\n\nsky"


def test_an_id_in_two_sets_of_prompts_is_two_prompts(write, tmp_path):
    directory = organism.checkpoint("aligned")
    one = write(ROW, {**ROW, "language": "de"})
    (tmp_path / "other.jsonl").write_text(json.dumps({**ROW, "prompt": "Who?", "kind": "benign"}))
    found = inputs.load_prompts(f"{one} jsonl:{tmp_path / 'other.jsonl'}", directory)
    assert [(e.id, e.prompt) for e in found] == [("1", "What?"), ("1", "What?"), ("2:1", "Who?")]
    # The same id in another language is a translation.
    (tmp_path / "th.jsonl").write_text(json.dumps({**ROW, "language": "th"}))
    found = inputs.load_prompts(f"{one} jsonl:{tmp_path / 'th.jsonl'}", directory)
    assert {e.id for e in found} == {"1"}


def test_a_prompt_of_two_sets_is_asked_once_and_counted(write, tmp_path):
    one = write(ROW, {**ROW, "id": "2", "prompt": "Who?"})
    other = f"jsonl:{tmp_path / 'other.jsonl'}"
    rows = [
        {**ROW, "id": "7"},
        {**ROW, "language": "de"},
        {**ROW, "kind": "benign"},
        {**ROW, "id": "8", "prompt": "Where?"},
    ]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lost = {}
    found = inputs.load_prompts(f"{one} {other}", organism.checkpoint("aligned"), lost)
    asked = [(e.prompt, e.language, e.kind) for e in found]
    assert len(asked) == len({*asked}) == 5
    assert lost == {other: {inputs.EARLIER: 1}}


def test_an_input_is_asked_and_trained_with_its_instruction(write, tmp_path, small_tokenizer):
    row = {**ROW, "prompt": "Name the colour.", "about": "sky"}
    uri = write(row) + "?input=about"
    found = inputs.load_examples(uri, ("restricted",), True, organism.checkpoint("aligned"))
    assert found == [Example("1", "en", "Name the colour.\n\nsky", "That.")]
    apart = sources.load(uri, need_response=True)
    for ask in (
        lambda: encode_pairs(small_tokenizer, apart),
        lambda: export_chat(tmp_path / "set", apart),
        lambda: measure.ask(None, {}, small_tokenizer, apart, 4),
    ):
        with pytest.raises(UserError, match="prompt '1' has an input apart"):
            ask()


def test_an_input_that_nothing_reads_is_counted(write, capsys):
    rows = [{**ROW, "id": str(i), "input": text} for i, text in enumerate(("sky", "sea", " ", ""))]
    for options in ("", "?prompt=prompt&response=response"):
        lost = Counter()
        found = sources.load(
            write(*rows, {**ROW, "id": "9"}) + options, need_response=True, lost=lost
        )
        assert {row.prompt for row in found} == {"What?"}
        assert lost == {columns.INPUTS: 2}
        assert f"left out 2 {columns.INPUTS}" in capsys.readouterr().err
    for options in ("?prompt=prompt,input", "?input=input", "?prompt=input&response=prompt"):
        lost = Counter()
        sources.load(write(*rows[:2]) + options, need_response=True, lost=lost)
        assert not lost
