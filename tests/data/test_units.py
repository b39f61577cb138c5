"""Units: joined they are the text, and each script is cut as it is read."""

import itertools
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.data.units import UNITS, units
from jaxattack.errors import UserError

TEXT = st.text(st.sampled_from("ab ,é́ถาเัำ我喜。ガｶﾞ한क्षខ្ម\u200d👨🇯\r\n\t 𠀀"), max_size=24)


def ends(parts):
    """Where the parts end in the whole."""
    return set(itertools.accumulate(map(len, parts)))


@given(TEXT, st.sampled_from(UNITS))
def test_joined_they_are_the_text_and_none_is_blank(small_tokenizer, text, kind):
    parts = units(text, kind, small_tokenizer)
    assert "".join(parts) == text
    if text.strip():
        assert all(part.strip() for part in parts)
        # No combining mark is torn off what it sits on, and no cluster is cut apart.
        assert not any(unicodedata.category(part[0])[0] == "M" for part in parts[1:])
        assert ends(parts) <= ends(regex.findall(r"\X", text))
    else:
        assert len(parts) <= 1


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        ("I like  this topic. ", "script", ["I ", "like  ", "this ", "topic. "]),
        (" I like", "word", [" I ", "like"]),
        ("我喜欢这个", "script", list("我喜欢这个")),
        ("我喜欢 Python 语言", "script", ["我", "喜", "欢 ", "Python ", "语", "言"]),
        ("我喜欢 Python", "word", ["我喜欢 ", "Python"]),
        ("ab c", "character", ["a", "b ", "c"]),
        ("หัวข้อ", "script", ["หั", "ว", "ข้", "อ"]),  # marks stay on their consonant
        ("เป็น", "script", ["เป็", "น"]),  # and a leading vowel before it
        ("これはgood。", "script", ["こ", "れ", "は", "good", "。"]),
        ("이 주제가", "script", ["이 ", "주제가"]),
        ("น้ำทำ", "script", ["น้ำ", "ทำ"]),
        ("ນໍາ ຄຳ", "script", ["ນໍ", "າ ", "ຄຳ"]),
        ("ខ្មែរ", "script", ["ខ្មែ", "រ"]),
        ("မန္တလေး", "script", ["မ", "န္တ", "လေး"]),
        ("क्षमा करें", "character", ["क्ष", "मा ", "क", "रें"]),
        ("क्षमा करें", "script", ["क्षमा ", "करें"]),
        ("ｶﾞｷﾞ", "script", ["ｶﾞ", "ｷﾞ"]),
        (unicodedata.normalize("NFD", "がぎ"), "script", ["か\u3099", "き\u3099"]),
        ("家👨‍👩‍👧在🇯🇵です", "script", ["家", "👨‍👩‍👧", "在", "🇯🇵", "で", "す"]),
        ("กิน\u200bข้าว", "word", ["กิน\u200b", "ข้าว"]),
        ("مرحبا\u200f بك", "script", ["مرحبا\u200f ", "بك"]),
        ("བོད་ཡིག", "script", ["བོ", "ད", "་", "ཡི", "ག"]),
        ("", "script", []),
        ("  ", "script", ["  "]),
    ],
)
def test_hand_cut(text, kind, parts):
    assert units(text, kind) == parts


def test_pieces_are_where_the_tokenizer_cuts(small_tokenizer):
    text = "What is the currency of Japan?"
    expected = []
    for token in small_tokenizer(text, add_special_tokens=False)["input_ids"]:
        piece = small_tokenizer.decode(token)
        expected += [piece] if piece.strip() else [expected.pop() + piece]
    assert len(expected) > 10
    assert units(text, "piece", small_tokenizer) == expected


def test_mistakes_are_told(small_tokenizer):
    with pytest.raises(UserError, match="unit is 'sentence'; give one of"):
        units("a", "sentence")
    with pytest.raises(UserError, match="need a fast tokenizer"):
        units("a", "piece")
