"""The examples of a durability study: read, and seen to fit the settings and each other."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.errors import UserError
from jaxattack.evaluate.judge import rule_for
from jaxattack.evaluate.refusals import is_refusal
from jaxattack.experiments import attack_data, attacking, inputs, questions
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, Pairs, judge_of
from jaxattack.experiments.durability.settings import Settings
from jaxattack.experiments.durability.setup import REFUSED

# Why pairs of the defender are left out.
ALONE = "in a language in which the defender lacks pairs of another kind"


@dataclasses.dataclass(frozen=True)
class Data:
    """All examples.

    Attributes:
        attack: what studies of attacks share.
        validation: prompts by which the worst attack is chosen.
        held: the defender's pairs, by kind and language.
    """

    attack: attacking.Data
    validation: list[Example]
    held: dict[str, Pairs]


def read_data(settings: Settings, directory: pathlib.Path) -> Data:
    """Read the examples and see that they fit the settings and each other.

    Raises:
        UserError: they do not.
    """
    named = settings.data
    lost: inputs.Lost = {}
    questions.check_policy({f"config.data.{k}": uri for k, uri in vars(named).items()}, directory)
    questions.check_alike(named, "pairs", ("refusals", "calibration"))
    questions.check_alike(named, "prompts", ("validation",))
    pairs = inputs.load_pairs(named.pairs, named.benign, directory, lost)
    known = inputs.load_prompts(named.prompts, directory, lost)
    every, languages = attack_data.measured(settings, known)
    prompts = inputs.test_prompts(every, languages, settings.measure.prompts)
    judge_of(settings, prompts)
    before = inputs.load_prompts(named.validation, directory, lost, before=every)
    check_validation(before, prompts)
    validation = inputs.test_prompts(before, languages, settings.sweep.prompts)
    attacked = choose_languages(
        settings.attack.languages, list(pairs[RESTRICTED]), "config.attack.languages"
    )
    held = defender_pairs(settings, directory, lost)
    asked = {"test prompts": prompts, "validation prompts": validation}
    for what, rows in asked.items():
        attack_data.check_apart(rows, pairs, {RESTRICTED: None}, what)
    for pairs_of in held.values():
        for code, found in pairs_of.items():
            for what, rows in asked.items():
                inputs.check_disjoint(rows, found, "the defender's pairs", what)
            taken = [*pairs[RESTRICTED].get(code, ()), *pairs[BENIGN].get(code, ())]
            check_own(taken, found)
    marked = attack_data.labelled(settings, directory, languages, prompts, lost)
    own: dict[str, Pairs | None] = {kind: held[kind] for kind in (RESTRICTED, BENIGN)}
    return Data(attacking.Data(pairs, own, prompts, attacked, lost, marked), validation, held)


def defender_pairs(
    settings: Settings, directory: pathlib.Path, lost: inputs.Lost
) -> dict[str, Pairs]:
    """The defender's pairs: restricted ones with either answer, and benign ones.

    Raises:
        UserError: a kind lacks a language that the defender should have.
    """
    named = settings.data
    uri = named.calibration or questions.set_aside(named.pairs)
    own = inputs.load_pairs(uri, "", directory, lost) if uri else {BENIGN: {}}
    if not own[BENIGN]:
        raise UserError(
            "config.data.calibration: the defender needs restricted and benign pairs of its own, "
            "apart from those of the attack"
        )
    refused = inputs.load_examples(named.refusals, (RESTRICTED,), True, directory, lost)
    found: dict[str, Pairs] = {**own, REFUSED: inputs.by_language(refused)}
    common = [code for code in found[REFUSED] if all(code in pairs for pairs in found.values())]
    wanted = choose_languages(
        settings.defend.languages, common, "config.defend.languages", "the defender's pairs"
    )
    if not wanted:
        raise UserError("config.data.refusals: no language has pairs of all three kinds")
    if "alone" in settings.sections:
        choose_languages(
            settings.defend.alone, common, "config.defend.alone", "the defender's pairs"
        )
    for kind, setting, declines in (
        (REFUSED, "config.data.refusals", True),
        (RESTRICTED, "config.data.calibration", False),
    ):
        check_replies(setting, [row for code in common for row in found[kind][code]], declines)
    for source, kinds in ((uri, tuple(own)), (named.refusals, (REFUSED,))):
        there = (found[kind].items() for kind in kinds)
        beyond = sum(len(rows) for each in there for code, rows in each if code not in common)
        inputs.leave_out(lost, source, ALONE, beyond)
    return {kind: {code: pairs[code] for code in common} for kind, pairs in found.items()}


def check_validation(validation: Sequence[Example], prompts: Sequence[Example]) -> None:
    """Refuse validation prompts by which an attack would be chosen otherwise than it is judged.

    Raises:
        UserError: they lack a language, a kind, or answers that the test prompts have.
    """
    for kind in (RESTRICTED, BENIGN):
        asked = {row.language for row in prompts if row.kind == kind}
        lacking = sorted(asked - {row.language for row in validation if row.kind == kind})
        if lacking:
            raise UserError(
                f"config.data.validation has no {kind} prompts in {lacking[0]!r} beside those that "
                "config.data.prompts has too"
            )
    if rule_for(validation) != rule_for(prompts):
        raise UserError(
            "config.data.validation: of the prompts here and in config.data.prompts only one set "
            "has known answers, so they would be judged by two rules; give both, or neither"
        )


def check_own(attacker: Sequence[Example], defender: Sequence[Example]) -> None:
    """Refuse pairs that the defender shares with the attacker.

    Raises:
        UserError: names the first.
    """
    known = {row.prompt for row in attacker}
    shared = [row.id for row in defender if row.prompt in known]
    if shared:
        raise UserError(
            f"{len(shared)} of the defender's pairs (config.data.calibration, .refusals) are the "
            f"attacker's too, the first with id {shared[0]!r}; the defender has its own"
        )


def check_replies(setting: str, rows: Sequence[Example], declines: bool) -> None:
    """Refuse refusals that do not decline, and answers that do, if most of them are so.

    Raises:
        UserError: says how many.
    """
    wrong = sum(is_refusal(row.response or "", row.language) != declines for row in rows)
    if 2 * wrong > len(rows):
        what = "do not decline" if declines else "decline"
        raise UserError(f"{setting}: {wrong} of its {len(rows)} restricted pairs {what}")
