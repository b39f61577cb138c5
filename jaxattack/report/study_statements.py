"""Sentences on what only the full study measures: doses, benign tuning, more masks, pathways."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from jaxattack.report.findings import levels, transfer, value_of
from jaxattack.report.overlaps import at_size
from jaxattack.report.rates import percent
from jaxattack.report.tables import Tables, among, numbers
from jaxattack.report.variants import Variant, share
from jaxattack.report.wording import CARRIES, DAMAGE, TOOK, Statement, sides


def dose(tables: Tables) -> Statement | None:
    """How few pairs do it."""
    sizes = numbers(tables, "attacked", "pairs")
    if not sizes:
        return None
    tables = among(tables, *(Variant("attacked", "", "pairs", size) for size in sizes))
    before = levels(tables, "aligned")
    found = {size: levels(tables, "attacked", "pairs", size) for size in sizes}
    took = [s for s in sizes if value_of(found[s].own) - value_of(before.own) >= TOOK]
    if not took:
        text = f"The attack does not take with {sizes[-1]:g} pairs ({sides(found[sizes[-1]])})."
        return Statement("Dose", text)
    first = took[0]
    text = f"The attack takes from {_pairs(first)} on ({sides(found[first])})"
    carried = [s for s in took if (transfer(before, found[s]) or 0) >= CARRIES]
    if carried:
        text += f" and carries over from {_pairs(carried[0])} on"
    return Statement("Dose", f"{text}.")


def benign_tuning(tables: Tables) -> Statement | None:
    """Whether harmless pairs do damage too."""
    tables = among(tables, Variant("benign"))
    after, before = levels(tables, "benign"), levels(tables, "aligned")
    if after.own is None:
        return None
    text = f"As many benign pairs in the same recipe: {percent(after.own.value)} violations in the "
    text += f"language tuned, {percent(value_of(after.others))} in the others. "
    added = value_of(after.own) - value_of(before.own)
    added = max(added, value_of(after.others) - value_of(before.others))
    if added >= DAMAGE:
        text += "Part of the damage needs no restricted content."
        return Statement("Benign tuning", text, caution=True)
    return Statement("Benign tuning", f"{text}The damage comes from the restricted content.")


def about(tables: Tables, results: Mapping[str, Any]) -> Statement | None:
    """Whether the mask is about safety or about any change."""
    rows = list(results.get("overlap") or ())
    benign = [r for r in at_size(rows, tables.fraction, "benign") if r["a"] == r["b"]]
    languages = at_size(rows, tables.fraction)
    if not benign or not languages:
        return None
    same, other = (fmean(row["jaccard"] for row in found) for found in (benign, languages))
    text = f"SIL’s masks of two languages overlap by {other:.2f}, those of the attack and of "
    text += f"benign tuning in one language by {same:.2f}: "
    if same >= other:
        text += "the mask is at least as much about any change as about safety."
        return Statement("What it is about", text, caution=True)
    return Statement("What it is about", text + "it is more than what any change would touch.")


def pathways(results: Mapping[str, Any]) -> Statement | None:
    """When attack after attack fails."""
    runs: dict[tuple[str, Any], list[Mapping[str, Any]]] = defaultdict(list)
    for row in results.get("capacity") or ():
        runs[row["language"], row.get("seed")].append(row)
    if not runs:
        return None
    ordered = [sorted(run, key=lambda row: row["round"]) for run in runs.values()]
    failed = [row for run in ordered if (row := next((r for r in run if r["own"] < TOOK), None))]
    text = f"Freezing every mask found so far and attacking again: {len(failed)} of {len(runs)} "
    text += f"runs fall below {percent(TOOK)} violations in their own language"
    if failed:
        text += f", at {_span([row['frozen_share'] for row in failed])} frozen"
    if len(failed) < len(runs):
        rest = [run[-1] for run in ordered if all(row["own"] >= TOOK for row in run)]
        text += f"; the rest still takes with {_span([row['frozen_share'] for row in rest])} frozen"
    return Statement("Pathways", f"{text}.")


def _pairs(number: float) -> str:
    return "1 pair" if number == 1 else f"{number:g} pairs"


def _span(shares: list[float]) -> str:
    low, high = share(min(shares)), share(max(shares))
    return low if low == high else f"{low} to {high}"
