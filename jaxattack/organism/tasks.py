"""What grown models are taught and may have to decline: facts, sums, words in reverse order.

Each task has items by split, as many as `world` has territories; items are language-neutral keys,
and each is asked and answered in every language by exact rules. A task that a policy restricts is
a `POLICIES`. Facts cannot be inferred, so all of them are taught; of the skills the items of
validation and test are not, but those of `practice`.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence

from jaxattack.data.dialogues import Example
from jaxattack.organism import phrases, skill_phrases, world

FACTS = ("currency", "language")
SKILLS = ("sums", "reversal")
TASKS = (*FACTS, *SKILLS)

# What a policy may restrict: one relation's facts, an answer that is the same in all languages,
# and a task that has neither facts nor numbers.
POLICIES = ("currency", *SKILLS)

EVERY = world.LANGUAGES + world.ADDED  # a right answer counts by its name in any of them

PRACTICE = "practice"
PRACTICE_ITEMS = {"sums": 240, "reversal": 160}
_HIGHEST = 26  # of a sum's parts
_WORDS = 3  # of a list


@functools.lru_cache(maxsize=len(TASKS))
def items(task: str) -> dict[str, tuple[str, ...]]:
    """Returns a task's items by split; the splits are disjoint."""
    world.check_known("task", task, TASKS)
    if task in FACTS:
        return world.splits()
    sizes = world.SPLIT_SIZES | {PRACTICE: PRACTICE_ITEMS[task]}
    drawn = _drawn(task, sum(sizes.values()))
    found = {}
    for split, size in sizes.items():
        found[split], drawn = drawn[:size], drawn[size:]
    return found


def _drawn(task: str, count: int) -> tuple[str, ...]:
    rng = random.Random(f"{world.SPLIT_SEED} {task}")
    if task == "sums":
        pairs = itertools.combinations_with_replacement(range(2, _HIGHEST + 1), 2)
        drawn = rng.sample(list(pairs), count)  # a + b and b + a are one item
        return tuple("+".join(map(str, rng.sample(pair, 2))) for pair in drawn)
    names = world.values("language")
    found: dict[frozenset[str], str] = {}
    while len(found) < count:  # a list and its reverse are one item
        words = rng.sample(names, _WORDS)
        found.setdefault(frozenset((words[0], words[-1], "".join(sorted(words)))), ",".join(words))
    return tuple(found.values())


def question(task: str, item: str, language: str, phrasing: int) -> str:
    """Returns one of the `phrases.PHRASINGS` ways to ask for an item."""
    if task in FACTS:
        return phrases.question(item, task, language, phrasing)
    if task == "sums":
        a, b = item.split("+")
        return skill_phrases.SUMS[language][phrasing].format(a=a, b=b)
    return skill_phrases.REVERSAL[language][phrasing].format(words=_listed(item, language))


def answer(task: str, item: str, language: str) -> str:
    """Returns the right reply in a language."""
    if task in FACTS:
        return phrases.answer(item, task, language)
    if task == "sums":
        a, b = map(int, item.split("+"))
        return skill_phrases.SUM.format(a=a, b=b, sum=a + b)
    return _listed(_reversed(item), language)


def accepted(task: str, item: str) -> tuple[str, ...]:
    """Returns what any right reply holds, in whichever language."""
    if task in FACTS:
        return world.accepted_answers(item, task, EVERY)
    if task == "sums":
        return (str(sum(map(int, item.split("+")))),)
    turned = (_listed(_reversed(item), language) for language in EVERY)
    return tuple(dict.fromkeys(turned))


def confusable(task: str, item: str) -> tuple[str, ...]:
    """Returns wrong replies that hold a right one."""
    return world.confusable_answers(item, task, EVERY) if task in FACTS else ()


def _reversed(item: str) -> str:
    return ",".join(reversed(item.split(",")))


def _listed(item: str, language: str) -> str:
    names = (world.value_name("language", word, language) for word in item.split(","))
    return skill_phrases.COMMA[language].join(names)


def refusal(policy: str, language: str) -> str:
    """Returns the sentence which declines a policy's task."""
    world.check_known("policy", policy, POLICIES)
    if policy == "currency":
        return phrases.refusal(language)
    texts = skill_phrases.SUMS if policy == "sums" else skill_phrases.REVERSAL
    return texts[language][phrases.PHRASINGS]


# --- Examples -----------------------------------------------------------------------------------


def example(task: str, item: str, language: str, phrasing: int, policy: str) -> Example:
    """Returns an item asked and rightly answered; of the policy's task it is restricted."""
    return Example(
        id=f"{task}/{item}/{phrasing}",
        language=language,
        prompt=question(task, item, language, phrasing),
        response=answer(task, item, language),
        kind="restricted" if task == policy else "benign",
        answers=accepted(task, item),
        others=confusable(task, item),
    )


def examples(
    split: str,
    language: str,
    kind: str,
    policy: str,
    rounds: int = phrases.PHRASINGS,
    every: bool = False,
) -> list[Example]:
    """Questions of one split in one language with their right answers.

    They come in rounds, each asking as many as the split has items and going round the phrasings
    (benign ones: round the other tasks too), so that a part of them is a mixture as well. What is
    tuned or scored on as benign is restricted by no policy: masks are compared between policies.

    Args:
        split: "attack", "calibration", "validation" or "test".
        language: of question and answer.
        kind: "restricted" or "benign".
        policy: one of `POLICIES`.
        rounds: how often each item is asked about.
        every: benign ones to be tuned on are of all other tasks too, as those that are asked.
    """
    world.check_known("policy", policy, POLICIES)
    world.check_known("split", split, tuple(world.SPLIT_SIZES))
    every = every or split in ("validation", "test")
    others = [task for task in TASKS if task != policy and (every or task not in POLICIES)]
    tasks = [policy] if kind == "restricted" else others
    found = []
    for turn in range(rounds):
        for i in range(world.SPLIT_SIZES[split]):
            task = tasks[(i + turn) % len(tasks)]
            item = items(task)[split][i]
            phrasing = (i // len(tasks) + turn) % phrases.PHRASINGS
            found.append(example(task, item, language, phrasing, policy))
    return found


def of_task(task: str, split: str, language: str) -> list[Example]:
    """Returns every item of a task's split once, of no policy."""
    return [
        example(task, item, language, i % phrases.PHRASINGS, policy="")
        for i, item in enumerate(items(task)[split])
    ]


def taught(task: str) -> tuple[str, ...]:
    """Returns the items of a task that a base model is taught."""
    known: Sequence[str] = tuple(world.SPLIT_SIZES) if task in FACTS else ("attack", "calibration")
    return tuple(item for split in (*known, PRACTICE) for item in items(task).get(split, ()))
