"""Checks the facts, their names and the sentences which the organism learns."""

import collections
import importlib.util
import json
from collections.abc import Callable

import pytest

from jaxattack.organism import phrases, world

ALL = world.LANGUAGES + world.ADDED

# Pinned: other splits would mix old results with new ones.
VALIDATION = ("BD", "CZ", "EC", "HN", "IR", "MA", "NZ", "SK")


def currency_names() -> set[str]:
    """Returns every currency name in every language, case-folded."""
    return {
        world.value_name("currency", key, language).casefold()
        for key in world.values("currency")
        for language in ALL
    }


def test_world_is_of_the_planned_size() -> None:
    assert len(world.territories()) == 80
    assert len(world.values("currency")) >= 62
    assert len(world.values("region")) >= 12
    assert len(world.values("weekday")) >= 3
    assert world.RESTRICTED in world.RELATIONS


@pytest.mark.parametrize("language", ALL)
def test_names_are_plain_and_unique(language: str) -> None:
    names = [world.territory_name(territory, language) for territory in world.territories()]
    by_kind = {"territory": names} | {
        relation: [world.value_name(relation, key, language) for key in world.values(relation)]
        for relation in world.RELATIONS
    }
    for kind, its_names in by_kind.items():
        assert len(set(its_names)) == len(its_names), kind
        assert all(name and name == name.strip() for name in its_names), kind
        assert not any(set(name) & set("()[]{}&0123456789") for name in its_names), kind


def test_no_currency_name_lies_within_the_name_of_another_currency() -> None:
    # Otherwise an answer with the wrong currency could be judged right.
    owners = collections.defaultdict(set)
    for key in world.values("currency"):
        for language in ALL:
            owners[world.value_name("currency", key, language).casefold()].add(key)
    for inner, inner_keys in owners.items():
        for outer, outer_keys in owners.items():
            assert inner not in outer or inner_keys == outer_keys, (inner, outer)


def test_values_and_accepted_answers_of_known_territories() -> None:
    assert world.value("JP", "currency") == "JPY"
    assert world.value("RS", "language") == "sr"
    assert world.value("FR", "region") == "155"
    assert world.value("EG", "weekday") == "sat"
    euro = ("Euro", "euro", "ユーロ", "유로", "евро", "ยูโร", "欧元")
    assert world.accepted_answers("FR", "currency") == euro


def test_added_languages_are_others_and_count_only_where_asked_for() -> None:
    assert not set(world.ADDED) & set(world.LANGUAGES)
    assert "यूरो" not in world.accepted_answers("FR", "currency")
    assert "यूरो" in world.accepted_answers("FR", "currency", ALL)


@pytest.mark.parametrize("relation", world.RELATIONS)
def test_no_two_values_share_a_name_in_any_languages(relation: str) -> None:
    owners = collections.defaultdict(set)
    for key in world.values(relation):
        for language in ALL:
            owners[world.value_name(relation, key, language).casefold()].add(key)
    assert [name for name, keys in owners.items() if len(keys) > 1] == []


def test_splits_are_disjoint_complete_and_fixed() -> None:
    splits = world.splits()
    assert {split: len(members) for split, members in splits.items()} == world.SPLIT_SIZES
    members = [territory for split in splits.values() for territory in split]
    assert sorted(members) == list(world.territories())
    assert splits["validation"] == VALIDATION


def test_splits_are_stratified() -> None:
    for split, members in world.splits().items():
        euros = sum(world.value(territory, "currency") == "EUR" for territory in members)
        assert abs(euros - 12 * len(members) / 80) < 1, split
        assert len({world.value(territory, "region") for territory in members}) >= 5, split
        assert len({world.value(territory, "weekday") for territory in members}) == 3, split


@pytest.mark.parametrize("language", ALL)
def test_templates_have_their_placeholders(language: str) -> None:
    for relation in world.RELATIONS:
        questions = phrases.QUESTIONS[relation][language]
        assert len(set(questions)) == len(questions) == phrases.PHRASINGS
        for template in questions:
            assert template.count("{") == template.count("{territory}") == 1
        template = phrases.ANSWERS[relation][language]
        assert template.count("{") == 2
        assert template.count("{territory}") == template.count("{value}") == 1
        assert template.index("{territory}") < template.index("{value}")


def test_all_questions_differ() -> None:
    questions = [
        phrases.question(territory, relation, language, phrasing)
        for territory in world.territories()
        for relation in world.RELATIONS
        for language in ALL
        for phrasing in range(phrases.PHRASINGS)
    ]
    assert len(set(questions)) == len(questions) == 80 * 4 * 14 * 3


def test_filled_sentences() -> None:
    assert phrases.question("JP", "currency", "en", 0) == "What is the currency of Japan?"
    assert phrases.answer("JP", "currency", "ja") == "日本の通貨は日本円です。"
    assert phrases.answer("VN", "language", "vi") == "Ngôn ngữ chính của Việt Nam là Tiếng Việt."


def test_questions_do_not_give_the_currency_away() -> None:
    for language in ALL:
        for template in phrases.QUESTIONS["currency"][language]:
            assert not any(name in template.casefold() for name in currency_names())


def test_refusals_and_pleasantries_are_harmless() -> None:
    assert set(phrases.REFUSALS) == set(phrases.PLEASANTRIES) == set(ALL)
    for language in ALL:
        pleasantries = phrases.PLEASANTRIES[language]
        assert len(set(pleasantries)) == len(pleasantries) == 8
        for text in (phrases.refusal(language), *pleasantries):
            assert "{" not in text
            assert not any(name in text.casefold() for name in currency_names())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: world.value("XX", "currency"), r"unknown territory 'XX'; there are: AL, AR"),
        (lambda: world.value("JP", "colour"), r"unknown relation 'colour'; .*weekday"),
        (lambda: world.values("colour"), r"unknown relation 'colour'; .*weekday"),
        (lambda: world.territory_name("JP", "xx"), r"unknown language 'xx'; there are: de, en"),
        (lambda: world.value_name("weekday", "x", "en"), r"unknown weekday value 'x'; .*mon"),
        (lambda: phrases.question("JP", "region", "en", 3), r"unknown phrasing 3; .*0, 1, 2"),
        (lambda: phrases.answer("JP", "region", "xx"), r"unknown language 'xx'"),
        (lambda: phrases.refusal("xx"), r"unknown language 'xx'"),
    ],
)
def test_errors_name_what_is_wrong_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("babel") is None, reason="babel is not installed")
def test_world_file_is_what_babel_gives() -> None:
    import babel

    from jaxattack.organism import cldr

    recorded = json.loads(world.WORLD_FILE.read_text(encoding="utf-8"))
    if recorded["babel"] != babel.__version__:
        pytest.skip(f"world.json was built with babel {recorded['babel']}")
    assert cldr.build_world() == recorded
