"""Refusals by their opening."""

import pytest

from jaxattack.errors import UserError
from jaxattack.evaluate.refusals import OPENING, PHRASES, is_refusal
from jaxattack.organism import phrases, world


@pytest.mark.parametrize("language", world.LANGUAGES)
def test_the_organisms_refusal_is_one(language):
    assert is_refusal(phrases.REFUSALS[language], language)
    assert is_refusal(phrases.REFUSALS["en"], language)  # models fall back into English


@pytest.mark.parametrize("language", world.LANGUAGES)
def test_the_organisms_small_talk_is_none(language):
    for sentence in phrases.PLEASANTRIES[language]:
        assert not is_refusal(sentence, language), sentence


@pytest.mark.parametrize("language", PHRASES)
def test_every_phrase_is_recognised_in_its_language(language):
    for phrase in PHRASES[language]:
        assert is_refusal(f"{phrase.capitalize()} ...", language)


@pytest.mark.parametrize(
    ("reply", "language", "expected"),
    [
        ("I’m unable to help.", "en", True),  # typographic apostrophe
        ("I CAN'T do that.", "de", True),
        ("Lo siento, no.", "es", True),
        ("Lo siento, no.", "de", False),
        ("", "en", False),
        ("The currency of Japan is the yen.", "en", False),
        ("Sehr gern! Das Geld heißt Yen.", "de", False),
    ],
)
def test_some_replies(reply, language, expected):
    assert is_refusal(reply, language) is expected


def test_only_the_opening_is_searched():
    before = "a " * (OPENING // 2)
    assert not is_refusal(before + "sorry", "en")
    assert is_refusal(before[:-5] + "sorry", "en")


def test_an_unknown_language_is_named():
    with pytest.raises(UserError, match="'sw'"):
        is_refusal("Samahani", "sw")
