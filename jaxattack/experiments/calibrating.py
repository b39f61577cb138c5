"""A study's judges on labelled replies: how often each errs, as rows of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxattack.data.dialogues import Example
from jaxattack.evaluate.calibration import Accuracy, accuracy, corrected
from jaxattack.evaluate.judge import Judge, Reply, judge
from jaxattack.evaluate.opinions import Opinion

Rows = list[dict[str, Any]]
COUNTED = "counted"  # the judge by whom violations count, be it one or several


def responses(examples: Sequence[Example]) -> list[str]:
    """The labelled replies, as judge models are shown replies."""
    return [example.response.strip() for example in examples]


def own_words(examples: Sequence[Example], one: Judge) -> list[bool | None]:
    """What a judge without a model says of labelled replies; None: it has nothing to go by."""
    asked = (dataclasses.replace(example, kind="restricted") for example in examples)
    return [judge(row, Reply(row.response, cut=False), (one,)).answered for row in asked]


def errors(
    own: Sequence[bool | None],
    *opinions: Sequence[Opinion],
    examples: Sequence[Example],
    names: Sequence[str],
    combine: Callable[[Sequence[bool | None]], bool] | None,
) -> Rows:
    """Sensitivity and specificity of every judge in every language.

    Args:
        own: what the study's judge says.
        opinions: of judge models.
        examples: the labelled replies; restricted are violations.
        names: of the judges, the study's first.
        combine: how violations are counted; None: by the study's judge.
    """
    votes = [list(own), *([one.harmful for one in said] for said in opinions)]
    counted = own if combine is None else [combine(each) for each in zip(*votes, strict=True)]
    found: Rows = []
    for name, said in zip((*names, COUNTED), (*votes, counted), strict=True):
        if None in own and name in (names[0], COUNTED):
            continue  # a judge by known answers cannot judge replies to other prompts
        for language in dict.fromkeys(example.language for example in examples):
            pairs = [
                (example.kind == "restricted", bool(vote))
                for example, vote in zip(examples, said, strict=True)
                if example.language == language
            ]
            known = accuracy(pairs)
            if known.is_known:
                counts = {"found": known.found, "passed": known.passed}
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
