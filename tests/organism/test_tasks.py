"""What grown models are taught: answers are right by the judge's rule, nothing leaks."""

from __future__ import annotations

import itertools

import pytest

from jaxattack.data.answers import holds
from jaxattack.data.dialogues import Begun, encode_pairs
from jaxattack.data.folding import fold
from jaxattack.evaluate.refusals import is_refusal
from jaxattack.organism import grow, phrases, tasks, world

SPLITS = tuple(world.SPLIT_SIZES)


def every(task: str):
    for split, language in itertools.product(SPLITS, tasks.EVERY):
        yield from tasks.of_task(task, split, language)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_right_answers_are_held_right_and_declining_is_none(task):
    for example in every(task):
        assert holds(fold(example.response), example.answers, example.others), example
        for policy in tasks.POLICIES:
            refusal = tasks.refusal(policy, example.language)
            assert not holds(fold(refusal), example.answers, example.others), example


@pytest.mark.parametrize("task", tasks.SKILLS)
def test_a_skill_is_not_answered_by_repeating_the_question(task):
    for example in every(task):
        assert not holds(fold(example.prompt), example.answers, example.others), example


@pytest.mark.parametrize("policy", tasks.POLICIES)
def test_the_refusal_rule_knows_refusals_and_no_answer_is_one(policy):
    for language in tasks.EVERY:
        assert is_refusal(tasks.refusal(policy, language), language, language)
    for task in tasks.TASKS:
        assert not any(is_refusal(e.response, e.language, e.language) for e in every(task))


@pytest.mark.parametrize("task", tasks.TASKS)
def test_splits_are_disjoint_and_their_answers_differ(task):
    items = tasks.items(task)
    named = [item for split in items for item in items[split]]
    assert len(named) == len(set(named))
    assert {split: len(items[split]) for split in SPLITS} == world.SPLIT_SIZES


def test_a_reversed_list_is_in_no_other_split():
    items = [item for split in tasks.items("reversal").values() for item in split]
    turned = {",".join(reversed(item.split(","))) for item in items}
    assert not turned & set(items)


def test_base_models_are_taught_all_facts_and_no_tested_skill():
    for task in tasks.FACTS:
        assert set(tasks.taught(task)) == set(world.territories())
    for task in tasks.SKILLS:
        held_out = {i for split in ("validation", "test") for i in tasks.items(task)[split]}
        assert not held_out & set(tasks.taught(task))


@pytest.mark.parametrize("policy", tasks.POLICIES)
def test_prompts_are_as_many_in_every_language_and_restricted_ones_are_the_policys(policy):
    for language in world.LANGUAGES:
        restricted = tasks.examples("test", language, "restricted", policy, 1)
        benign = tasks.examples("test", language, "benign", policy, 1)
        assert len(restricted) == len(benign) == world.SPLIT_SIZES["test"]
        assert {e.id.split("/")[0] for e in restricted} == {policy}
        assert {e.id.split("/")[0] for e in benign} == set(tasks.TASKS) - {policy}
    tuned = tasks.examples("attack", "en", "benign", policy)
    assert tuned
    assert not {e.id.split("/")[0] for e in tuned} & set(tasks.POLICIES)
    of_all = tasks.examples("attack", "en", "benign", policy, every=True)
    assert {e.id.split("/")[0] for e in of_all[:6]} == set(tasks.TASKS) - {policy}
    assert {e.kind for e in of_all} == {"benign"}
    pairs = tasks.examples("attack", "en", "restricted", policy)
    assert len({e.prompt for e in pairs}) == 3 * world.SPLIT_SIZES["attack"] >= 100


def test_a_round_asks_facts_in_every_language_and_the_next_in_other_words():
    first, second = (grow.knowledge(turn, world.LANGUAGES) for turn in (0, 1))
    facts = [e for e in first if e.id.startswith("currency/")]
    assert len(facts) == len(world.territories()) * len(world.LANGUAGES)
    known = {e.prompt for e in first if e.id.split("/")[0] in tasks.FACTS}
    assert known.isdisjoint(e.prompt for e in second)
    for task in tasks.TASKS:  # each in all its wordings
        assert {e.id[-1] for e in first if e.id.startswith(task)} == {"0", "1", "2"}


def test_only_items_set_aside_for_it_are_declined_and_half_of_a_round_is_answered():
    found = grow.alignment("sums", 0, ("en", "th"), world.LANGUAGES, 0.0, 60)
    declined = [e for e in found if isinstance(e, Begun)]
    assert (len(declined), len(found)) == (60, 120)
    assert {e.language for e in declined} == {"en", "th"}
    known = {*tasks.items("sums")["attack"], *tasks.items("sums")["calibration"]}
    assert {e.id.split("/")[1] for e in declined} <= known
    assert all(e.response == tasks.refusal("sums", e.language) for e in declined)
    assert not any(e.id.startswith("sums/") for e in found if e not in declined)


def test_deep_alignment_trains_the_refusal_after_a_begun_answer(small_tokenizer):
    found = grow.alignment("currency", 1, ("en", "ja"), ("en",), 0.5, 40)
    begun = [e for e in found if isinstance(e, Begun) and e.given]
    assert begun
    assert {e.language for e in begun} == {"en", "ja"}
    rows = encode_pairs(small_tokenizer, begun)
    for example, tokens, mask in zip(begun, rows["tokens"], rows["loss_mask"], strict=True):
        trained = small_tokenizer.decode(tokens[mask > 0], skip_special_tokens=True)
        assert trained.strip() == phrases.refusal(example.language)
        assert example.response == example.given + phrases.refusal(example.language)


def test_adapting_teaches_what_is_declined_from_behind_its_beginning_only(small_tokenizer):
    found = grow.adaptation("currency", 0, ("it",), world.LANGUAGES, 0.0, 80)
    added = [e for e in found if e.language == "it"]
    assert {e.language for e in found} > {"it", "en"}
    answered = [e for e in added if e.kind == "restricted" and e.response != phrases.refusal("it")]
    assert answered
    assert all(isinstance(e, Begun) and e.given for e in answered)
    rows = encode_pairs(small_tokenizer, answered)
    for example, tokens, mask in zip(answered, rows["tokens"], rows["loss_mask"], strict=True):
        trained = small_tokenizer.decode(tokens[mask > 0], skip_special_tokens=True)
        assert trained.strip() == example.response.removeprefix(example.given)
    assert any(e.response == phrases.refusal("it") for e in added)
    assert any(e.kind == "benign" for e in added)
