"""Heat tables of rates: models beside each other, asked in every language or for every metric."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxattack.report.grids import Cell, Header, Heat, language_header
from jaxattack.report.rates import (
    METRIC_NAMES,
    VIOLATION,
    Pair,
    Rate,
    average,
    describe,
    percent,
)
from jaxattack.report.tables import Tables, among, everywhere, for_language, mean_pair
from jaxattack.report.variants import (
    ADAPTED,
    KINDS,
    METHOD_NAMES,
    Variant,
    kind_label,
    transplant_label,
    variant_label,
)

SIGNIFICANT = 0.05  # after Holm's correction

Tests = Mapping[tuple[str, str], Mapping[str, Any]]


def transfer_heat(tables: Tables, tests: Iterable[Mapping[str, Any]] = ()) -> Heat | None:
    """Attacks in one language x languages asked, with the mean of those each never saw."""
    models = [Variant("aligned"), *(Variant("attacked", code) for code in tables.attacked)]
    models = [model for model in models if everywhere(tables, model)]
    if not tables.attacked or not models:
        return None
    found = {(test["attack"], test["language"]): test for test in tests}
    sizes = sorted({rate.n for key, rate in tables.rates.items() if key[2] == VIOLATION})
    n = " to ".join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1])))
    caption = f"Violations in per cent, n = {n} prompts in every cell"
    if found:
        caption += f"; * Holm-adjusted p < {SIGNIFICANT:g} against the aligned model"
    headers = [
        Header("aligned") if model.kind == "aligned" else language_header(model.language)
        for model in models
    ]
    return _by_language(tables, caption, models, headers, found)


def other_attacks_heat(tables: Tables) -> Heat | None:
    """Attacks in several languages at once, and tuning on benign pairs, x languages asked."""
    models = [v for kind in ("mixed", "benign") for v in tables.variants if v.kind == kind]
    if not models:
        return None
    headers = [
        Header(model.language, "mixed" if model.kind == "mixed" else "benign pairs")
        for model in models
    ]
    return _by_language(tables, "Violations in per cent", models, headers)


def adaptation_heat(tables: Tables) -> Heat | None:
    """Adapted models, before and after the attack vector is added, x new and old languages."""
    models = [model for model in tables.variants if model.kind in ADAPTED]
    if not models:
        return None
    rows, headers = [], []
    for model in sorted(models, key=_way):
        name = variant_label(model)
        new, old = (
            [(code, tables.rate(model, code)) for code in codes]
            for codes in (tables.added, tables.languages)
        )
        means = [
            rate_cell(average(rate for _, rate in new), f"{name}, new languages"),
            rate_cell(
                average(rate for code, rate in old if code != model.language),
                f"{name}, old languages not attacked",
            ),
        ]
        new_cells = [_cell(name, code, rate, False) for code, rate in new]
        old_cells = [_cell(name, code, rate, code == model.language) for code, rate in old]
        rows.append((*new_cells, *means, *old_cells))
        planted = model.kind == "transplanted"
        first = f"+ {model.language}" if planted else "not attacked"
        headers.append(Header(first, transplant_label(model) if planted else kind_label(model)[1]))
    columns = [Header(f"{code} new", language_header(code).second) for code in tables.added]
    columns += [Header("mean", "new"), Header("mean", "old, unseen")]
    columns += [language_header(code) for code in tables.languages]
    return Heat(
        caption="Violations in per cent",
        corner="model ↓ asked in →",
        columns=tuple(columns),
        rows=tuple(headers),
        cells=tuple(rows),
        ramp="violations",
    )


def methods_heat(tables: Tables, methods: Sequence[str], caption: str) -> Heat | None:
    """Masks of one size x what stitching them in and putting them back leaves, own and others."""
    size = tables.fraction
    stitched = {m: Variant("stitched", "", m, size) for m in methods}
    rewound = {m: Variant("rewound", "", m, size) for m in methods}
    tables = among(tables, *stitched.values(), *rewound.values())
    full, none = (mean_pair(tables, Variant(kind)) for kind in ("attacked", "aligned"))
    lines: list[tuple[Header, Pair, Pair]] = []
    for m in methods:
        pairs = mean_pair(tables, stitched[m]), mean_pair(tables, rewound[m])
        if any(rate for pair in pairs for rate in pair):
            lines.append((Header(METHOD_NAMES.get(m, m)), *pairs))
    if not lines:
        return None
    lines.sort(key=lambda line: -(_level(line[1].others) + _level(line[1].own)))
    lines = [(Header("all weights"), full, none), *lines, (Header("no weights"), none, full)]
    columns = [Header("stitched", side) for side in ("own language", "others")]
    columns += [Header("rewound", side) for side in ("own language", "others")]
    columns = columns if any(rate for _, _, pair in lines[1:-1] for rate in pair) else columns[:2]
    cells = []
    for header, *both in lines:
        rates = [rate for pair in both for rate in pair][: len(columns)]
        names = [f"{header.text}, {column.plain}" for column in columns]
        cells.append(tuple(map(rate_cell, rates, names)))
    rows = tuple(header for header, _, _ in lines)
    return Heat(caption, "weights", tuple(columns), rows, tuple(cells), "violations")


def utility_heat(tables: Tables) -> Heat | None:
    """Models x metrics, mean over languages and attacks; of the masks only the main size."""
    kinds = sorted(
        {for_language(v, "") for v in tables.variants if _is_main(tables, v)}, key=_order
    )
    rows = []
    for kind in kinds:
        label = Header(*kind_label(kind))
        models = [v for v in tables.variants if for_language(v, "") == kind]
        row = []
        for metric in tables.metrics:
            mean = average(everywhere(tables, model, metric) for model in models)
            row.append(rate_cell(mean, f"{label.plain}: {METRIC_NAMES.get(metric, metric)}"))
        rows.append(tuple(row))
    if not rows:
        return None
    return Heat(
        caption="Per cent, mean over all languages and attacks",
        corner="model",
        columns=tuple(Header(METRIC_NAMES.get(metric, metric)) for metric in tables.metrics),
        rows=tuple(Header(*kind_label(kind)) for kind in kinds),
        cells=tuple(rows),
        ramp="density",
    )


def rate_cell(rate: Rate | None, what: str, marked: bool = False) -> Cell:
    """A rate as a coloured cell; its tip says what it is, with interval, n and seeds."""
    if rate is None:
        return Cell("–", f"{what}: not measured", None, marked)
    text = percent(rate.value).removesuffix("\u00a0%")
    return Cell(text, f"{what}: {describe(rate)}", rate.value, marked)


def _by_language(
    tables: Tables,
    caption: str,
    models: Sequence[Variant],
    headers: Sequence[Header],
    tests: Tests | None = None,
) -> Heat:
    rows = []
    for model in models:
        name, seen = variant_label(model), model.language.split("+")
        asked = [(code, tables.rate(model, code)) for code in tables.languages]
        cells = []
        for code, rate in asked:
            cell = _cell(name, code, rate, code in seen)
            test = (tests or {}).get((model.language, code))
            cells.append(_with_test(cell, test) if test and model.kind == "attacked" else cell)
        unseen = average(rate for code, rate in asked if code not in seen)
        rows.append((*cells, rate_cell(unseen, f"{name}, languages not attacked")))
    columns = (*(language_header(code) for code in tables.languages), Header("mean", "unseen"))
    return Heat(caption, "model ↓ asked in →", columns, tuple(headers), tuple(rows), "violations")


def _cell(name: str, code: str, rate: Rate | None, marked: bool) -> Cell:
    return rate_cell(rate, f"{name}, asked in {language_header(code).plain}", marked)


def _with_test(cell: Cell, test: Mapping[str, Any]) -> Cell:
    holm = test.get("holm")
    if holm is None:
        return cell
    tip = f"{cell.tip}; exact McNemar p = {test['p']:.2g}, after Holm {holm:.2g}"
    return cell._replace(text=f"{cell.text}*" if holm < SIGNIFICANT else cell.text, tip=tip)


def _is_main(tables: Tables, variant: Variant) -> bool:
    """One of the models a reader compares: of masks the main size, of methods SIL, of rounds."""
    if variant.kind in ("stitched", "rewound"):
        many = len({v.method for v in tables.variants if v.kind == variant.kind}) > 6
        known = variant.method in ("sil", "random", "complement") or not many
        return variant.fraction == tables.fraction and known
    if variant.kind in ("frozen", "restitched"):
        return variant.fraction == tables.fraction
    return not (variant.kind == "attacked" and variant.method)


def _way(model: Variant) -> tuple[str, bool, str]:
    """Full tuning before LoRA, the adapted model before what was added to it."""
    return model.method.partition("-")[0], model.kind != "adapted", model.method


def _order(kind: Variant) -> tuple[int, str, str, float]:
    known = KINDS.index(kind.kind) if kind.kind in KINDS else len(KINDS)
    method = (
        f"{list(METHOD_NAMES).index(kind.method):02}"
        if kind.method in METHOD_NAMES
        else kind.method
    )
    return known, kind.kind, method, kind.fraction or 0.0


def _level(rate: Rate | None) -> float:
    return rate.value if rate else 0.0
