"""How much masks share: pairs of languages, other pairs beside them, layer by layer."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from jaxattack.report.grids import Cell, Header, Heat, Sheet, language_header
from jaxattack.report.languages import language_name
from jaxattack.report.masks import layer_name, module_lines
from jaxattack.report.variants import METHOD_NAMES, share

Rows = Sequence[Mapping[str, Any]]

_KINDS = {"seeds": "two seeds", "benign": "safety, benign", "restitched": "first, after freezing"}


class Dot(NamedTuple):
    """The overlap of the masks of two languages: mean, lowest and highest seed, and chance."""

    a: str
    b: str
    value: float
    low: float
    high: float
    chance: float
    null: tuple[float, float] | None = None


class Strip(NamedTuple):
    """One kind of pairs of masks: every pair's overlap, what chance gives and its 95 %."""

    name: str
    values: tuple[float, ...]
    chance: float
    null: tuple[float, float] | None = None


def at_size(rows: Rows, fraction: float | None, method: str = "sil") -> Rows:
    """The rows of a method at one size of mask, or at all sizes where that one is missing."""
    chosen = [row for row in rows if row["method"] == method]
    return [row for row in chosen if row["fraction"] == fraction] or chosen


def overlap_dots(rows: Rows, fraction: float | None) -> list[Dot]:
    """SIL's pairs at one fraction, most shared first, seeds averaged."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in at_size(rows, fraction):
        groups[row["a"], row["b"]].append(row)
    dots: list[Dot] = []
    for (a, b), found in groups.items():
        values = [row["jaccard"] for row in found]
        bounds = min(values), max(values)
        dots.append(Dot(a, b, fmean(values), *bounds, _chance(found), _null(found)))
    return sorted(dots, key=lambda dot: (-dot.value, dot.a, dot.b))


def strips(rows: Rows, fraction: float | None) -> list[Strip]:
    """Every kind of pairs of masks at one fraction; seeds stay apart."""
    benign = at_size(rows, fraction, "benign")
    kinds = {
        "two seeds,\none language": at_size(rows, fraction, "seeds"),
        "before and after\nfreezing": at_size(rows, fraction, "restitched"),
        "two languages": at_size(rows, fraction),
        "safety and benign,\none language": [row for row in benign if row["a"] == row["b"]],
        "safety and benign,\ntwo languages": [row for row in benign if row["a"] != row["b"]],
    }
    return [
        Strip(name, tuple(row["jaccard"] for row in found), _chance(found), _null(found))
        for name, found in kinds.items()
        if found
    ]


def overlap_heat(dots: Sequence[Dot]) -> Heat:
    """The pairs of languages as a matrix, for more than one wants to see below each other."""
    codes = sorted({code for dot in dots for code in (dot.a, dot.b)})
    found = {pair: dot for dot in dots for pair in ((dot.a, dot.b), (dot.b, dot.a))}
    cells = []
    for a in codes:
        row = []
        for b in codes:
            dot, what = found.get((a, b)), f"{language_name(a)} and {language_name(b)}"
            if dot is None:
                row.append(Cell("", what))
            else:
                tip = f"{what}: {dot.value:.3f}, by chance {dot.chance:.3f}"
                tip += f"; random masks {dot.null[0]:.3f} to {dot.null[1]:.3f}" if dot.null else ""
                tip += f"; seeds {dot.low:.3f} to {dot.high:.3f}" if dot.low < dot.high else ""
                row.append(Cell(f"{dot.value:.2f}", tip, dot.value))
        cells.append(tuple(row))
    return Heat(
        caption=f"Jaccard overlap of two masks (by chance {dots[0].chance:.2f})",
        corner="masks of",
        columns=tuple(language_header(code) for code in codes),
        rows=tuple(language_header(code) for code in codes),
        cells=tuple(cells),
        ramp="density",
        top=max(dot.value for dot in dots),
    )


def place_heat(rows: Rows) -> Heat | None:
    """Layer x module overlap of two languages' masks, mean over pairs and seeds."""
    groups: dict[tuple[int | None, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row.get("layer"), row["module"]].append(row)
    if not groups:
        return None
    layers = sorted({layer for layer, _ in groups}, key=lambda n: (n is None, n or 0))
    modules = list(dict.fromkeys(row["module"] for row in rows))
    means = {place: fmean(row["jaccard"] for row in found) for place, found in groups.items()}
    body = []
    for layer in layers:
        cells = []
        for module in modules:
            what, value = f"{layer_name(layer)}, {module}", means.get((layer, module))
            if value is None:
                cells.append(Cell("", f"{what}: no such weights"))
                continue
            chance = _chance(groups[layer, module])
            tip = f"{what}: {value:.3f}, by chance {chance:.3f}"
            tip += f" ({value / chance:.1f} times)" if chance > 0 else ""
            cells.append(Cell(f"{value:.2f}", tip, value))
        body.append(tuple(cells))
    return Heat(
        caption="Jaccard overlap of two languages’ masks, by layer and module",
        corner="layer ↓ module →",
        columns=tuple(Header(*module_lines(module)) for module in modules),
        rows=tuple(Header(layer_name(layer)) for layer in layers),
        cells=tuple(body),
        ramp="density",
        top=max(means.values()) or 1.0,
    )


def overlap_sheet(rows: Rows) -> Sheet:
    """Every measured overlap."""
    return Sheet(
        "Overlap of masks",
        ("masks of", "and", "method", "size", "Jaccard", "by chance", "random, 95 %", "seed"),
        tuple(
            (
                language_name(row["a"]),
                language_name(row["b"]),
                _KINDS.get(row["method"]) or METHOD_NAMES.get(row["method"]) or str(row["method"]),
                share(row["fraction"]),
                f"{row['jaccard']:.3f}",
                f"{row['chance']:.3f}",
                " to ".join(f"{bound:.3f}" for bound in _null([row]) or ()),
                str(row.get("seed") or 0),
            )
            for row in rows
        ),
    )


def _chance(rows: Iterable[Mapping[str, Any]]) -> float:
    return fmean(row["chance"] for row in rows)


def _null(rows: Iterable[Mapping[str, Any]]) -> tuple[float, float] | None:
    """What covers the 95 % of random masks of every row; None if a row lacks it."""
    bounds = [(row.get("null_low"), row.get("null_high")) for row in rows]
    lows = [low for low, high in bounds if low is not None and high is not None]
    highs = [high for low, high in bounds if low is not None and high is not None]
    return (min(lows), max(highs)) if lows and len(lows) == len(bounds) else None
