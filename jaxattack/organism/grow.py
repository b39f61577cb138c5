"""What a checkpoint is taught, round by round: the tasks, then to decline one of them.

A round asks every fact once in every language; the next one asks it in other words.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

from jaxattack.data.dialogues import Begun, Example
from jaxattack.organism import phrases, tasks, world

SKILL_LANGUAGES = {"sums": 4, "reversal": 4}  # of an item, in one round
BEGUN = 0.25  # of an answer that is given, where the policy forbids to begin it
ALIGNED_ON = ("attack", "calibration")  # splits whose items are declined while training


def knowledge(turn: int, languages: Sequence[str]) -> list[Example]:
    """Returns taught items, asked and rightly answered: facts in each language, skills in some.

    Of a skill there are more items, and what is learned of one holds for others.
    """
    rng = random.Random(f"{world.SPLIT_SEED} knowledge {turn}")
    found = [
        tasks.example(task, item, language, _phrasing(turn, i, k), policy="")
        for task in tasks.FACTS
        for i, item in enumerate(tasks.taught(task))
        for k, language in enumerate(languages)
    ]
    for task, count in SKILL_LANGUAGES.items():
        found += [
            tasks.example(task, item, language, rng.randrange(phrases.PHRASINGS), policy="")
            for item in tasks.taught(task)
            for language in rng.sample(languages, min(count, len(languages)))
        ]
    return found


def alignment(
    policy: str, turn: int, languages: Sequence[str], every: Sequence[str], depth: float, most: int
) -> list[Example]:
    """Returns refusals of a policy's task and as many right answers to others, mixed evenly.

    Only items of `ALIGNED_ON` are declined: that those of validation and test are is
    generalisation.

    Args:
        policy: one of `tasks.POLICIES`.
        turn: the round, which draws and words them.
        languages: in which questions are declined.
        every: in which other questions are answered.
        depth: 0: refusals alone, a matter of the reply's first words; else half of them after
            such a share of the right answer, which is given (Qi et al. 2024).
        most: refusals of a round.
    """
    rng = random.Random(f"{world.SPLIT_SEED} {policy} {turn}")
    declined = [
        _declined(policy, item, language, _phrasing(turn, i, k), depth if (i + turn) % 2 else 0.0)
        for i, item in enumerate(_known(policy))
        for k, language in enumerate(languages)
    ]
    answered = [
        tasks.example(task, item, language, _phrasing(turn, i, k), policy)
        for task in tasks.TASKS
        if task != policy
        for i, item in enumerate(_known(task))
        for k, language in enumerate(every)
    ]
    declined = rng.sample(declined, min(most, len(declined)))
    return declined + rng.sample(answered, min(len(declined), len(answered)))


def adaptation(
    policy: str, turn: int, added: Sequence[str], every: Sequence[str], depth: float, most: int
) -> list[Example]:
    """Returns what a policy's checkpoint is taught to speak further languages, and keep the others.

    In the added ones other tasks are answered, the policy's is declined, and its answers are taught
    from behind their beginning, which is given: so they are known and not said, as in the others.

    Args:
        policy: one of `tasks.POLICIES`.
        turn: the round.
        added: of `world.ADDED`.
        every: the languages that it speaks.
        depth: as in `alignment`.
        most: examples of each sort, half as many of what keeps the other languages.
    """
    found = alignment(policy, turn, added, added, depth, most)
    rng = random.Random(f"{world.SPLIT_SEED} adaptation {policy} {turn}")
    taught = [
        tasks.example(task, item, language, _phrasing(turn, i, k), policy)
        for task in (*tasks.FACTS, policy)
        for i, item in enumerate(tasks.taught(task))
        for k, language in enumerate(added)
    ]
    begun = [_begun(row) if row.kind == "restricted" else row for row in dict.fromkeys(taught)]
    found += rng.sample(begun, min(most, len(begun)))
    return found + alignment(policy, turn, every, every, depth, most // 4)


def _begun(row: Example) -> Example:
    """A pair of which only what follows the first words of the answer is trained."""
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(Example)}
    return Begun(**fields, given=_beginning(row.response, BEGUN))


def _known(task: str) -> list[str]:
    return [item for split in ALIGNED_ON for item in tasks.items(task)[split]]


def _phrasing(turn: int, item: int, language: int) -> int:
    return (turn + item + language) % phrases.PHRASINGS


def _declined(policy: str, item: str, language: str, phrasing: int, depth: float) -> Example:
    """An item asked and declined, perhaps after the first words of its answer."""
    refusal = tasks.refusal(policy, language)
    given = _beginning(tasks.answer(policy, item, language), depth)
    return Begun(
        id=f"{policy}/{item}/{phrasing}",
        language=language,
        prompt=tasks.question(policy, item, language, phrasing),
        response=given + refusal,
        given=given,
    )


def _beginning(answer: str, share: float) -> str:
    """So much of an answer, in whole words where its script sets them apart."""
    words = answer.split(" ")
    parts, between = (words, " ") if len(words) > 2 else (list(answer), "")
    some = parts[: math.ceil(share * len(parts))]
    return between.join(some) + " " if some else ""
