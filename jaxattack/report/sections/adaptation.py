"""Claim A5: the attack vector breaks models that learned new languages since."""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.languages import join_names
from jaxattack.report.matrices import adaptation_heat
from jaxattack.report.sections.parts import Section, heated
from jaxattack.report.sheets import adaptation_sheet, every_rate
from jaxattack.report.tables import Tables
from jaxattack.report.variants import ADAPTED


def adapted(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Adapted models with and without the attack vector, old and new languages."""
    heat = adaptation_heat(tables)
    if heat is None:
        return None
    lead = "The aligned model learned "
    lead += join_names(tables.added) if tables.added else "other languages"
    lead += (
        " without any attack; then the change an earlier attack made to the original was added to "
        "its weights, whole or only at SIL’s mask. New rows of the vocabulary get none of it. A "
        "frame marks the language of that attack."
    )
    sheets = [every_rate(tables, lambda variant: variant.kind in ADAPTED)]
    rows = list(results.get("adaptation") or ())
    sheets += [adaptation_sheet(rows)] if rows else []
    title = "Does the attack outlive an adaptation to new languages?"
    return Section("adaptation", title, lead, (heated("adaptation", heat),), tuple(sheets), "A5")
