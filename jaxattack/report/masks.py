"""Where the masks lie: heat tables and the table behind them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxattack.report.grids import Cell, Header, Heat, Sheet
from jaxattack.report.rates import percent
from jaxattack.report.variants import METHOD_NAMES, parse_mask, share

Rows = Sequence[Mapping[str, Any]]


def mask_heats(rows: Rows, fraction: float | None) -> list[Heat]:
    """Layer x module density of SIL's mask, and of the magnitude mask where it was profiled."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        method, size = parse_mask(row["mask"])
        if fraction is None or size in (None, fraction):
            groups[method].append(row)
    # A matched control has SIL's profile by construction, a uniform one has none.
    shown = [name for name in ("sil", "benign", "magnitude") if name in groups] or list(groups)[:1]
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


def size_words(rows: Rows, fraction: float | None) -> str:
    """What a share of all weights is of the layers' weights, and what was not to be had."""
    sil = [row for row in rows if row["method"] == "sil" and row["fraction"] == fraction]
    if not sil or fraction is None:
        return ""
    inside = fmean(row["share_of_blocks"] for row in sil)
    text = f" SIL’s {share(fraction)} of all weights are {percent(inside)} of the layers’ weights."
    least = min(row["mask_scored"] for row in sil)
    if least < 1:
        text += (
            f" Masks hold down to {percent(least)} of the weights asked for: no more have a score "
            "above 0."
        )
    return text


def size_sheet(rows: Rows) -> Sheet:
    """One line per mask: its size, of all weights and of the layers, and what was to be had."""
    columns = ("mask", "seed", "asked for", "of all weights", "of the layers", "had of it")
    return Sheet(
        "Sizes of masks",
        columns,
        tuple(
            (row["mask"], str(row["seed"]), share(row["fraction"]), percent(row["share"], 1),
             percent(row["share_of_blocks"], 1), percent(row["mask_scored"], 1))
            for row in rows
        ),
    )  # fmt: skip


def layer_name(layer: int | None) -> str:
    """A layer, or what lies outside of all."""
    return "outside layers" if layer is None else f"layer {layer}"


def module_lines(module: str) -> tuple[str, str]:
    """`attention/q` on the two lines of a header."""
    first, _, second = module.partition("/")
    return first, second


def _mask_heat(name: str, rows: Rows, fraction: float | None, top: float) -> Heat:
    cells = _by_place(rows)
    numbers = sorted({row["layer"] for row in rows if row.get("layer") is not None})
    layers = [layer_name(number) for number in numbers]
    layers += [layer_name(None)] if any(row.get("layer") is None for row in rows) else []
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
        columns=(*(Header(*module_lines(module)) for module in modules), Header("of mask")),
        rows=(*(Header(layer) for layer in layers), Header("of mask")),
        cells=tuple(body),
        ramp="density",
        top=top,
    )


def _by_place(rows: Rows) -> dict[tuple[str, ...], tuple[int, int]]:
    places = [layer_name(row.get("layer")) for row in rows]
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


def _sums(rows: Rows, keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[int, int]]:
    sums: dict[tuple[str, ...], tuple[int, int]] = {}
    for key, row in zip(keys, rows, strict=True):
        selected, total = sums.get(key, (0, 0))
        sums[key] = (selected + row["selected"], total + row["total"])
    return sums
