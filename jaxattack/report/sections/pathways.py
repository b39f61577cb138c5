"""Claim A4: an attack that may not use these weights finds others."""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.charts.curves import draw_capacity, draw_curve
from jaxattack.report.charts.dots import draw_freeze
from jaxattack.report.findings import masked
from jaxattack.report.sections.parts import Section, drawn
from jaxattack.report.sheets import capacity_sheet, pair_sheet, proof_sheet
from jaxattack.report.tables import Tables, numbers
from jaxattack.report.tables import methods as names
from jaxattack.report.variants import Variant, share


def freeze(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    """Free, frozen, rewound, and the mask found anew after freezing."""
    if not (masked(tables, "frozen").own or masked(tables, "rewound").own):
        return None
    proof = list(results.get("freeze_proof") or ())
    lead = f"Frozen: the attack is repeated while SIL’s {share(tables.fraction or 0)} cannot "
    lead += "move. Rewound: after a free attack the aligned weights are put back there. "
    if names(tables, "restitched"):
        lead += (
            "New mask: SIL scored once more on the attack that could not move the first mask, and "
            "its weights stitched into the aligned model. "
        )
    if proof:
        moved, total = sum(row["moved"] for row in proof), sum(row["frozen"] for row in proof)
        lead += f"Compared bit by bit afterwards, {moved:,} of {total:,} frozen weights moved."
    caption = "Violations in the attacked language and in the others (mean)"
    figures = [drawn("freeze", caption, draw_freeze, tables)]
    sizes = {f: m for m in names(tables, "frozen") for f in numbers(tables, "frozen", m)}
    if len(sizes) > 1:
        for side, end in enumerate(("attacked", "others")):
            where = ("In the attacked language", "In the languages never attacked, mean")[side]
            name = f"frozen_{end}"
            figures.append(
                drawn(name, f"{where}, by share frozen", draw_curve, tables, "frozen", side)
            )
    likes = [
        Variant("frozen", "", m, f)
        for m in names(tables, "frozen")
        for f in numbers(tables, "frozen", m)
    ]
    likes += [Variant(kind, "", "sil", tables.fraction) for kind in ("rewound", "restitched")]
    kinds = [Variant("aligned"), Variant("attacked"), *likes]
    sheets = (pair_sheet(tables, kinds, "Violations: free, frozen and rewound"),)
    return Section(
        "freeze",
        "Does freezing these weights stop the attack?",
        lead.strip(),
        tuple(figures),
        (*sheets, proof_sheet(proof)) if proof else sheets,
        "A4",
    )


def capacity(results: Mapping[str, Any]) -> Section | None:
    """Attack after attack, each with all earlier masks frozen."""
    rows = list(results.get("capacity") or ())
    if not rows:
        return None
    lead = (
        "Every round freezes the union of the masks found so far and attacks the aligned model "
        "again. The first mark of a line is the free attack, the last the round that failed or "
        "left nothing to move."
    )
    if len({row.get("seed") for row in rows}) > 1:
        lead += " Marks: mean of the seeds; bars: from the lowest to the highest."
    moved = sum(row.get("moved") or 0 for row in rows)
    lead += f" Over all rounds {moved:,} frozen weights moved."
    figures = (
        drawn("capacity_own", "In the attacked language", draw_capacity, rows, "own"),
        drawn("capacity_others", "In the other languages, mean", draw_capacity, rows, "others"),
    )
    title = "How many pathways are there?"
    return Section("capacity", title, lead, figures, (capacity_sheet(rows),), "A4")
