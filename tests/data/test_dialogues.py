"""Chat templates to tokens and loss masks."""

import copy

import numpy as np
import pytest

from jaxattack.data.dialogues import (
    Cut,
    Example,
    encode_pairs,
    fingerprint,
    pair_tokens,
    prompt_tokens,
)
from jaxattack.errors import UserError

PAIRS = [
    Example("a", "en", "What is the currency of Japan?", "The currency of Japan is the yen."),
    Example("b", "zh", "日本的货币是什么？", "日本的货币是日元。"),
    Example("c", "th", "สกุลเงินของญี่ปุ่นคืออะไร", " เยน"),
]
MARKS = ("{% generation %}", "{% endgeneration %}")


@pytest.fixture
def templated(small_tokenizer):
    """A function from a change of the chat template to a tokenizer with it."""

    def change(*replacements):
        tokenizer = copy.deepcopy(small_tokenizer)
        for old, new in replacements:
            assert old in tokenizer.chat_template
            tokenizer.chat_template = tokenizer.chat_template.replace(old, new)
        return tokenizer

    return change


def test_tokens_and_mask_of_a_pair_written_out(small_tokenizer):
    pair = PAIRS[0]
    prompt = small_tokenizer.encode(f"<|user|>{pair.prompt}<|end|><|assistant|>")
    reply = small_tokenizer.encode(f"{pair.response}<|end|>")
    tokens, mask = pair_tokens(small_tokenizer, pair.prompt, pair.response)
    assert tokens == prompt + reply
    assert mask == [False] * len(prompt) + [True] * len(reply)
    assert prompt_tokens(small_tokenizer, pair.prompt) == prompt


def test_the_end_of_a_response_that_was_cut_is_not_trained(small_tokenizer):
    whole = encode_pairs(small_tokenizer, PAIRS)
    cut = [Cut(**vars(pair)) if i == 1 else pair for i, pair in enumerate(PAIRS)]
    found = encode_pairs(small_tokenizer, cut)
    np.testing.assert_array_equal(found["tokens"], whole["tokens"])
    [[row, place]] = np.argwhere(found["loss_mask"] != whole["loss_mask"])
    assert row == 1
    assert found["loss_mask"][row, place] == 0
    assert small_tokenizer.decode(found["tokens"][row, place]) == "<|end|>"


def test_arrays_hold_the_rows_padded_on_the_right(small_tokenizer):
    arrays = encode_pairs(small_tokenizer, PAIRS)
    lengths = []
    for row, pair in enumerate(PAIRS):
        tokens, mask = pair_tokens(small_tokenizer, pair.prompt, pair.response)
        lengths.append(len(tokens))
        padding = arrays["tokens"].shape[1] - len(tokens)
        assert arrays["tokens"][row].tolist() == tokens + [0] * padding
        assert arrays["loss_mask"][row].tolist() == mask + [0] * padding
        assert arrays["segment_ids"][row].tolist() == [1] * len(tokens) + [0] * padding
    width = arrays["tokens"].shape[1]
    assert width % 16 == 0
    assert 0 <= width - max(lengths) < 16
    assert {name: array.dtype for name, array in arrays.items()} == {
        "tokens": np.int32,
        "loss_mask": np.float32,
        "segment_ids": np.int32,
    }


@pytest.mark.parametrize(
    "replacements",
    [
        [(MARKS[0], ""), (MARKS[1], "")],
        [(MARKS[0], "{%- generation %}"), (MARKS[1], "{%- endgeneration %}")],
    ],
    ids=["no marks", "marks with dashes"],
)
def test_the_template_may_mark_the_reply_or_not(templated, small_tokenizer, replacements):
    expected = encode_pairs(small_tokenizer, PAIRS)
    actual = encode_pairs(templated(*replacements), PAIRS)
    assert expected["loss_mask"].sum() > 10
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name])


def test_marks_around_a_part_of_the_reply_train_only_that_part(templated):
    tokenizer = templated(("<|end|>{% endgeneration %}", "{% endgeneration %}<|end|>"))
    tokens, mask = pair_tokens(tokenizer, PAIRS[0].prompt, PAIRS[0].response)
    assert tokens[-1] == tokenizer.eos_token_id
    assert mask[-2:] == [True, False]


def test_a_prompt_that_changes_when_a_reply_follows_is_refused(templated):
    tokenizer = templated(
        (MARKS[0], ""),
        (MARKS[1], ""),
        ("{% if add_generation_prompt %}", "{% if add_generation_prompt %}think: "),
    )
    with pytest.raises(UserError, match="writes a prompt differently"):
        encode_pairs(tokenizer, PAIRS)


def test_a_template_among_several_is_the_default_one(templated, small_tokenizer):
    tokenizer = templated()
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": "x"}
    pair = PAIRS[0]
    expected = pair_tokens(small_tokenizer, pair.prompt, pair.response)
    assert pair_tokens(tokenizer, pair.prompt, pair.response) == expected


@pytest.mark.parametrize(
    "encode", [lambda t: encode_pairs(t, PAIRS), lambda t: prompt_tokens(t, "a")]
)
def test_a_tokenizer_without_a_template_is_refused(templated, encode):
    tokenizer = templated()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        encode(tokenizer)


def test_a_pair_that_is_too_long_is_named_and_never_cut(small_tokenizer):
    length = len(pair_tokens(small_tokenizer, PAIRS[0].prompt, PAIRS[0].response)[0])
    assert encode_pairs(small_tokenizer, PAIRS[:1], max_length=length)["tokens"].any()
    with pytest.raises(UserError, match=rf"'a' has {length} tokens, .*max_length={length - 1}"):
        encode_pairs(small_tokenizer, PAIRS[:1], max_length=length - 1)


@pytest.mark.parametrize("response", ["", " \n"])
def test_an_empty_response_is_named(small_tokenizer, response):
    with pytest.raises(UserError, match="'d' has an empty response"):
        encode_pairs(small_tokenizer, [*PAIRS, Example("d", "en", "What?", response)])


def test_no_pairs_are_refused(small_tokenizer):
    with pytest.raises(UserError, match="empty"):
        encode_pairs(small_tokenizer, [])


@pytest.mark.parametrize(
    "other",
    [
        PAIRS[::-1],
        PAIRS[:2],
        [*PAIRS[:2], Example("c", "th", PAIRS[2].prompt, "เยน")],
        [*PAIRS[:2], Example("c", "th", PAIRS[2].prompt, PAIRS[2].response, "benign")],
    ],
)
def test_the_fingerprint_changes_with_everything_in_the_examples(other):
    assert fingerprint(PAIRS) == fingerprint(list(PAIRS))
    assert fingerprint(PAIRS) != fingerprint(other)
