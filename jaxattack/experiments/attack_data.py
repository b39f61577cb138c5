"""The examples of a study of attacks: read, and seen to fit the settings and each other."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence

from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.errors import UserError
from jaxattack.evaluate.calibration import LEAST
from jaxattack.evaluate.registry import JUDGES
from jaxattack.experiments import inputs
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, Pairs, judge_of
from jaxattack.experiments.settings import Attacks


def measured(
    settings: Attacks, prompts: Sequence[Example]
) -> tuple[list[Example], tuple[str, ...]]:
    """The prompts in the languages measured, and these.

    Raises:
        UserError: there are none in one of these.
    """
    wanted, known = settings.measure.languages, list(inputs.by_language(prompts))
    languages = choose_languages(wanted, known, "config.measure.languages")
    return [prompt for prompt in prompts if prompt.language in languages], languages


def check_apart(
    prompts: Sequence[Example],
    pairs: Mapping[str, Pairs],
    calibration: Mapping[str, Pairs | None],
    asked_as: str = "test prompts",
) -> None:
    """Refuse prompts that are also trained or scored on.

    Raises:
        UserError: names the first.
    """
    for what, by_language in (
        ("attack pairs", pairs[RESTRICTED]),
        ("calibration pairs", calibration[RESTRICTED] or {}),
        ("pairs of the benign control", pairs[BENIGN]),
    ):
        for found in by_language.values():
            inputs.check_disjoint(prompts, found, what, asked_as)


def labelled(
    settings: Attacks,
    directory: pathlib.Path,
    languages: Sequence[str],
    prompts: Sequence[Example],
    lost: inputs.Lost,
) -> list[Example]:
    """Replies of which it is known whether they are violations.

    Args:
        settings: the study's.
        directory: of the model.
        languages: those that are measured; with fewer than `LEAST` of either label none are taken.
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
    counts = Counter((row.language, row.kind) for row in chosen)
    both = {
        code for code in languages if min(counts[code, RESTRICTED], counts[code, BENIGN]) >= LEAST
    }
    if not both:
        raise UserError(
            f"config.measure.labelled: {uri} has no language of those measured with {LEAST} "
            f"violations (kind restricted) and {LEAST} other replies (kind benign); "
            "config.measure.labelled_replies may take so many"
        )
    if settings.measure.judge != "refusal rule" and not settings.measure.moderators:
        name, _ = judge_of(settings, prompts)
        if JUDGES[name].needs_answers:
            raise UserError(
                f"config.measure.labelled: the judge goes by {name}, of which these replies have "
                "none; name judge models, or the refusal rule (config.measure.judge)"
            )
    return [row for row in chosen if row.language in both]
