"""Chats: their first exchange, what is counted as left out, and what is of no use."""

import json
from collections import Counter

import pytest

from jaxattack.data import sources, turns
from jaxattack.errors import UserError


def openai(*texts, roles="ua"):
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": names[r], "content": t} for r, t in zip(roles, texts, strict=True)]


def sharegpt(*texts, roles="ua"):
    names = {"s": "system", "u": "human", "a": "gpt", "t": "observation"}
    return [{"from": names[r], "value": t} for r, t in zip(roles, texts, strict=True)]


@pytest.mark.parametrize("form", [openai, sharegpt])
@pytest.mark.parametrize(
    ("roles", "texts", "pair", "lost"),
    [
        ("ua", ["Hi", "Yes"], ("Hi", "Yes"), {}),
        ("sua", ["Be brief", "Hi", "Yes"], ("Hi", "Yes"), {turns.SYSTEM: 1}),
        ("sua", [" ", "Hi", "Yes"], ("Hi", "Yes"), {}),
        ("uaua", ["Hi", "Yes", "And?", "No"], ("Hi", "Yes"), {turns.LATER: 2}),
        ("uua", ["Hi", "you", "Yes"], ("Hi\n\nyou", "Yes"), {}),
        ("uat", ["Hi", "Yes", "42"], ("Hi", "Yes"), {turns.LATER: 1}),
    ],
)
def test_the_first_exchange(form, roles, texts, pair, lost):
    found = turns.exchange("row 1", form(*texts, roles=roles))
    assert (found.prompt, found.response) == pair
    assert found.lost == lost
    assert not found.unfit


@pytest.mark.parametrize(
    ("chat", "why"),
    [
        (openai("Yes", "Hi", "No", roles="aua"), "open with an answer"),
        (openai("Hi", "42", "Yes", roles="uta"), "answer with a tool or without a text"),
        (openai("Hi", None), "answer with a tool or without a text"),
        (openai("Hi", " "), "answer with a tool or without a text"),
        (
            [*openai("Hi", roles="u"), {"role": "assistant", "content": "", "tool_calls": [{}]}],
            "answer with a tool or without a text",
        ),
        (openai("Be brief", roles="s"), "have no turns"),
    ],
)
def test_chats_of_no_use(chat, why):
    assert turns.exchange("row 1", chat).unfit == why


def test_content_in_parts_is_text():
    parts = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]
    assert turns.exchange("row 1", openai(parts, "Yes")).prompt == "Hi\n\nyou"
    for content in ([{"type": "image_url", "image_url": {}}], 5, [5]):
        with pytest.raises(UserError, match="row 1: turn 1 has a content that is no text"):
            turns.exchange("row 1", openai(content, "Yes"))
    with pytest.raises(UserError, match="turn 1 is by 'narrator', a role that is not known"):
        turns.exchange("row 1", [{"role": "narrator", "content": "Once"}])


@pytest.fixture
def read(tmp_path):
    def read(*rows, query="", pairs=True):
        path = tmp_path / "a.jsonl"
        whole = [{"id": str(i), "language": "en", **row} for i, row in enumerate(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in whole))
        uri = f"jsonl:{path}{query}"
        lost = Counter()
        found = sources.load(uri, need_response=pairs, lost=lost)
        return [(e.prompt, e.response) for e in found], dict(lost)

    return read


def test_a_set_of_chats_is_read_and_its_losses_counted(read, capsys):
    long = sharegpt("Be brief", "Hi", "Yes", "And?", "No", roles="suaua")
    rows = [{column: long} for column in ("messages", "conversations")]
    found, lost = read(*rows, {"messages": openai("Yes", "Hi", roles="au")})
    assert found == [("Hi", "Yes")] * 2
    told = {"chats that open with an answer": 1, turns.SYSTEM: 2, turns.LATER: 4}
    assert lost == told
    assert "left out 1 chats that open with an answer, 2 system texts, 4 turns" in (
        capsys.readouterr().err
    )
    assert read(*rows, pairs=False)[0] == [("Hi", "")] * 2


def test_chats_in_named_columns(read):
    row = {
        "talk": openai("Hi", "Yes"),
        "prompt": "Hi",
        "chosen": openai("Hi", "Yes"),
        "rejected": openai("No", roles="a"),
        "ask": openai("Hi", roles="u"),
        "history": openai("Ho", "He", "Hi", roles="uau"),
    }
    for query, pair in {
        "?prompt=talk&response=talk": ("Hi", "Yes"),
        "?response=chosen": ("Hi", "Yes"),
        "?response=rejected": ("Hi", "No"),
        "?prompt=ask&response=rejected": ("Hi", "No"),
    }.items():
        assert read(row, query=query)[0] == [pair]
    with pytest.raises(UserError, match="no restricted or benign examples, of 0 read"):
        read(row, query="?prompt=history&response=rejected")


def test_a_chat_in_a_tables_cell_is_no_prompt_as_it_stands(read):
    cell = json.dumps(openai("Hi", "Yes"))
    for query in ("", "?prompt=messages"):
        assert read({"messages": cell}, query=query, pairs=False)[0] == [("Hi", "")]
    assert read({"messages": cell})[0] == [("Hi", "Yes")]
    # A text may look like one.
    assert read({"prompt": cell, "response": cell})[0] == [(cell, cell)]


def test_turns_with_names_of_both_kinds_and_a_system_text_beside_them(read):
    union = {"role": None, "content": None}
    turns_ = [union | turn for turn in sharegpt("Hi", "Yes")]
    found, lost = read({"conversations": turns_, "system": "Be brief"}, {"messages": turns_})
    assert found == [("Hi", "Yes")] * 2
    assert lost == {turns.SYSTEM: 1}


def test_a_prompt_without_an_answer_is_no_pair(read):
    row = {"messages": openai("Hi", roles="u")}
    assert read(row, pairs=False)[0] == [("Hi", "")]
    with pytest.raises(UserError, match="line 1: missing or empty columns: response"):
        read(row)
