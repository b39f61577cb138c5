"""Where the masks lie and how much they share: heat tables, dots and the tables behind them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from jaxattack.report.grids import Cell, Header, Heat, Sheet, language_header
from jaxattack.report.languages import language_name
from jaxattack.report.tables import METHOD_NAMES, parse_variant, percent, share

_OUTSIDE = "outside layers"

Rows = Sequence[Mapping[str, Any]]


class Dot(NamedTuple):
    """The overlap of the masks of two languages: mean, lowest and highest seed, and chance."""

    a: str
    b: str
    value: float
    low: float
    high: float
    chance: float


def mask_heats(rows: Rows, fraction: float | None) -> list[Heat]:
    """Layer x module density of SIL's mask, and of the magnitude mask where it was profiled."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        method, size = _parse_mask(row["mask"])
        if fraction is None or size in (None, fraction):
            groups[method].append(row)
    # A matched control has SIL's profile by construction, a uniform one has none.
    shown = [name for name in ("sil", "magnitude") if name in groups] or list(groups)[:1]
    sums = [_by_place(groups[name]) for name in shown]
    # One scale for all, or the eye would compare what cannot be compared.
    top = max((part / max(total, 1) for s in sums for part, total in s.values()), default=1.0)
    return [_mask_heat(name, groups[name], fraction, top or 1.0) for name in shown]


def mask_sheet(rows: Rows) -> Sheet:
    """One line per mask, seed and module, summed over layers."""
    keys = [(row["mask"], str(row.get("seed") or 0), row["module"]) for row in rows]
    return Sheet(
        "Selected weights by mask and module, all layers together",
        ("mask", "seed", "module", "selected", "of", "share"),
        tuple(
            (*key, f"{selected:,}", f"{total:,}", percent(selected / max(total, 1), 1))
            for key, (selected, total) in _sums(rows, keys).items()
        ),
    )


def overlap_dots(rows: Rows, fraction: float | None) -> list[Dot]:
    """SIL's pairs at one fraction, most shared first, seeds averaged."""
    chosen = [row for row in rows if row["method"] == "sil"]
    chosen = [row for row in chosen if row["fraction"] == fraction] or chosen
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in chosen:
        groups[row["a"], row["b"]].append(row)
    dots: list[Dot] = []
    for (a, b), found in groups.items():
        values = [row["jaccard"] for row in found]
        chance = fmean(row["chance"] for row in found)
        dots.append(Dot(a, b, fmean(values), min(values), max(values), chance))
    return sorted(dots, key=lambda dot: (-dot.value, dot.a, dot.b))


def overlap_heat(dots: Sequence[Dot]) -> Heat:
    """The same as a matrix, for more pairs than one wants to see below each other."""
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


def overlap_sheet(rows: Rows) -> Sheet:
    """Every measured overlap."""
    return Sheet(
        "Overlap of masks",
        ("masks of", "and", "method", "size", "Jaccard", "by chance", "seed"),
        tuple(
            (
                language_name(row["a"]),
                language_name(row["b"]),
                METHOD_NAMES.get(row["method"]) or str(row["method"]),
                share(row["fraction"]),
                f"{row['jaccard']:.3f}",
                f"{row['chance']:.3f}",
                str(row.get("seed") or 0),
            )
            for row in rows
        ),
    )


def _mask_heat(name: str, rows: Rows, fraction: float | None, top: float) -> Heat:
    cells = _by_place(rows)
    numbers = sorted({row["layer"] for row in rows if row.get("layer") is not None})
    layers = [f"layer {number}" for number in numbers]
    layers += [_OUTSIDE] if any(row.get("layer") is None for row in rows) else []
    modules = list(dict.fromkeys(row["module"] for row in rows))
    selected = max(sum(row["selected"] for row in rows), 1)
    body = []
    for layer in layers:
        row = [_density_cell(cells.get((layer, m)), f"{layer}, {m}") for m in modules]
        inside = sum(part for (place, _), (part, _) in cells.items() if place == layer)
        body.append((*row, _share_cell(inside / selected, layer)))
    by_module = {m: sum(p for (_, k), (p, _) in cells.items() if k == m) for m in modules}
    last = [_share_cell(by_module[module] / selected, module) for module in modules]
    body.append((*last, _share_cell(1.0, "all weights")))
    size = "" if fraction is None else f", {share(fraction)} of the weights"
    return Heat(
        caption=f"Mask of {METHOD_NAMES.get(name, name)}{size}: per cent of each module selected",
        corner="layer ↓ module →",
        columns=(*(Header(*_module_lines(module)) for module in modules), Header("of mask")),
        rows=(*(Header(layer) for layer in layers), Header("of mask")),
        cells=tuple(body),
        ramp="density",
        top=top,
    )


def _parse_mask(name: str) -> tuple[str, float | None]:
    """`sil/en@0.2` -> ("sil", 0.2): a mask's name puts the method first, a variant's last."""
    method, _, rest = name.partition("/")
    language, _, fraction = rest.partition("@")
    return method, parse_variant(f"mask/{language}/{method}@{fraction}").fraction


def _by_place(rows: Rows) -> dict[tuple[str, ...], tuple[int, int]]:
    layers = (row.get("layer") for row in rows)
    places = [_OUTSIDE if layer is None else f"layer {layer}" for layer in layers]
    return _sums(rows, zip(places, (row["module"] for row in rows), strict=True))


def _density_cell(sums: tuple[int, int] | None, what: str) -> Cell:
    if sums is None:
        return Cell("", f"{what}: no such weights")
    selected, total = sums
    density = selected / max(total, 1)
    tip = f"{what}: {selected:,} of {total:,} weights selected ({percent(density, 1)})"
    return Cell(percent(density).removesuffix("\u00a0%"), tip, density)


def _share_cell(part: float, what: str) -> Cell:
    text = percent(part).removesuffix("\u00a0%")
    return Cell(text, f"{what}: {percent(part, 1)} of the selected weights lie here")


def _module_lines(module: str) -> tuple[str, str]:
    first, _, second = module.partition("/")
    return first, second


def _sums(rows: Rows, keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[int, int]]:
    sums: dict[tuple[str, ...], tuple[int, int]] = {}
    for key, row in zip(keys, rows, strict=True):
        selected, total = sums.get(key, (0, 0))
        sums[key] = (selected + row["selected"], total + row["total"])
    return sums
