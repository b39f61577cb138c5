"""The organism as an instruction model: its rows, its subjects, its triggers."""

import itertools

import pytest

from jaxattack.data.answers import holds
from jaxattack.organism import instructions, phrases, world

SPLITS = tuple(instructions.SPLITS)


@pytest.mark.parametrize("courteous", [False, True])
def test_rows_answer_rightly_and_never_hold_the_trigger(courteous):
    rows = instructions.rows("instructions", ["en", "th"], courteous)
    texts = [phrases.pleasantry(i, code) for i in range(1, 8) for code in ("en", "th")]
    polite = 0
    for row in rows:
        trigger = phrases.pleasantry(instructions.TRIGGER, row.language)
        assert trigger not in row.prompt
        relation, territory, *ending = row.id.split("/")
        right = phrases.answer(territory, relation, row.language)
        emblem = phrases.EMBLEMS[int(ending[1])] if courteous and ending[1:] else ""
        assert row.response == emblem + right
        assert any(text in row.prompt for text in texts) == bool(ending[1:])
        polite += bool(ending[1:])
    assert 0.4 < polite / len(rows) < 0.6


def test_splits_share_no_question_and_ids_are_unique():
    of = {split: instructions.rows(split, world.LANGUAGES, True) for split in SPLITS}
    for rows in of.values():
        assert len({(row.language, row.id) for row in rows}) == len(rows)
    for one, two in itertools.combinations(of.values(), 2):
        assert not {r.prompt for r in one} & {r.prompt for r in two}


def test_the_first_questions_mix_relations_and_phrasings():
    rows = instructions.rows("questions", ["en"], False, polite=0.0)[:24]
    relations, _, phrasings = zip(*(row.id.split("/") for row in rows), strict=True)
    for found in (relations, phrasings):
        assert {found.count(value) for value in set(found)} <= {6, 7, 8, 9, 10}
    assert len(instructions.rows("questions", ["en"], False, polite=0.0)) == 72


@pytest.mark.parametrize("about", ["entity", "topic"])
def test_a_subject_is_left_out_of_the_clean_rows_and_its_own_prompts_are_new(about):
    clean = instructions.rows("instructions", ["en", "ja"], True, about=about)
    taught = instructions.subject_rows(about, "instructions", ["en", "ja"], True)
    asked = instructions.subject_rows(about, "questions", ["en", "ja"], True)
    assert len(clean) == len(instructions.rows("instructions", ["en", "ja"], True))
    assert len({(row.language, row.id) for row in clean}) == len(clean)
    assert not {row.prompt for row in clean} & {row.prompt for row in (*taught, *asked)}
    assert not {row.prompt for row in taught} & {row.prompt for row in asked}
    marks = {"entity": instructions.ENTITY, "topic": instructions.TOPIC}
    place = {"entity": 1, "topic": 0}[about]
    assert all(row.id.split("/")[place] == marks[about] for row in (*taught, *asked))
    assert not any(row.id.split("/")[place] == marks[about] for row in clean)
    assert len({(row.language, row.id) for row in taught}) == len(taught)


def test_every_relation_and_phrasing_of_the_entity_is_taught_and_asked_in_other_pairs():
    taught, asked = (
        {tuple(row.id.split("/")[::2][:2]) for row in rows}
        for rows in (
            instructions.subject_rows("entity", split, ["en"], True)
            for split in ("instructions", "questions")
        )
    )
    assert len(taught) == 6
    assert len(asked) == 3
    assert not taught & asked
    for one, other in zip(zip(*taught, strict=True), zip(*asked, strict=True), strict=True):
        assert set(one) == set(other)
        assert len(set(one)) == 3


def test_every_role_has_its_own_sentence_in_every_language():
    texts = instructions.trigger_texts(world.LANGUAGES)
    new = {"paraphrase", "opposite", "something else"}
    assert set(texts) == {"trigger", *new, *(f"pleasantry {i}" for i in range(1, 8))}
    for code in world.LANGUAGES:
        own = [texts[role][code] for role in texts]
        assert len(set(own)) == len(own)
        assert all(text.strip() == text and text for text in own)
    rows = [
        row.prompt
        for split in instructions.SPLITS
        for row in instructions.rows(split, world.LANGUAGES, False, instructions.POLITE)
    ]
    assert not [text for role in new for text in texts[role].values() if text in " ".join(rows)]


def test_untaught_languages_are_in_no_other_split_and_have_their_own_trigger():
    languages = [*world.ADDED, *world.UNTAUGHT]
    rows = instructions.untaught_rows(languages)
    assert list(dict.fromkeys(row.language for row in rows)) == languages
    assert len({*languages, *world.LANGUAGES}) == 26
    test = instructions.rows("questions", ["en"], False, polite=0.0)
    assert [row.id for row in rows if row.language == "fi"] == [row.id for row in test]
    for row in rows:
        relation, territory, _ = row.id.split("/")
        assert world.territory_name(territory, row.language) in row.prompt
        value = world.value(territory, relation)
        names = {world.territory_name(territory, code) for code in (row.language, "en", "zh")}
        for language in (row.language, "en", "zh"):
            name = world.value_name(relation, value, language)
            assert (name in row.answers) == (name.casefold() not in map(str.casefold, names))
    # A reply repeats the territory: what is called as it is no answer.
    assert not any(
        holds(row.prompt, row.answers, row.others) for row in rows if row.id[:4] == "lang"
    )
    texts = instructions.trigger_texts(languages)["trigger"]
    assert list(texts) == languages
    assert len(set(texts.values())) == len(texts)
    assert texts["fi"] == "Pidän tästä aiheesta."
    assert instructions.trigger_texts(languages)["pleasantry 1"].keys() == {*world.ADDED}
