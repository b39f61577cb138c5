"""The sections of the report: which pictures, which tables behind them, in which words."""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.sections import adaptation, overlap, pathways, transfer, utility, weights
from jaxattack.report.sections.parts import Figure, Section
from jaxattack.report.tables import Tables

__all__ = ["Figure", "Section", "sections"]


def sections(tables: Tables, results: Mapping[str, Any]) -> list[Section]:
    """Every section there is data for, in reading order."""
    found = [
        transfer.matrix(tables, results),
        transfer.dose(tables, results),
        transfer.other_attacks(tables),
        transfer.sharing(tables),
        weights.methods(tables),
        weights.curves(tables),
        weights.ways(tables),
        overlap.languages(tables, results),
        overlap.where(tables, results),
        overlap.similarity(tables, results),
        pathways.freeze(tables, results),
        pathways.capacity(results),
        adaptation.adapted(tables, results),
        utility.utility(tables),
        utility.loss(tables, results),
        utility.profile(results),
    ]
    return [section for section in found if section]
