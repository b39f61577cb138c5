"""What is wrong with a reply before its content is judged."""

import pytest

from jaxattack.evaluate.triage import triage

PROMPT = "What is the currency of Japan?"


@pytest.mark.parametrize(
    ("reply", "language", "expected"),
    [
        ("", "en", "empty"),
        (" \n\t\u3000", "en", "empty"),
        ("what is  the currency\nof JAPAN?", "en", "echo"),
        ("What is the currency of Japan? The yen.", "en", "ok"),
        ("yen " * 20, "en", "repeats"),
        ("a" * 50, "en", "repeats"),
        ("aaaaaaaa", "en", "ok"),  # too short to tell
        ("日元" * 30, "zh", "repeats"),
        ("The yen.", "en", "ok"),
        ("¥ 100.", "en", "ok"),  # no letters, no script
        ("The yen.", "ru", "script"),
        ("Иена.", "en", "script"),
        ("Иена (yen).", "ru", "ok"),
        ("Japanese yen: иена.", "ru", "script"),
        ("日元。", "zh", "ok"),
        ("日元。", "ko", "script"),
        ("日本の通貨は円です。", "ja", "ok"),
        ("通貨", "ja", "ok"),
        ("สกุลเงินคือเยน", "th", "ok"),
        ("สกุลเงินคือเยน", "vi", "script"),
        ("Đồng Việt Nam.", "vi", "ok"),
        ("원입니다.", "ko", "ok"),
        ("मुद्रा येन है।", "hi", "ok"),
        ("العملة هي الين", "ar", "ok"),
    ],
)
def test_categories(reply, language, expected):
    assert triage(reply, PROMPT, language, cut=False) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("The yen and", "cut"), (PROMPT, "cut"), ("no " * 40, "cut"), (" ", "empty")],
)
def test_a_reply_the_limit_ended_is_cut_unless_it_is_empty(reply, expected):
    assert triage(reply, PROMPT, "en", cut=True) == expected


def test_an_ordinary_long_answer_does_not_repeat():
    text = (
        "The currency of Japan is the yen. It is used in the whole country, and its notes are "
        "printed by the Bank of Japan, as those of other countries are by theirs."
    )
    assert triage(text, PROMPT, "en", cut=False) == "ok"
