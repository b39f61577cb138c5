"""What limits how the figures of a study may be read, and the cautions that studies share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxattack.evaluate import intervals
from jaxattack.experiments.claim import Evidence
from jaxattack.experiments.needs import percent
from jaxattack.experiments.outcomes import Outcomes
from jaxattack.experiments.term import Figure, Means, Seen, anywhere, rate
from jaxattack.experiments.thresholds import CUT, DAMAGE, RULE, SEEDS, SILENT
from jaxattack.report.labels import word


@dataclasses.dataclass(frozen=True)
class Caution:
    """Something to be minded if a figure is not on the right side of its bound.

    Attributes:
        id: a name.
        topic: a word or two for a reader.
        text: what is to be minded.
        evidence: figures with bounds; within these all is well.
    """

    id: str
    topic: str
    text: str
    evidence: Sequence[Evidence]


def raised(cautions: Iterable[Caution | None], seen: Seen) -> list[dict[str, Any]]:
    """Those that there is need of, with the figures beyond their bounds, as results.json has them.

    They go by values, not by intervals: not being sure is no reason to keep quiet.
    """
    found = []
    for caution in filter(None, cautions):
        evidence = [each.written(seen) for each in caution.evidence if each.measured(seen)]
        beyond = [row for row in evidence if _is_beyond(row)]
        if beyond:
            found.append(
                {"id": caution.id, "topic": caution.topic, "text": caution.text, "evidence": beyond}
            )
    return found


def _is_beyond(row: Mapping[str, Any]) -> bool:
    value, threshold = row["value"], row["threshold"]
    if value is None or threshold is None:
        return False
    return value >= threshold if row.get("bound") == "below" else value < threshold


def one_seed(seeds: Sequence[int]) -> Caution:
    """Nothing is known of another training."""
    return Caution(
        "one_seed",
        "Scope",
        "There was one training run of each kind, so the spread between seeds is unknown.",
        [Evidence("training seeds", Figure(len(seeds), unit="count"), above=SEEDS)],
    )


def seldom(id: str, topic: str, seen: Outcomes, metric: str, replies: str) -> Caution | None:
    """Cells whose replies are seldom as they should be; None without a cell."""
    means = Means(intervals.means(seen.values), seen.cells, seen.languages)
    values = {cell: float(means.rate(cell, anywhere)) for cell in seen.cells}
    if not values:
        return None
    least = 1 - DAMAGE
    bad = [cell for cell, value in values.items() if value < least]
    lowest = min(values, key=values.__getitem__)
    return Caution(
        id,
        topic,
        f"In {len(bad)} of {len(values)} cases fewer than {percent(least)} of the replies "
        f"{replies}",
        [Evidence(f"such replies of {lowest.variant}", rate(lowest, metric=metric), above=least)],
    )


def refusal_rule(judge: Mapping[str, Any], languages: Sequence[str]) -> Caution | None:
    """How often the rule for refusals errs, if it judged, and what that may explain."""
    errors, differences = judge.get("errors") or (), judge.get("differences") or ()
    if "errors" not in judge:
        return None
    unknown = set(languages) - {row["language"] for row in errors}
    inside = sum(row["inside_rule_error"] is True for row in differences)
    return Caution(
        "refusal_rule",
        "Refusal rule",
        "Refusals are told by a rule, which errs in some languages more than in others: "
        "differences between languages may be the rule's own.",
        [
            *_least(errors, "sensitivity", "refusals that the rule sees"),
            *_least(errors, "specificity", "compliances that the rule passes"),
            Evidence("languages in which it was not measured", _count(len(unknown)), below=1),
            Evidence(
                f"differences between two languages that its errors would do for, of the "
                f"{len(differences)} that the samples tell apart",
                _count(inside),
                below=1,
            ),
        ],
    )


def cut_refusals(judge: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Caution | None:
    """Where the rule for refusals saw only how replies begin; None: it did not judge.

    Where the verb stands last (Japanese, Korean), or a word takes many tokens, a reply has not
    declined yet when it is cut; the rule's errors are those on whole sentences. Looked at is the
    aligned model, which declines: one that was attacked may answer at length.

    Args:
        judge: what results.json says of it.
        rows: of results.json.
    """
    cut = [row for row in rows if row["metric"] == "cut_rate" and row["kind"] == "aligned"]
    if "errors" not in judge or judge.get("counts", {}).get("by") != "judge" or not cut:
        return None
    most = max(cut, key=lambda row: row["value"])
    what = f"replies of {most['variant']} in {word('language', most['language'])} that were cut"
    return Caution(
        "cut_refusals",
        "Refusal rule",
        "Of many replies the limit left only the beginning, in which a refusal may not have come "
        "yet, in some languages more than in others: violations may be too many there. A higher "
        "config.measure.max_new_tokens tells.",
        [Evidence(what, Figure(most["value"], unit="rate"), below=CUT)],
    )


def silent_judge(alone: Sequence[Mapping[str, Any]]) -> Caution | None:
    """Where a judge model has no opinion the others decide; None: there are none beside the rule.

    Args:
        alone: rows of each judge's own rates (`agreement.alone`).
    """
    if not alone:
        return None
    most = max(alone, key=lambda row: row["unparsed"] / row["n"])
    share = Figure(most["unparsed"] / most["n"], unit="rate")
    where = f"{most['variant']} in {most['language']}"
    what = f"replies of {where} on which {most['judge']} has no opinion"
    return Caution(
        "silent_judge",
        "Judges",
        "On some replies a judge model has no opinion, in some languages more than in others; "
        "there the other judges decide without it.",
        [Evidence(what, share, below=SILENT)],
    )


def _least(errors: Sequence[Mapping[str, Any]], name: str, what: str) -> list[Evidence]:
    if not errors:
        return []
    row = min(errors, key=lambda row: row[name])
    figure = Figure(
        row[name], row[f"{name}_low"], row[f"{name}_high"], "over sentences by hand", "rate"
    )
    return [Evidence(f"{what} in {row['language']}, the lowest", figure, above=RULE)]


def _count(number: int) -> Figure:
    return Figure(number, unit="count")
