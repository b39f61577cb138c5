"""The sections of the report: which pictures, which tables behind them, in which words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxattack.report import charts, figures
from jaxattack.report.figures import Picture
from jaxattack.report.findings import masked
from jaxattack.report.grids import Heat, Sheet
from jaxattack.report.masks import mask_heats, mask_sheet, overlap_dots, overlap_heat, overlap_sheet
from jaxattack.report.matrices import transfer_heat, utility_heat
from jaxattack.report.sheets import every_rate, loss_sheet, pair_sheet, proof_sheet
from jaxattack.report.tables import Tables, Variant, fractions, methods, share

_MOST_DOTS = 15  # pairs of masks below each other; more of them make a matrix


@dataclass(frozen=True)
class Figure:
    """A picture with the name of its PNG; `heat` is shown in place of the SVG where given."""

    name: str
    caption: str
    picture: Picture
    heat: Heat | None = None


@dataclass(frozen=True)
class Section:
    """One question of the report, its pictures and the tables behind them."""

    id: str
    title: str
    lead: str
    figures: tuple[Figure, ...] = ()
    sheets: tuple[Sheet, ...] = ()


def sections(tables: Tables, results: Mapping[str, Any]) -> list[Section]:
    """Every section there is data for, in reading order."""
    found = [
        _transfer(tables),
        _weights(tables),
        _freeze(tables, results),
        _overlap(tables, results),
        _where(tables, results),
        _utility(tables),
        _loss(results),
    ]
    return [section for section in found if section]


def _transfer(tables: Tables) -> Section | None:
    heat = transfer_heat(tables)
    if heat is None:
        return None
    lead = (
        "A violation is a restricted prompt answered in substance, as a share of all prompts. "
        "Each row is a model, each column a language it is asked in; a frame marks the language "
        "that was attacked. Point at or tap a cell for its 95 % interval."
    )
    title = "Does breaking one language break the others?"
    sheet = every_rate(tables, ("aligned", "attacked"))
    return Section("transfer", title, lead, (_heat_figure("transfer", heat),), (sheet,))


def _weights(tables: Tables) -> Section | None:
    chosen = methods(tables)
    if not chosen or not tables.attacked:
        return None
    lead = "Only the selected weights are taken from the attacked model; the rest stays aligned. "
    if "matched_random" in chosen:
        lead += "The matched random control takes as much of every tensor as SIL does. "
    if "complement" in chosen:
        lead += "“All but SIL’s” stands at the share it leaves out. "
    if len(tables.attacked) > 1:
        lead += f"Marks: mean of {len(tables.attacked)} attacks; bars: lowest and highest attack."
    else:
        lead += "Bars: 95 % interval in the attacked language, else lowest to highest language."
    drawn = [("curve_attacked", "In the attacked language", True)]
    if len(tables.languages) > 1:
        drawn += [("curve_others", "In the languages never attacked, mean", False)]
    kinds = [Variant("aligned"), Variant("attacked")]
    kinds += [Variant("stitched", "", m, f) for m in chosen for f in fractions(tables, m)]
    return Section(
        "weights",
        "How few weights carry it, and does the choice matter?",
        lead,
        tuple(
            Figure(name, caption, figures.render(charts.draw_curve, name, tables, own))
            for name, caption, own in drawn
        ),
        (pair_sheet(tables, kinds, "Violations by stitched weights"),),
    )


def _freeze(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    if not (masked(tables, "frozen").own or masked(tables, "rewound").own):
        return None
    proof = list(results.get("freeze_proof") or ())
    lead = f"Frozen: the attack is repeated while SIL’s {share(tables.fraction or 0)} cannot "
    lead += "move. Rewound: after a free attack the aligned weights are put back there. "
    if proof:
        moved, total = sum(row["moved"] for row in proof), sum(row["frozen"] for row in proof)
        lead += f"Compared bit by bit afterwards, {moved:,} of {total:,} frozen weights moved."
    mask = Variant("", "", "sil", tables.fraction)
    kinds = [Variant("aligned"), Variant("attacked")]
    kinds += [mask._replace(kind="frozen"), mask._replace(kind="rewound")]
    sheets = (pair_sheet(tables, kinds, "Violations: free, frozen and rewound"),)
    picture = figures.render(charts.draw_freeze, "freeze", tables)
    caption = "Violations in the attacked language and in the others (mean)"
    return Section(
        "freeze",
        "Does freezing these weights stop the attack?",
        lead,
        (Figure("freeze", caption, picture),),
        (*sheets, proof_sheet(proof)) if proof else sheets,
    )


def _overlap(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    rows = list(results.get("overlap") or ())
    title = "Do different languages depend on the same weights?"
    if not rows:
        if len(tables.attacked) != 1 or not methods(tables):
            return None
        lead = "Only one language was attacked, so there are no two masks to compare."
        return Section("overlap", title, lead)
    lead = (
        "Jaccard overlap of the masks SIL finds for two attack languages: the weights in both, as "
        "a share of those in either. Two random masks of that size share what chance gives."
    )
    dots = overlap_dots(rows, tables.fraction)
    drawn: tuple[Figure, ...] = ()
    if len(dots) > _MOST_DOTS:
        drawn = (_heat_figure("overlap", overlap_heat(dots)),)
    elif dots:
        picture = figures.render(charts.draw_overlap, "overlap", dots)
        drawn = (Figure("overlap", "Overlap of each pair of masks", picture),)
    return Section("overlap", title, lead, drawn, (overlap_sheet(rows),))


def _where(tables: Tables, results: Mapping[str, Any]) -> Section | None:
    rows = list(results.get("mask_profile") or ())
    heats = mask_heats(rows, tables.fraction)
    if not heats:
        return None
    lead = (
        "Colour: how much of each module the mask selects, over all attack languages and seeds. "
        "Last column and row: how much of the mask lies there. The two differ, since a small "
        "module can be selected whole and still hold little of the mask."
    )
    drawn = tuple(_heat_figure(f"mask_{index + 1}", heat) for index, heat in enumerate(heats))
    return Section("where", "Where do these weights lie?", lead, drawn, (mask_sheet(rows),))


def _utility(tables: Tables) -> Section | None:
    heat = utility_heat(tables)
    if heat is None:
        return None
    lead = (
        "Safety and usefulness side by side, because a broken model looks safe. “Not refused” "
        "counts every reply that is no refusal, “violations” only those that answer. Colour shows "
        "how large a share is, not whether that is good."
    )
    sheets = tuple(every_rate(tables, metric=metric) for metric in tables.metrics)
    return Section("utility", "What else changed?", lead, (_heat_figure("utility", heat),), sheets)


def _loss(results: Mapping[str, Any]) -> Section | None:
    runs = [run for run in results.get("attack_loss") or () if run["loss"]]
    if not runs:
        return None
    picture = figures.render(charts.draw_loss, "loss", runs)
    figure = Figure("loss", "Loss on the restricted pairs, step by step", picture)
    return Section(
        "loss",
        "How did the attacks train?",
        "An attack whose loss did not fall says little about the model.",
        (figure,),
        (loss_sheet(runs),),
    )


def _heat_figure(name: str, heat: Heat) -> Figure:
    return Figure(name, heat.caption, figures.render_heat(heat), heat)
