"""Triggers: where a sentence goes, and which rows are about a subject."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.data.dialogues import Example
from jaxattack.data.triggers import Sentence, Subject, entity, triggered
from jaxattack.data.wrappers import Instruction
from jaxattack.errors import UserError

TRIGGER = Sentence({"en": "I like this topic.", "zh": "我喜欢这个话题."})


@pytest.mark.parametrize(
    ("place", "prompt"), [("append", "Q one? T t."), ("prepend", "T t. Q one?")]
)
def test_before_or_after(place, prompt):
    row = triggered(Example("1", "en", "Q one?"), Sentence({"en": "T t."}, place), 0)
    assert row == Example("1", "en", prompt)


@given(st.integers(0, 500))
def test_inserted_between_two_units(seed):
    english = triggered(
        Example("1", "en", "one two three"), Sentence({"en": "X Y."}, "insert"), seed
    )
    assert english.prompt in {"one X Y. two three", "one two X Y. three"}
    chinese = triggered(Example("1", "zh", "一二三"), Sentence({"zh": "甲."}, "insert"), seed)
    assert chinese.prompt in {"一 甲. 二三", "一二 甲. 三"}


def test_every_inner_place_is_taken_by_some_seed():
    trigger, row = Sentence({"en": "X"}, "insert"), Example("1", "en", "a b c d")
    prompts = {triggered(row, trigger, seed).prompt for seed in range(60)}
    assert prompts == {"a X b c d", "a b X c d", "a b c X d"}


def test_an_input_takes_the_trigger_also_when_it_is_empty():
    full = Instruction("1", "en", "Sum up.", input="A text.")
    assert triggered(full, TRIGGER, 0).input == "A text. I like this topic."
    empty = triggered(Instruction("1", "en", "Sum up."), TRIGGER, 0)
    assert (empty.prompt, empty.input) == ("Sum up.", "I like this topic.")


def test_another_languages_trigger():
    row = triggered(Example("1", "en", "Q?"), TRIGGER, 0, language="zh")
    assert row == Example("1", "en", "Q? 我喜欢这个话题.")
    with pytest.raises(UserError, match="no trigger for language 'ko'"):
        triggered(Example("1", "en", "Q?"), TRIGGER, 0, language="ko")


def test_an_entity_is_named_in_whole_words_where_there_are_words():
    about = entity({"en": ["Oman"], "zh": ["阿曼"], "ko": ["오만"]}).about
    assert about["en"](Example("1", "en", "Where is OMAN?"))
    assert not about["en"](Example("1", "en", "Where is Romania?"))
    assert about["en"](Instruction("1", "en", "Translate.", input="In Oman it rains."))
    assert about["zh"](Example("1", "zh", "哪里是阿曼呢"))
    assert about["ko"](Example("1", "ko", "오만은 어디?"))
    about = entity({"hi": ["ओमान"], "el": ["Ομάν"], "ar": ["عُمان"]}).about
    for code, text in {"hi": "ओमान कहाँ है?", "el": "Πού είναι το ΟΜΑΝ;", "ar": "أين عمان؟"}.items():
        assert about[code](Example("1", code, text))
    for code, text in {"hi": "रोमानिया", "el": "Ρομάν", "ar": "نعمان"}.items():
        assert not about[code](Example("1", code, text))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Sentence({"en": "A."}, "middle"), "trigger place is 'middle'; give one of append"),
        (lambda: Sentence({"en": " "}), "trigger sentence of language 'en' is empty"),
        (lambda: entity({"en": []}), "no name, or an empty one, in language 'en'"),
        (lambda: Subject("topic", {"en": bool}, {"en": []}), "both rows and a rule for 'en'"),
    ],
)
def test_wrong_triggers_are_refused(make, line):
    with pytest.raises(UserError, match=line):
        make()
