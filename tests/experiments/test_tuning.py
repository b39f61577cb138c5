"""Which pairs a tuning takes, and what is said where those that are compared saw fewer."""

from __future__ import annotations

import jax
import pytest

from jaxattack.data.dialogues import Example
from jaxattack.experiments.cautions import raised
from jaxattack.experiments.fragility.cautions import unequal
from jaxattack.experiments.fragility.settings import Settings
from jaxattack.experiments.fragility.setup import ITSELF
from jaxattack.experiments.tuning import Course, chosen, key_of, training_of

DRAWN = 774778726  # of three invented pairs and seed 0
ENOUGH = {"pairs_are": "restricted", "attacked": "en", "pairs": 100, "scored": 42, "origin": "own"}


def rows(language: str, count: int) -> list[Example]:
    return [Example(str(i), language, f"{language} {i}?") for i in range(count)]


def test_of_several_languages_each_gives_an_equal_part_of_other_prompts():
    known = {code: rows(code, 120) for code in ("en", "th", "zh")}
    found = chosen(known, ("en", "th", "zh"), 0, 100)
    ids = {code: {row.id for row in found if row.language == code} for code in known}
    assert [len(own) for own in ids.values()] == [34, 33, 33]
    assert len(set().union(*ids.values())) == 100
    assert {row.id for row in chosen(known, ("en",), 0, 100)} == set().union(*ids.values())


@pytest.mark.parametrize("count", [34, 60])
def test_a_mixture_is_no_larger_than_the_attacks_that_it_mixes(count):
    known = {code: rows(code, count) for code in ("en", "th", "zh")}
    for languages in (("en",), ("en", "th"), ("en", "th", "zh")):
        found = chosen(known, languages, 0, 100)
        assert len({row.id for row in found}) == len(found) == count


@pytest.mark.parametrize("few", [5, 30])
def test_a_language_with_fewer_gives_all_that_it_has(few):
    known = {"en": rows("en", 300), "th": rows("th", few)}
    found = chosen(known, ("en", "th"), 0, 100)
    assert sum(row.language == "th" for row in found) == few
    assert sum(row.language == "en" for row in found) == 50
    assert len(set(found)) == len(found)


def drawn_by(language: str, seed: int) -> int:
    training = training_of(Settings().attack, "max_length")
    course = Course(tuple(rows(language, 3)), training, seed, (language,))
    return int(jax.random.randint(key_of(course), (), 0, 1 << 30))


def test_what_is_random_in_a_training_goes_by_its_pairs_and_seed_alone():
    assert drawn_by("en", 0) == DRAWN  # with whatever version of the package
    assert len({drawn_by("en", 0), drawn_by("en", 1), drawn_by("th", 0)}) == 3


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"pairs_are": "benign", "pairs": 7}, "benign pairs of en, to those of the attack"),
        ({"attacked": "en+th", "pairs": 80}, "mixed pairs of en+th, to those of the attack"),
        (
            {"attacked": "th", "scored": 5},
            "restricted pairs SIL is scored on for th, to those for en",
        ),
        (
            {"attacked": "th", "origin": ITSELF},
            "masks of restricted pairs scored on those they were tuned on",
        ),
    ],
)
def test_what_saw_fewer_pairs_is_told(row, says):
    benign = [ENOUGH | {"pairs_are": "benign", "attacked": code} for code in ("en", "th")]
    beside = benign if row.get("pairs_are") != "benign" and "+" not in row["attacked"] else []
    [caution] = raised([unequal([ENOUGH, ENOUGH | row, *beside])], {})
    assert [evidence["what"] for evidence in caution["evidence"]] == [says]


def test_what_saw_as_many_is_not():
    alike = [ENOUGH | {"attacked": "th"}, ENOUGH | {"pairs_are": "benign"}]
    assert not raised([unequal([ENOUGH, *alike]), unequal([])], {})
