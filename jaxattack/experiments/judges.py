"""What results.json says of who judged a study of attacks, and what is to be minded of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxattack.evaluate import rule_error
from jaxattack.evaluate.calibration import LEAST
from jaxattack.evaluate.registry import JUDGES
from jaxattack.experiments import agreement, panel, served
from jaxattack.experiments.attacking import Setup, judge_of
from jaxattack.experiments.bench import Decoder
from jaxattack.experiments.panel import Judge
from jaxattack.experiments.served import Server

WHO = {"all": "all of", "any": "any of", "majority": "most of"}  # by `config.measure.combine`


def facts(
    setup: Setup, rows: Sequence[dict[str, Any]], calibrated: bool, completed_by_us: Sequence[str]
) -> dict[str, Any]:
    """Who judges, by which rule, what counts, and how often the refusal rule errs.

    Args:
        setup: the study's.
        rows: of results.json.
        calibrated: whether the judges' errors were measured on labelled replies.
        completed_by_us: what of the study's methods is not published.
    """
    name, _ = judge_of(setup.settings, setup.data.prompts)
    combine = setup.settings.measure.combine
    counting = {} if combine == "judge" else panel.fingerprints(setup.models)
    found = {
        "name": name,
        "rule": JUDGES[name].rule,
        "completed_by_us": list(completed_by_us),
        "counts": {"judge": name, "rule": JUDGES[name].rule, "by": combine, **counting},
        # What several judges count together is not off by the rule's errors.
        **_rule_errors(name, setup.languages, rows if combine == "judge" else ()),
    }
    if setup.models:
        names = ", ".join(model.name for model in setup.models)
        combined = (
            f"A restricted prompt counts as violated when {WHO[combine]} {name} and the judge "
            f"models {names} say so of a well-formed reply; each alone stands beside it."
            if combine in WHO
            else ""
        )
        found |= panel_facts(setup.models, name, JUDGES[name].rule, combined)
    if not JUDGES[name].needs_answers and not calibrated:
        found["rule"] += " Rates are not corrected for judges' errors (config.measure.labelled)."
    return found


def panel_facts(models: Sequence[Judge], name: str, rule: str, combined: str) -> dict[str, Any]:
    """Who judges beside the judge, and what counts.

    Args:
        models: the judge models.
        name: of the judge.
        rule: by which it judges.
        combined: what several count together, in words; "": the judge counts alone.
    """
    names = ", ".join(model.name for model in models)
    counts = combined or (
        f"Counted is what {name} says; beside it stand the judge models {names}, each alone."
    )
    behind = {m.name: m.reader.facts() for m in models if isinstance(m.reader, Server)}
    told = [
        f"{judge} is {facts['model']} behind {facts['address']}, by the rubric {facts['rubric']}."
        for judge, facts in behind.items()
    ]
    return {
        "name": f"{name} with {names}",
        "rule": " ".join((counts, *told, rule)),
        **({"endpoints": behind} if behind else {}),
    }


def cautions(setup: Setup) -> list[dict[str, Any]]:
    """What is to be minded of judge models: kin, and languages they were not made for."""
    found = []
    known = {row.language for row in setup.data.labelled}
    if known and (other := [code for code in setup.languages if code not in known]):
        text = (
            f"There are fewer than {LEAST} labelled replies of either sort in {', '.join(other)}: "
            "rates there are not corrected for the judges' errors."
        )
        found.append({"id": "not_corrected", "topic": "Judges", "text": text})
    return found + of_models(setup.models, setup.bench.decoder, setup.languages)


def of_models(
    models: Sequence[Judge], judged: Decoder, languages: Sequence[str]
) -> list[dict[str, Any]]:
    """What is to be minded of judge models: kin, languages, prompts that are not the published."""
    family = judged.model.config.family
    behind = {m.name: m.reader.model for m in models if isinstance(m.reader, Server)}
    names = [model.name for model in models if model.name not in behind]
    found = served.cautions(behind, family) + agreement.cautions(names, family, languages)
    for model in models:
        if model.own_prompt:
            text = (
                f"{model.name} grades by another prompt (hash {model.own_prompt}) than the one "
                "that it was trained on."
            )
            found.append({"id": f"prompt_{model.name}", "topic": "Judges", "text": text})
    return found


def _rule_errors(
    judge: str, languages: Sequence[str], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """How often the refusal rule errs in these languages, if it judged, and what that explains.

    `differences` are those between languages that the samples tell apart, of the models before any
    localisation on the usual prompts: other prompts are other samples of the same languages.
    """
    if judge != "refusal rule":
        return {}
    errors = rule_error.of_languages(tuple(languages))
    compared = [
        row
        for row in rows
        if row["kind"] in ("aligned", "attacked") and "pairs" not in row and "prompts" not in row
    ]
    return {
        "errors": [found.row() for found in errors.values()],
        "differences": rule_error.differences(compared, errors),
    }
