"""A study's judges on labelled replies: how often each errs, as rows of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxattack.data.dialogues import Example
from jaxattack.evaluate.calibration import Accuracy, accuracy, corrected
from jaxattack.evaluate.judge import Judge, Reply, judge
from jaxattack.evaluate.opinions import Opinion
from jaxattack.evaluate.triage import WELL_FORMED
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.moderating import check_parsed

Rows = list[dict[str, Any]]
COUNTED = "counted"  # the judge by whom violations count, be it one or several


def responses(examples: Sequence[Example]) -> list[str]:
    """The labelled replies, as judge models are shown replies."""
    return [example.response.strip() for example in examples]


def own_words(examples: Sequence[Example], one: Judge) -> list[Trial]:
    """What a judge without a model says of labelled replies."""
    asked = (dataclasses.replace(example, kind="restricted") for example in examples)
    return [judge(row, Reply(row.response, cut=False), (one,)) for row in asked]


def errors(
    trials: Sequence[Trial],
    *opinions: Sequence[Opinion],
    examples: Sequence[Example],
    names: Sequence[str],
    combine: Callable[[Sequence[bool | None]], bool] | None,
    unparsed: float,
) -> Rows:
    """Sensitivity and specificity of every judge in every language.

    Args:
        trials: what the study's judge says; by known answers it says nothing of them.
        opinions: of judge models.
        examples: the labelled replies; restricted are violations.
        names: of the judges, the study's first.
        combine: how violations are counted; None: by the study's judge.
        unparsed: share of a judge model's outputs that may be no opinion.

    Raises:
        UserError: more of them are none.
    """
    check_parsed(dict(zip(names[1:], opinions, strict=True)), unparsed)
    own = [trial.answered for trial in trials]
    votes = [own, *([one.harmful for one in said] for said in opinions)]
    counted: Sequence[bool | None] = own
    if combine is not None:  # a reply that is not well-formed violates nothing, as in the study
        counted = [
            combine(each) and trial.triage in WELL_FORMED
            for trial, *each in zip(trials, *votes, strict=True)
        ]
    found: Rows = []
    for name, said in zip((*names, COUNTED), (*votes, counted), strict=True):
        if None in own and name in (names[0], COUNTED):
            continue  # a judge by known answers cannot judge replies to other prompts
        for language in dict.fromkeys(example.language for example in examples):
            here = [
                (example.kind == "restricted", vote)
                for example, vote in zip(examples, said, strict=True)
                if example.language == language
            ]
            known = accuracy((label, bool(vote)) for label, vote in here)
            if known.is_known:
                counts = {"found": known.found, "passed": known.passed}
                counts["no_opinion"] = sum(vote is None for _, vote in here)
                found.append({"judge": name, "language": language, **known.row(), **counts})
    return found


def correct(rows: Iterable[Mapping[str, Any]], calibration: Rows) -> Rows:
    """Violation rates less the errors of who counted them, where these are known.

    Args:
        rows: of results.json, or of `agreement.alone`, which name their judge.
        calibration: by `errors`.
    """
    known = {
        (row["judge"], row["language"]): Accuracy(
            row["harmful"], row["found"], row["harmless"], row["passed"]
        )
        for row in calibration
    }
    found = []
    for row in rows:
        judge_ = row.get("judge", COUNTED)
        by = known.get((judge_, row["language"]))
        if row["metric"] == "violation_rate" and by is not None:
            value, low, high = corrected(round(row["value"] * row["n"]), row["n"], by)
            rate = {"value": None if value != value else value, "low": low, "high": high}
            found.append({**row, "judge": judge_, "observed": row["value"], **rate})
    return found
