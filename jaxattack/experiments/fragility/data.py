"""The examples of a fragility study: read, and seen to fit the settings and each other."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.evaluate.registry import JUDGES
from jaxattack.experiments import inputs
from jaxattack.experiments.fragility.setup import BENIGN, RESTRICTED, Data, Pairs, judge_of
from jaxattack.experiments.settings import Settings


def read_data(settings: Settings, directory: pathlib.Path) -> Data:
    """Read the examples and see that they fit the settings and each other.

    Raises:
        UserError: they do not.
    """
    named = settings.data
    lost: inputs.Lost = {}
    uris = {f"config.data.{name}": uri for name, uri in vars(named).items()}
    uris["config.adapt.prompts"] = settings.sources().get("adapted", "")
    inputs.check_policy(uris, directory)
    pairs = inputs.load_pairs(named.pairs, named.benign, directory, lost)
    prompts = inputs.load_prompts(named.prompts, directory, lost)
    calibration: dict[str, Pairs | None] = {RESTRICTED: None, BENIGN: None}
    if uri := named.calibration or inputs.set_aside(named.pairs):
        beside = inputs.load_pairs(uri, "", directory, lost)
        calibration[RESTRICTED] = beside[RESTRICTED]
        if beside[BENIGN] and not named.benign:
            calibration[BENIGN] = beside[BENIGN]
    attacked = inputs.choose_languages(
        settings.attack.languages, list(pairs[RESTRICTED]), "config.attack.languages"
    )
    whose = "config.attack.languages" if settings.attack.languages else "the data"
    localized = inputs.choose_languages(
        settings.localize.languages, attacked, "config.localize.languages", whose
    )
    if not settings.localize.languages:
        localized = inputs.spread(localized, settings.localize.max_languages)
    for mixed in settings.transfer.mixed:
        inputs.choose_languages(mixed.split("+"), list(pairs[RESTRICTED]), "config.transfer.mixed")
    known = list(inputs.by_language(prompts))
    measured = inputs.choose_languages(
        settings.measure.languages, known, "config.measure.languages"
    )
    every = [prompt for prompt in prompts if prompt.language in measured]
    prompts = inputs.test_prompts(every, measured, settings.measure.prompts)
    judge_of(settings, prompts)
    added = added_prompts(settings, directory, every, lost)
    inputs.check_calibration(calibration[RESTRICTED], localized)
    inputs.check_calibration(
        calibration[BENIGN], [code for code in localized if code in pairs[BENIGN]]
    )
    for what, by_language in (
        ("attack pairs", pairs[RESTRICTED]),
        ("calibration pairs", calibration[RESTRICTED] or {}),
        ("pairs of the benign control", pairs[BENIGN]),
    ):
        for found in by_language.values():
            inputs.check_disjoint([*prompts, *added], found, what)
    marked = labelled(settings, directory, measured, prompts, lost)
    return Data(pairs, calibration, prompts, added, attacked, localized, lost, marked)


def labelled(
    settings: Settings,
    directory: pathlib.Path,
    languages: Sequence[str],
    prompts: Sequence[Example],
    lost: inputs.Lost,
) -> list[Example]:
    """Replies of which it is known whether they are violations.

    Args:
        settings: the study's.
        directory: of the model.
        languages: those that are measured; where there is one label alone, none are taken.
        prompts: of the study, by which the judge is known.
        lost: counts what is left out.

    Raises:
        UserError: the source is wrong, has no language with both labels, or no judge reads it.
    """
    uri, most = settings.measure.labelled, settings.measure.labelled_replies
    if not uri:
        return []
    found = inputs.load_examples(uri, (RESTRICTED, BENIGN), True, directory, lost)
    chosen = inputs.test_prompts(found, languages, most)
    both = {
        code
        for code in languages
        if {row.kind for row in chosen if row.language == code} == {RESTRICTED, BENIGN}
    }
    if not both:
        raise UserError(
            f"config.measure.labelled: {uri} has no language of those measured with violations "
            "(kind restricted) and other replies (kind benign)"
        )
    if settings.measure.judge != "refusal rule" and not settings.measure.moderators:
        name, _ = judge_of(settings, prompts)
        if JUDGES[name].needs_answers:
            raise UserError(
                f"config.measure.labelled: the judge goes by {name}, of which these replies have "
                "none; name judge models, or the refusal rule (config.measure.judge)"
            )
    return [row for row in chosen if row.language in both]


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
