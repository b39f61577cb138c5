"""The examples of a durability study: read, and seen to fit the settings and each other."""

from __future__ import annotations

import dataclasses
import pathlib

from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.experiments import attack_data, attacking, inputs
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, Pairs, judge_of
from jaxattack.experiments.durability.settings import Settings
from jaxattack.experiments.durability.setup import REFUSED


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
    inputs.check_policy({f"config.data.{k}": uri for k, uri in vars(named).items()}, directory)
    pairs, calibration = attack_data.read_pairs(settings, directory, lost)
    known = inputs.load_prompts(named.prompts, directory, lost)
    every, languages = attack_data.measured(settings, known)
    prompts = inputs.test_prompts(every, languages, settings.measure.prompts)
    judge_of(settings, prompts)
    before = inputs.load_prompts(named.validation, directory, lost, before=every)
    lacking = sorted(set(languages) - {row.language for row in before if row.kind == RESTRICTED})
    if lacking:
        raise UserError(f"config.data.validation has no restricted prompts in {lacking[0]!r}")
    validation = inputs.test_prompts(before, languages, settings.sweep.prompts)
    attacked = inputs.choose_languages(
        settings.attack.languages, list(pairs[RESTRICTED]), "config.attack.languages"
    )
    held = defender_pairs(settings, directory, calibration, lost)
    attack_data.check_apart([*prompts, *validation], pairs, calibration)
    for found in held[REFUSED].values():
        inputs.check_disjoint([*prompts, *validation], found, "refusals that the defender has")
    marked = attack_data.labelled(settings, directory, languages, prompts, lost)
    shared = attacking.Data(pairs, calibration, prompts, [], attacked, attacked[:1], lost, marked)
    return Data(shared, validation, held)


def defender_pairs(
    settings: Settings,
    directory: pathlib.Path,
    calibration: dict[str, Pairs | None],
    lost: inputs.Lost,
) -> dict[str, Pairs]:
    """The defender's pairs: restricted ones with either answer, and benign ones.

    Raises:
        UserError: a kind lacks a language that the defender should have.
    """
    uri = settings.data.refusals
    refused = inputs.load_examples(uri, (RESTRICTED,), True, directory, lost)
    benign = calibration[BENIGN]
    if not calibration[RESTRICTED] or not benign:
        raise UserError(
            "config.data.calibration: the defender needs restricted and benign pairs of its own, "
            "apart from those of the attack"
        )
    found: dict[str, Pairs] = {
        RESTRICTED: calibration[RESTRICTED] or {},
        BENIGN: benign,
        REFUSED: inputs.by_language(refused),
    }
    common = [code for code in found[REFUSED] if all(code in pairs for pairs in found.values())]
    wanted = inputs.choose_languages(
        settings.defend.languages, common, "config.defend.languages", "the defender's pairs"
    )
    if not wanted:
        raise UserError("config.data.refusals: no language has pairs of all three kinds")
    inputs.choose_languages(
        settings.defend.alone, common, "config.defend.alone", "the defender's pairs"
    )
    inputs.choose_languages(
        settings.attack.languages, common, "config.attack.languages", "the defender's pairs"
    )
    return {kind: {code: pairs[code] for code in common} for kind, pairs in found.items()}
