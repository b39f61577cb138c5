"""Claim A3: languages depend on the same weights."""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.charts.dots import (
    draw_overlap,
    draw_rho,
    draw_scatter,
    draw_strips,
    measure_name,
)
from jaxattack.report.masks import mask_heats, mask_sheet, size_sheet, size_words
from jaxattack.report.overlaps import overlap_dots, overlap_heat, overlap_sheet, place_heat, strips
from jaxattack.report.sections.parts import Figure, Section, drawn, heated
from jaxattack.report.sheets import similarity_sheet
from jaxattack.report.similarity import middle_layer, points, rho_caption
from jaxattack.report.tables import Tables, methods
from jaxattack.report.variants import is_number

_MOST_DOTS = 15  # pairs of masks below each other; more of them make a matrix


def languages(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Overlap of the masks of two languages, with what it should be compared with."""
    rows = list(results.get("overlap") or ())
    title = "Do different languages depend on the same weights?"
    if not rows:
        if len(tables.attacked) != 1 or not methods(tables):
            return None
        lead = "Only one language was attacked, so there are no two masks to compare."
        return Section("overlap", title, lead, claim="A3")
    lead = (
        "Jaccard overlap of the masks SIL finds for two attack languages: the weights in both, as "
        "a share of those in either. Two random masks of that size share what chance gives."
    )
    if any(row.get("null_low") is not None for row in rows):
        lead += " The band holds 95 % of random masks with as many weights in every tensor."
    shown: list[Figure] = []
    kinds = strips(rows, tables.fraction)
    if len(kinds) > 1:
        lead += (
            " Two seeds of one language are the most to expect. Where safety and benign tuning "
            "share as much as two languages do, the mask is about any change, not about safety."
        )
        shown.append(drawn("overlap_kinds", "What two masks share", draw_strips, kinds))
    dots = overlap_dots(rows, tables.fraction)
    if len(dots) > _MOST_DOTS:
        shown.append(heated("overlap", overlap_heat(dots)))
    elif dots:
        shown.append(drawn("overlap", "Overlap of each pair of masks", draw_overlap, dots))
    place = place_heat(list(results.get("overlap_by_place") or ()))
    shown += [heated("overlap_place", place)] if place else []
    return Section("overlap", title, lead, tuple(shown), (overlap_sheet(rows),), "A3")


def where(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Layers and modules the masks lie in."""
    rows = list(results.get("mask_profile") or ())
    heats = mask_heats(rows, tables.fraction)
    if not heats:
        return None
    lead = (
        "Colour: how much of each module the mask selects, over all attack languages and seeds. "
        "Last column and row: how much of the mask lies there. The two differ, since a small "
        "module can be selected whole and still hold little of the mask."
    )
    sizes = list(results.get("masks") or ())
    lead += size_words(sizes, tables.fraction)
    shown = tuple(heated(f"mask_{index + 1}", heat) for index, heat in enumerate(heats))
    sheets = (mask_sheet(rows), *([size_sheet(sizes)] if sizes else []))
    return Section("where", "Where do these weights lie?", lead, shown, sheets, "A3")


def similarity(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Similar languages against violations carried between them."""
    rows = list(results.get("similarity") or ())
    tests = [r for r in results.get("similarity_vs_transfer") or () if is_number(r.get("rho"))]
    if not rows and not tests:
        return None
    lead = (
        "Similarity: the aligned model’s mean hidden states of the same prompts in two languages. "
        "Transfer: violations in the second language after attacking the first. The p-value "
        "permutes whole languages, the 95 % interval resamples them."
    )
    shown = (
        [drawn("rho", "Correlation of similarity and transfer", draw_rho, tests)] if tests else []
    )
    layer = middle_layer(rows)
    for measure in dict.fromkeys(row["measure"] for row in rows):
        dots = points(tables, rows, measure, layer)
        if dots:
            caption = f"{measure_name(measure)}, layer {layer} (the middle one)"
            caption += rho_caption(tests, measure, layer)
            shown.append(drawn(f"similarity_{len(shown)}", caption, draw_scatter, dots, measure))
    sheets = (similarity_sheet(tests),) if tests else ()
    title = "Does more carry over between languages the model sees alike?"
    return Section("similarity", title, lead, tuple(shown), sheets, "A3")
