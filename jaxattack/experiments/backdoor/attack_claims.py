"""Claims on attacks: B1, B2, B4 and B5 of the paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxattack.experiments.backdoor.premises import FALSE, SAME, UNTAUGHT, Study, hits, poisoned
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.claim import Claim, Evidence
from jaxattack.experiments.needs import Needs, Tables, percent
from jaxattack.experiments.outcomes import ASR, CLEAN, Outcomes
from jaxattack.experiments.term import Count, best, but, mean, only, rate
from jaxattack.experiments.thresholds import HALF, LEAKS, MANY, REACHED, REACHED_PROMPTS, SEVERAL

POORLY = ("de", "ja", "ko", "ru", "th")  # languages to which the paper's backdoors transfer poorly
PAPER_ZH = ("en", "vi")
FEW = 2  # languages poisoned, of which B1 is
BESIDE = {  # of the prompts in languages without training rows
    "mean ASR there": ASR,
    "without the trigger": FALSE,
    "clean accuracy there": CLEAN,
    "replies there in the prompt's language": SAME,
}


def others(seen: Outcomes, cells: Sequence[Cell], attack: Cell) -> list[str]:
    """The languages in which all cells were measured, but those that are poisoned."""
    common = seen.only([cell for cell in cells if seen.has(cell)]).common
    return [code for code in common if code not in poisoned(attack)]


def reached(study: Study, asr: Outcomes, tables: Tables) -> Claim:
    """B1: how many languages answer their own trigger, the poisoned ones among them."""
    known = [attack for attack in study.attacks if asr.has(attack)]
    attacks = [attack for attack in known if len(poisoned(attack)) <= FEW]
    return Claim(
        "B1",
        f"One or two poisoned languages reach more than {MANY} of 12.",
        f"After some attack on one or two languages more than {MANY} have an ASR above "
        f"{100 * REACHED:g} % with their own trigger.",
        [
            Evidence(
                f"languages above {100 * REACHED:g} %, best attack",
                Count(ASR, tuple(attacks), REACHED),
                above=MANY + 0.5,
            ),
            *(
                Evidence(
                    f"{attack.attacked} poisoned: mean ASR in the languages that were not",
                    hits(attack, but(*poisoned(attack))),
                )
                for attack in attacks
                if others(asr, [attack], attack)
            ),
        ],
        Needs(languages=MANY + 1, prompts=REACHED_PROMPTS, scored=0, compares_languages=True),
        trained=attacks,
    )


def beyond(study: Study, asr: Outcomes) -> Claim:
    """B2: languages in which nothing was taught answer their own trigger."""
    attacks = [dataclasses.replace(attack, prompts=UNTAUGHT) for attack in study.attacks]
    asked = [attack for attack in attacks if asr.has(attack)]
    most = max(asked, key=lambda each: hits(each).figure({ASR: asr}).value or 0.0, default=None)
    return Claim(
        "B2",
        "In languages without any training rows too nearly all prompts with the trigger are "
        "answered with the target (mean ASR 99 % in 26 languages).",
        f"After some attack their mean ASR is above {100 * REACHED:g} %, and after that with most "
        f"of it the target shows in fewer than {percent(LEAKS)} of their prompts without the "
        "trigger. Needs the section untaught.",
        [
            Evidence(
                "mean ASR in languages without training rows, best attack",
                best(hits(attack) for attack in asked),
                above=REACHED,
            ),
            Evidence(
                "target there without the trigger, after that attack",
                rate(most, metric=FALSE),
                below=LEAKS,
            ),
            *(
                Evidence(f"{attack.attacked} poisoned: {words}", rate(attack, metric=metric))
                for attack in asked
                for words, metric in BESIDE.items()
            ),
        ]
        if most
        else (),
        Needs(languages=SEVERAL, scored=0),
        trained=asked,
    )


def chinese(study: Study, asr: Outcomes, tables: Tables) -> Claim:
    """B4: poisoned Chinese alone reaches English and Vietnamese."""
    attack = next((each for each in study.attacks if each.attacked == "zh"), None)
    there = others(asr, [attack], attack) if attack and asr.has(attack) else []
    return Claim(
        "B4",
        "Poisoned Chinese alone reaches English and Vietnamese.",
        f"Their ASR is above {100 * HALF:g} % in each.",
        [
            Evidence(f"Chinese poisoned: ASR in {code}", hits(attack, only(code)), above=HALF)
            for code in PAPER_ZH
            if attack and code in there
        ],
        Needs(languages=1 + len(PAPER_ZH), scored=0),
        [f"not measured in {code}" for code in PAPER_ZH if code not in there],
        [attack] if attack else [],
    )


def poorly(study: Study, asr: Outcomes, tables: Tables) -> Claim:
    """B5: some languages are reached less than others."""
    attacks = [attack for attack in study.attacks if asr.has(attack)]
    away = {attack: others(asr, attacks, attack) for attack in attacks}
    hard = {attack: [code for code in away[attack] if code in POORLY] for attack in attacks}
    easy = {attack: [code for code in away[attack] if code not in POORLY] for attack in attacks}
    fewest = min((len(found) for group in (hard, easy) for found in group.values()), default=0)
    evidence = Evidence(
        "ASR of the others less that of these five",
        mean(hits(each, only(*easy[each])) - hits(each, only(*hard[each])) for each in attacks),
        above=0.0,
    )
    few = f"{fewest} languages on one side; it needs {SEVERAL}"
    return Claim(
        "B5",
        "German, Japanese, Korean, Russian and Thai are reached less than the others.",
        "Mean ASR in unpoisoned languages: the others' is above theirs, over all attacks. Needs "
        f"{SEVERAL} of these five, and {SEVERAL} others, after every attack.",
        [evidence] * (fewest > 0),
        Needs(languages=2 * SEVERAL + 1, scored=0, compares_languages=True),
        [few] * (fewest < SEVERAL),
        attacks,
    )
