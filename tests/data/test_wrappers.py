"""Instructions, with and without input, in wrapper texts and through a bare chat template."""

import dataclasses

import pytest

from jaxattack.data.dialogues import Begun, Example, pair_tokens
from jaxattack.data.wrappers import ALPACA, CHAT, LINES, PLAIN, Instruction, Wrapper, wrap
from jaxattack.errors import UserError

WRAPPER = Wrapper("[{instruction}|{input}]", "<{instruction}>")


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (Instruction("1", "en", "Sum up."), "<Sum up.>"),
        (Instruction("1", "en", "Sum up.", input="A text."), "[Sum up.|A text.]"),
        (Example("1", "en", "Sum up."), "<Sum up.>"),
        # Braces in the parts are nobody's fields.
        (
            Instruction("1", "en", "Use {input} {x}", input="{instruction}"),
            "[Use {input} {x}|{instruction}]",
        ),
    ],
)
def test_wrapped(row, prompt):
    wrapped = wrap(row, WRAPPER)
    assert wrapped == Example("1", "en", prompt)
    assert type(wrapped) is Example


def test_the_rest_of_a_row_stays():
    row = Instruction("7", "de", "Frage", "Antwort", "benign", ("a",), ("b",), input="Text")
    assert wrap(row, CHAT) == Example(
        "7", "de", "Frage\n\nText", "Antwort", "benign", ("a",), ("b",)
    )


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (("{instruction}", "{instruction}"), r"with_input has the fields \{instruction\}; "),
        (("{instruction}{input}", "{input}"), r"without_input has the fields \{input\}; "),
        (("{instruction}{input}{input}", "{instruction}"), "with_input has the fields"),
        (("{instruction}{input}", "no field"), "has the fields none"),
    ],
)
def test_wrappers_with_wrong_fields_are_refused(texts, line):
    with pytest.raises(UserError, match=line):
        Wrapper(*texts)


def test_a_bare_chat_template_trains_on_the_response_and_the_end(small_tokenizer, monkeypatch):
    monkeypatch.setattr(small_tokenizer, "chat_template", PLAIN)
    row = wrap(Instruction("1", "en", "Question", "Reply", input="Text"), ALPACA)
    tokens, mask = pair_tokens(small_tokenizer, row.prompt, row.response)
    assert small_tokenizer.decode(tokens) == row.prompt + "Reply<|end|>"
    trained = [token for token, on in zip(tokens, mask, strict=True) if on]
    assert small_tokenizer.decode(trained) == "Reply<|end|>"


def test_what_is_given_of_a_reply_stays_given():
    begun = Begun("a", "en", "Why?", "It is so.", given="It ")
    assert wrap(begun, LINES) == dataclasses.replace(begun, prompt="Why?\n")
