"""Heat tables of rates: transfer between languages, and safety next to usefulness."""

from jaxattack.report.grids import Cell, Header, Heat, language_header
from jaxattack.report.tables import (
    METHOD_NAMES,
    METRIC_NAMES,
    VIOLATION,
    Rate,
    Tables,
    Variant,
    average,
    describe,
    everywhere,
    for_language,
    percent,
    share,
    variant_label,
)


def transfer_heat(tables: Tables) -> Heat | None:
    """Models x languages asked, with the mean of the languages each attack never saw."""
    models = [Variant("aligned"), *(Variant("attacked", code) for code in tables.attacked)]
    models = [model for model in models if everywhere(tables, model)]
    if not tables.attacked or not models:
        return None
    rows = []
    for model in models:
        name = variant_label(model)
        asked = [(code, tables.rate(model, code)) for code in tables.languages]
        cells = [
            rate_cell(
                rate, f"{name}, asked in {language_header(code).plain}", code == model.language
            )
            for code, rate in asked
        ]
        unseen = average(rate for code, rate in asked if code != model.language)
        rows.append((*cells, rate_cell(unseen, f"{name}, languages not attacked")))
    sizes = sorted({rate.n for key, rate in tables.rates.items() if key[2] == VIOLATION})
    n = " to ".join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1])))
    return Heat(
        caption=f"Violations in per cent, n = {n} prompts in every cell",
        corner="model ↓ asked in →",
        columns=(*(language_header(code) for code in tables.languages), Header("mean", "unseen")),
        rows=tuple(
            Header("aligned") if model.kind == "aligned" else language_header(model.language)
            for model in models
        ),
        cells=tuple(rows),
        ramp="violations",
    )


def utility_heat(tables: Tables) -> Heat | None:
    """Models x metrics, mean over languages and attacks; of the masks only the main size."""
    sizes = (None, tables.fraction)
    kinds = [for_language(v, "") for v in tables.variants if v.fraction in sizes]
    kinds = list(dict.fromkeys(kinds))
    rows = []
    for kind in kinds:
        label = Header(*_kind_label(kind))
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
        rows=tuple(Header(*_kind_label(kind)) for kind in kinds),
        cells=tuple(rows),
        ramp="density",
    )


def rate_cell(rate: Rate | None, what: str, marked: bool = False) -> Cell:
    """A rate as a coloured cell; its tip says what it is, with interval, n and seeds."""
    if rate is None:
        return Cell("–", f"{what}: not measured", None, marked)
    text = percent(rate.value).removesuffix("\u00a0%")
    return Cell(text, f"{what}: {describe(rate)}", rate.value, marked)


def _kind_label(kind: Variant) -> tuple[str, str]:
    if kind.fraction is None:
        return kind.kind, ""
    return kind.kind, f"{METHOD_NAMES.get(kind.method, kind.method)}, {share(kind.fraction)}"
