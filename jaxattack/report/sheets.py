"""The plain tables behind the pictures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxattack.report.grids import Sheet
from jaxattack.report.languages import language_name
from jaxattack.report.tables import (
    METRIC_NAMES,
    VIOLATION,
    Rate,
    Tables,
    Variant,
    for_language,
    pairs,
    parse_variant,
    percent,
    variant_label,
)


def every_rate(tables: Tables, kinds: Iterable[str] = (), metric: str = VIOLATION) -> Sheet:
    """Every measured cell of a metric, of all variants or only of some kinds."""
    wanted = set(kinds)
    rows = [
        (name, language_name(code), *_columns(rate, tables.seeds))
        for variant, name in tables.variants.items()
        if not wanted or variant.kind in wanted
        for code in tables.languages
        if (rate := tables.rate(variant, code, metric))
    ]
    title = METRIC_NAMES.get(metric, metric)
    columns = ("model", "asked in", *_header(title, "95 % interval", tables.seeds))
    return Sheet(f"All cells: {title}", columns, tuple(rows))


def pair_sheet(tables: Tables, kinds: Iterable[Variant], caption: str) -> Sheet:
    """Violations in the attacked language and their mean in the others, attack by attack."""
    rows = []
    for kind in kinds:
        for language, pair in pairs(tables, kind).items():
            name = tables.variants[for_language(kind, language)]
            measured = (cell for rate in pair for cell in _columns(rate, tables.seeds))
            rows.append((name, language_name(language), *measured))
    own = _header("in its language", "95 % interval", tables.seeds)
    others = _header("others (mean)", "lowest to highest", tables.seeds)
    return Sheet(caption, ("model", "attack", *own, *others), tuple(rows))


def proof_sheet(proof: Iterable[Mapping[str, Any]]) -> Sheet:
    """How many frozen weights moved."""
    rows = [
        (row["variant"], _seed(row), f"{row['frozen']:,}", f"{row['moved']:,}") for row in proof
    ]
    return Sheet("Frozen weights that moved", ("model", "seed", "frozen", "moved"), tuple(rows))


def loss_sheet(runs: Iterable[Mapping[str, Any]]) -> Sheet:
    """First, lowest and last loss of every attack."""
    rows = []
    for run in runs:
        loss = run["loss"]
        ends = (f"{value:.3g}" for value in (loss[0], min(loss), loss[-1]))
        label = variant_label(parse_variant(run["variant"]))
        rows.append((label, _seed(run), str(len(loss)), *ends))
    columns = ("model", "seed", "steps", "first", "lowest", "last")
    return Sheet("Loss of every attack", columns, tuple(rows))


def _header(value: str, bounds: str, seeds: Sequence[int]) -> tuple[str, ...]:
    if len(seeds) < 2:
        return value, bounds, "n"
    return value, bounds, "n", f"seed {' / '.join(str(seed) for seed in seeds)}"


def _columns(rate: Rate | None, seeds: Sequence[int]) -> tuple[str, ...]:
    several = len(seeds) > 1
    if rate is None:
        return ("not measured", "", "", *([""] * several))
    bounds = ""
    if rate.low is not None and rate.high is not None:
        bounds = f"{percent(rate.low, 1)} to {percent(rate.high, 1)}"
    known = dict(rate.seeds)
    by_seed = (percent(known[s], 1).removesuffix("\u00a0%") if s in known else "–" for s in seeds)
    columns = (percent(rate.value, 1), bounds, str(rate.n))
    return (*columns, " / ".join(by_seed) if known else "") if several else columns


def _seed(row: Mapping[str, Any]) -> str:
    return "" if row.get("seed") is None else str(row["seed"])
