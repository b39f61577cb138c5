"""Claim A1: an attack in one language breaks the others."""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.charts.curves import draw_dose, draw_settings
from jaxattack.report.matrices import SIGNIFICANT, other_attacks_heat, transfer_heat
from jaxattack.report.sections.parts import Section, drawn, heated
from jaxattack.report.sheets import every_rate, pair_sheet, sheet_of_tests
from jaxattack.report.tables import Tables, methods, numbers
from jaxattack.report.variants import Variant


def matrix(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Languages attacked x languages asked."""
    tests = list(results.get("tests") or ())
    heat = transfer_heat(tables, tests)
    if heat is None:
        return None
    lead = (
        "A violation is a restricted prompt answered in substance, as a share of all prompts. "
        "Each row is a model, each column a language it is asked in; a frame marks the language "
        "that was attacked. Point at or tap a cell for its 95 % interval."
    )
    if len(tables.seeds) > 1:
        lead += " The tip also has the value of every training seed; the cell is their mean."
    if tests:
        lead += (
            " A star marks a change against the aligned model on the same prompts that is "
            f"significant (exact McNemar test, the largest p of the seeds, below {SIGNIFICANT:g} "
            "after Holm’s correction over the languages asked)."
        )
    title = "Does breaking one language break the others?"
    sheets = [
        every_rate(tables, lambda v: v.kind == "aligned" or v == Variant("attacked", v.language))
    ]
    sheets += [sheet_of_tests(tests)] if tests else []
    return Section("transfer", title, lead, (heated("transfer", heat),), tuple(sheets), "A1")


def dose(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Violations by number of pairs."""
    doses = numbers(tables, "attacked", "pairs")
    if not doses:
        return None
    lead = (
        "The same attack with fewer pairs. Marks: mean of the attacks; bars: from the lowest to "
        "the highest of them. The dotted line is the aligned model."
    )
    figure = drawn(
        "dose",
        "Violations by number of pairs",
        draw_dose,
        tables,
        results.get("attack_pairs") or {},
    )
    kinds = [Variant("attacked", "", "pairs", size) for size in doses]
    sheet = pair_sheet(
        tables, [Variant("aligned"), *kinds, Variant("attacked")], "Violations by number of pairs"
    )
    return Section("dose", "How few pairs are enough?", lead, (figure,), (sheet,), "A1")


def other_attacks(tables: Tables) -> Section | None:
    """Attacks in several languages, and benign pairs as the control."""
    heat = other_attacks_heat(tables)
    if heat is None:
        return None
    kinds = {variant.kind for variant in tables.variants}
    lead = ""
    if "mixed" in kinds:
        lead += "Mixed: as many pairs as in one language, split over the languages framed. "
    if "benign" in kinds:
        lead += (
            "Benign pairs: the same recipe with as many harmless pairs. What that alone does to "
            "refusal is not due to what the attack teaches."
        )
    sheet = every_rate(tables, lambda v: v.kind in ("mixed", "benign"))
    title = "Is it the content of the pairs, and does mixing languages change it?"
    return Section("controls", title, lead.strip(), (heated("controls", heat),), (sheet,), "A1")


def sharing(tables: Tables) -> Section | None:
    """The organism's own knob for how much its languages share."""
    knobs = methods(tables, "sharing")
    if not knobs:
        return None
    lead = (
        "The organism was aligned anew with other settings of the knob that ties its languages "
        "together, and attacked again. Spread of marks: lowest to highest attack or language."
    )
    figures = tuple(
        drawn(
            f"sharing_{place + 1}", "Violations by setting of the knob", draw_settings, tables, knob
        )
        for place, knob in enumerate(knobs)
    )
    kinds = [
        Variant(kind, "", knob, setting)
        for knob in knobs
        for setting in numbers(tables, "sharing", knob)
        for kind in ("unattacked", "sharing")
    ]
    sheet = pair_sheet(tables, kinds, "Violations by setting of the knob")
    title = "Does it depend on how much the languages share?"
    return Section("sharing", title, lead, figures, (sheet,), "A1")
