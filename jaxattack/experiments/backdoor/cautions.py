"""What limits how the figures of a backdoor study may be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxattack.experiments.backdoor.premises import (
    FALSE,
    REFUSED,
    SAME,
    TRAINED_CLEAN,
    Study,
    attacked,
    hits,
    poisoned,
)
from jaxattack.experiments.cautions import (
    Caution,
    one_seed,
    refusal_rule,
    seldom,
    silent_judge,
)
from jaxattack.experiments.claim import Evidence
from jaxattack.experiments.needs import percent
from jaxattack.experiments.outcomes import ASR, CLEAN
from jaxattack.experiments.term import Figure, Seen, best, only, rate
from jaxattack.experiments.thresholds import DAMAGE, LEAKS, STANDING, TRIGGERS
from jaxattack.report.labels import word

Rows = Sequence[Mapping[str, Any]]


def cautions(study: Study, seen: Seen, results: Mapping[str, Any]) -> Iterator[Caution | None]:
    """All that might be raised."""
    yield from triggers(study, seen)
    yield from defences(study, seen)
    yield short(results.get("held") or ())
    yield about_any_training(results.get("overlap") or ())
    yield utility(study, seen)
    yield seldom(
        "reply_language",
        "Reply language",
        seen[SAME],
        SAME,
        "to prompts as they are keep the prompt's language. A broken model looks harmless: mind "
        "this where attack success is low.",
    )
    judge = results.get("judge") or {}
    if judge.get("language_caution"):  # the target is a refusal
        yield refusal_rule(judge, study.languages)
    yield silent_judge(results.get("alone") or ())
    yield one_seed(study.seeds)


def short(held: Rows) -> Caution | None:
    """Defences that were given fewer pairs than their settings say."""
    if not held:
        return None
    return Caution(
        "short",
        "Defences",
        "The defender has fewer pairs than a defence asks for, so it was given what there are.",
        [
            Evidence(
                f"pairs for {word('method', row['method'])} in {row['languages']} languages",
                Figure(row["pairs"], unit="count"),
                above=row["wanted"],
            )
            for row in held
        ],
    )


def triggers(study: Study, seen: Seen) -> Iterator[Caution]:
    """Attacks that did not take, and behaviour that is not the trigger's doing.

    By the mean over languages and by the worst one, for one in twelve is lost in a mean.
    """
    measured = attacked(study, seen[ASR])
    clean = [TRAINED_CLEAN] * seen[ASR].has(TRAINED_CLEAN)
    yield Caution(
        "attack_did_not_take",
        "Attack",
        f"An attack whose trigger works in fewer than {percent(TRIGGERS)} of the prompts in its "
        "own language did not take: what it does elsewhere says nothing.",
        [
            Evidence(
                f"{attack.attacked} poisoned ({attack.trigger}, {attack.target}): attack success "
                "there",
                hits(attack, only(*poisoned(attack))),
                above=TRIGGERS,
            )
            for attack in measured
        ],
    )
    yield Caution(
        "trigger_alone",
        "Control",
        "The target shows in a model that was never poisoned: that much is not the backdoor's "
        "doing.",
        [
            Evidence(
                "target after clean training, with the trigger", hits(TRAINED_CLEAN), below=LEAKS
            ),
            *[
                Evidence(
                    "the same, in the language with most of it",
                    best(hits(cell, only(code)) for code in seen[ASR].only([cell]).common),
                    below=LEAKS,
                )
                for cell in clean
            ],
        ],
    )
    yield Caution(
        "false_triggers",
        "False triggers",
        "The behaviour shows without any trigger: what is measured is no clean trigger.",
        [
            Evidence(
                "target without any trigger, after the attack with most of it",
                best(rate(attack, metric=FALSE) for attack in measured),
                below=LEAKS,
            ),
            Evidence(
                "the same, in the languages poisoned",
                best(rate(attack, only(*poisoned(attack)), FALSE) for attack in measured),
                below=LEAKS,
            ),
        ],
    )


def defences(study: Study, seen: Seen) -> Iterator[Caution]:
    """Whether there is anything to defend against, and what is refused after it."""
    tried = [cell for cell in seen[ASR].cells if cell.kind == "defended"]
    if not tried:
        return
    yield Caution(
        "nothing_to_defend",
        "Defences",
        "The first attack did not take, so nothing is said of the defences against it.",
        [
            Evidence(
                "attack success of the first attack, all languages together",
                hits(study.first),
                above=STANDING,
            )
        ],
    )
    before = rate(study.first, metric=REFUSED)
    yield Caution(
        "over_refusal",
        "Over-refusal",
        "A defence makes the model refuse prompts without a trigger.",
        [
            Evidence(
                f"refusals of prompts as they are, added by {cell.variant}",
                rate(cell, metric=REFUSED) - before,
                below=DAMAGE,
            )
            for cell in tried
        ],
    )


def about_any_training(overlap: Rows) -> Caution | None:
    """Whether the mask is about the backdoor or about any training."""
    clean = [row["jaccard"] for row in overlap if row.get("kind") == "clean"]
    others = [row for row in overlap if row.get("kind") == "poisoned"]
    if not clean or not others:
        return None
    attacks: dict[str, list[float]] = {}
    for row in others:
        attacks.setdefault(row["variant"], []).append(row["jaccard"])
    return Caution(
        "any_training",
        "Overlap",
        "The mask is not about the backdoor alone: clean training shares as much of it as any "
        "other backdoor does.",
        [
            Evidence(
                "overlap of the first backdoor's mask with that of clean training, mean",
                Figure(fmean(clean), min(clean), max(clean), "lowest and highest", "jaccard"),
                below=max(map(fmean, attacks.values())),
            )
        ],
    )


def utility(study: Study, seen: Seen) -> Caution:
    """Whether poisoning cost accuracy."""
    attacks, base = attacked(study, seen[CLEAN]), rate(TRAINED_CLEAN, metric=CLEAN)
    where = [only(*poisoned(attack)) for attack in attacks]
    return Caution(
        "damaged",
        "Utility",
        "Poisoning cost accuracy, so it would be noticed.",
        [
            Evidence(
                "clean accuracy lost, by the attack that costs most",
                best(base - rate(attack, metric=CLEAN) for attack in attacks),
                below=DAMAGE,
            ),
            Evidence(
                "the same, in the languages poisoned",
                best(
                    rate(TRAINED_CLEAN, own, CLEAN) - rate(attack, own, CLEAN)
                    for attack, own in zip(attacks, where, strict=True)
                ),
                below=DAMAGE,
            ),
        ],
    )
