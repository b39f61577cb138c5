"""Claim A2: few weights carry the attack, and SIL finds them."""

from jaxattack.report.charts.curves import curve_methods, draw_curve
from jaxattack.report.grids import Sheet
from jaxattack.report.matrices import methods_heat
from jaxattack.report.sections.parts import Section, drawn, heated
from jaxattack.report.sheets import pair_sheet
from jaxattack.report.tables import Tables, numbers
from jaxattack.report.tables import methods as names
from jaxattack.report.variants import Variant, share

_CAPTIONS = ("In the attacked language", "In the languages never attacked, mean")


def methods(tables: Tables) -> Section | None:
    """Ways to choose as many weights, both directions; only for more than a chart can hold."""
    shown = [name for name in names(tables) if not name.startswith("sil_")]
    shown += ["sil_minus_benign"] if "sil_minus_benign" in names(tables) else []
    rewound = set(names(tables, "rewound")) & set(shown)
    if tables.fraction is None or (len(shown) < 6 and len(rewound) < 2):
        return None
    caption = (
        f"Violations in per cent, {share(tables.fraction)} of the weights, mean of the attacks"
    )
    heat = methods_heat(tables, shown, caption)
    if heat is None:
        return None
    lead = (
        "Stitched: only these weights are taken from the attacked model. High means they are "
        "enough for the attack. "
    )
    if rewound:
        lead += "Rewound: only these are put back. Low means the attack needs them. "
    if {"union", "intersection"} & set(shown):
        lead += (
            "Union and intersection are made of masks of that size, so they hold more and fewer "
            "weights than the others. "
        )
    if "sil_minus_benign" in shown:
        lead += "SIL minus benign leaves out what benign tuning changes as well. "
    sheet = _sheet(tables, shown)
    title = "Which weights are enough, and which are needed?"
    return Section("methods", title, lead.strip(), (heated("methods", heat),), (sheet,), "A2")


def curves(tables: Tables) -> Section | None:
    """Violations by share of weights."""
    chosen = names(tables)
    if not chosen or not tables.attacked:
        return None
    lead = "Only the selected weights are taken from the attacked model; the rest stays aligned. "
    shown = curve_methods(tables, "stitched")
    if "matched_random" in shown:
        lead += "The matched random control takes as much of every tensor as SIL does. "
    if "complement" in shown:
        lead += "“All but SIL’s” stands at the share it leaves out. "
    if len(tables.attacked) > 1:
        lead += "Marks: mean of the attacks; bars: lowest and highest attack."
    else:
        lead += "Bars: 95 % interval in the attacked language, else lowest to highest language."
    sides = (0, 1) if len(tables.languages) > 1 else (0,)
    ids = ("curve_attacked", "curve_others")
    figures = [drawn(ids[s], _CAPTIONS[s], draw_curve, tables, "stitched", s) for s in sides]
    if len(_sizes(tables, "rewound")) > 1:
        lead += " The lower pair is the other way round: the selected weights are put back."
        ids = ("rewound_attacked", "rewound_others")
        figures += [
            drawn(ids[s], f"Put back: {_CAPTIONS[s].lower()}", draw_curve, tables, "rewound", s)
            for s in sides
        ]
    kinds = [Variant("aligned"), Variant("attacked")]
    kinds += [
        Variant(kind, "", name, size)
        for kind in ("stitched", "rewound")
        for name in chosen
        for size in numbers(tables, kind, name)
    ]
    title = "How few weights carry it, and does the choice matter?"
    sheet = pair_sheet(tables, kinds, "Violations by weights stitched or put back")
    return Section("weights", title, lead, tuple(figures), (sheet,), "A2")


def ways(tables: Tables) -> Section | None:
    """Ways of doing SIL, where the paper leaves a choice."""
    shown = [name for name in names(tables) if name == "sil" or name.startswith("sil_")]
    shown = [name for name in shown if name != "sil_minus_benign"]
    if len(shown) < 2 or tables.fraction is None:
        return None
    caption = (
        f"Violations in per cent, {share(tables.fraction)} of the weights, mean of the attacks"
    )
    heat = methods_heat(tables, shown, caption)
    if heat is None:
        return None
    lead = (
        "SIL done otherwise: the share taken from every tensor or row instead of all weights "
        "together, the gradient taken elsewhere, the mean gradient’s size instead of the mean "
        "size, embeddings and norms left out. Rows that agree do not depend on that choice."
    )
    sheet = _sheet(tables, shown)
    title = "Does it matter how SIL is done?"
    return Section("ways", title, lead, (heated("ways", heat),), (sheet,), "A2")


def _sheet(tables: Tables, shown: list[str]) -> Sheet:
    size = tables.fraction
    kinds = [Variant(kind, "", name, size) for kind in ("stitched", "rewound") for name in shown]
    return pair_sheet(tables, kinds, "Violations by method")


def _sizes(tables: Tables, kind: str) -> set[float]:
    return {size for name in names(tables, kind) for size in numbers(tables, kind, name)}
