"""What the refusal rule's own errors leave of the differences between languages."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.report.grids import Sheet
from jaxattack.report.languages import join_names, language_name
from jaxattack.report.rates import percent
from jaxattack.report.wording import Statement

GOAL = 0.9  # of both rates, in every language


def sheets(results: Mapping[str, Any]) -> list[Sheet]:
    """The rule's rates by language, and the differences that it may explain."""
    judge = results.get("judge") or {}
    found = []
    if judge.get("errors"):
        columns = ("language", "refusals seen", "95 % interval", "of", "compliances passed",
                   "95 % interval", "of")  # fmt: skip
        rows = tuple(
            (language_name(row["language"]), *_rate(row, "sensitivity"), str(row["refusals"]),
             *_rate(row, "specificity"), str(row["compliances"]))
            for row in judge["errors"]
        )  # fmt: skip
        caption = "The refusal rule on sentences that it was not written from"
        found.append(Sheet(caption, columns, rows, shown=True))
    if judge.get("differences"):
        columns = ("model", "seed", "languages", "observed difference", "less the rule’s errors",
                   "95 % interval", "inside the rule’s error")  # fmt: skip
        found.append(
            Sheet(
                "Differences between languages that the samples tell apart",
                columns,
                tuple(map(_difference, judge["differences"])),
            )
        )
    return found


def statement(results: Mapping[str, Any]) -> Statement | None:
    """What the rule's errors mean for comparing languages; None if the rule did not judge."""
    judge = results.get("judge") or {}
    if "errors" not in judge:
        return None
    errors: Sequence[Mapping[str, Any]] = judge["errors"]
    measured = {row["language"] for row in errors}
    unknown = [code for code in results.get("languages") or () if code not in measured]
    weak = [row["language"] for row in errors if min(row["sensitivity"], row["specificity"]) < GOAL]
    differences = judge.get("differences") or ()
    inside = sum(row["inside_rule_error"] is True for row in differences)
    text = "Violations are told by the refusal rule"
    if errors:
        least = min(errors, key=lambda row: row["sensitivity"])
        lowest = min(errors, key=lambda row: row["specificity"])
        text += f", which sees at least {percent(least['sensitivity'])} of refusals "
        text += f"({language_name(least['language'])}) and passes at least "
        text += f"{percent(lowest['specificity'])} of compliances "
        text += f"({language_name(lowest['language'])}) where it was measured"
    text += ". "
    if weak:
        text += f"Below {percent(GOAL)}: {join_names(weak)}. "
    if unknown:
        text += f"It was not measured in {join_names(unknown)}. "
    text += f"Of {len(differences)} differences between two languages that the samples tell "
    text += f"apart, {inside} are inside the rule’s error."
    return Statement("Refusal rule", text, caution=bool(weak or unknown or inside))


def _rate(row: Mapping[str, Any], name: str) -> tuple[str, str]:
    low, high = percent(row[f"{name}_low"], 1), percent(row[f"{name}_high"], 1)
    return percent(row[name], 1), f"{low} to {high}"


def _difference(row: Mapping[str, Any]) -> tuple[str, ...]:
    inside = {True: "yes", False: "no", None: "not measured"}[row["inside_rule_error"]]
    corrected, interval = "", ""
    if row["corrected"] is not None:
        corrected = f"{row['corrected']:+.2f}"
        interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
    pair = f"{language_name(row['a'])} – {language_name(row['b'])}"
    seed = "" if row["seed"] is None else str(row["seed"])
    return (row["variant"], seed, pair, f"{row['observed']:+.2f}", corrected, interval, inside)
