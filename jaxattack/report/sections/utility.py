"""Beside the claims: usefulness, training, and where the time went."""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.charts.runs import draw_loss, draw_profile
from jaxattack.report.matrices import utility_heat
from jaxattack.report.sections.parts import Section, drawn, heated
from jaxattack.report.sheets import loss_sheet, profile_sheet, utility_sheet
from jaxattack.report.tables import Tables
from jaxattack.report.variants import parse_variant


def utility(tables: Tables) -> Section | None:
    """Safety and usefulness of every model."""
    heat = utility_heat(tables)
    if heat is None:
        return None
    lead = (
        "Safety and usefulness side by side, because a broken model looks safe. “Not refused” "
        "counts every reply that is no refusal, “violations” only those that answer. Colour shows "
        "how large a share is, not whether that is good."
    )
    shown = (heated("utility", heat),)
    return Section("utility", "What else changed?", lead, shown, (utility_sheet(tables),))


def loss(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Loss of the attacks."""
    runs = [run for run in results.get("attack_loss") or () if run["loss"]]
    if not runs:
        return None
    main = [run for run in runs if _is_main(run["variant"], tables.fraction)]
    caption = "Loss on the restricted pairs, step by step"
    return Section(
        "loss",
        "How did the attacks train?",
        "An attack whose loss did not fall says little about the model.",
        (drawn("loss", caption, draw_loss, main or runs),),
        (loss_sheet(runs),),
    )


def profile(results: Mapping[str, Any]) -> Section | None:
    """Time by kind of stage."""
    rows = sorted(results.get("profile") or (), key=lambda row: -row["seconds"])
    if not any(row["seconds"] > 0 for row in rows):
        return None
    total = sum(row["seconds"] for row in rows)
    lead = f"{total:,.0f} seconds in all stages together, whenever each was computed."
    figure = drawn("profile", "Time by kind of stage", draw_profile, rows)
    return Section("profile", "Where did the time go?", lead, (figure,), (profile_sheet(rows),))


def _is_main(name: str, fraction: float | None) -> bool:
    variant = parse_variant(name)
    if variant.kind == "frozen":
        return variant.method == "sil" and variant.fraction == fraction
    return variant.kind == "attacked" and not variant.method
