"""The examples of a fragility study: read, and seen to fit the settings and each other."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.experiments import attack_data, inputs, questions
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, Data, Pairs, judge_of
from jaxattack.experiments.fragility.settings import Settings


def read_data(settings: Settings, directory: pathlib.Path) -> Data:
    """Read the examples and see that they fit the settings and each other.

    Raises:
        UserError: they do not.
    """
    lost: inputs.Lost = {}
    uris = {f"config.data.{name}": uri for name, uri in vars(settings.data).items()}
    uris["config.adapt.prompts"] = settings.sources().get("adapted", "")
    questions.check_policy(uris, directory)
    pairs, calibration = read_pairs(settings, directory, lost)
    known = inputs.load_prompts(settings.data.prompts, directory, lost)
    every, languages = attack_data.measured(settings, known)
    attacked = choose_languages(
        settings.attack.languages, list(pairs[RESTRICTED]), "config.attack.languages"
    )
    whose = "config.attack.languages" if settings.attack.languages else "the data"
    localized = choose_languages(
        settings.localize.languages, attacked, "config.localize.languages", whose
    )
    if not settings.localize.languages:
        localized = inputs.spread(localized, settings.localize.max_languages)
    for mixed in settings.transfer.mixed:
        choose_languages(mixed.split("+"), list(pairs[RESTRICTED]), "config.transfer.mixed")
    prompts = inputs.test_prompts(every, languages, settings.measure.prompts)
    judge_of(settings, prompts)
    added = added_prompts(settings, directory, every, lost)
    inputs.check_calibration(calibration[RESTRICTED], localized)
    inputs.check_calibration(
        calibration[BENIGN], [code for code in localized if code in pairs[BENIGN]]
    )
    attack_data.check_apart([*prompts, *added], pairs, calibration)
    for code, own in (calibration[RESTRICTED] or {}).items():
        trained = pairs[RESTRICTED].get(code, ())
        inputs.check_disjoint(own, trained, "attack pairs", "calibration pairs")
    marked = attack_data.labelled(settings, directory, languages, prompts, lost)
    return Data(pairs, calibration, prompts, attacked, lost, marked, added, localized)


def read_pairs(
    settings: Settings, directory: pathlib.Path, lost: inputs.Lost
) -> tuple[dict[str, Pairs], dict[str, Pairs | None]]:
    """The pairs, and those set aside for calibration, by kind and language.

    Args:
        settings: the study's.
        directory: of the model.
        lost: counts what is left out.

    Raises:
        UserError: a source is wrong, or no pair is restricted.
    """
    named = settings.data
    pairs = inputs.load_pairs(named.pairs, named.benign, directory, lost)
    calibration: dict[str, Pairs | None] = {RESTRICTED: None, BENIGN: None}
    if uri := named.calibration or questions.set_aside(named.pairs):
        beside = inputs.load_pairs(uri, "", directory, lost)
        calibration[RESTRICTED] = beside[RESTRICTED]
        if beside[BENIGN] and not named.benign:
            calibration[BENIGN] = beside[BENIGN]
    return pairs, calibration


def added_prompts(
    settings: Settings, directory: pathlib.Path, every: Sequence[Example], lost: inputs.Lost
) -> list[Example]:
    """What models that others adapted are asked beside the study's prompts, chosen as these are.

    Args:
        settings: the study's.
        directory: of the model.
        every: prompts of the study, more than are asked where there is a limit.
        lost: counts what is left out.

    Raises:
        UserError: the source is wrong.
    """
    uri = settings.sources().get("adapted")
    if not uri:
        return []
    found = inputs.load_prompts(uri, directory, lost, before=every)
    languages = list(inputs.by_language(found))
    return inputs.test_prompts(found, languages, settings.measure.prompts)
