"""The plain tables behind the pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxattack.report.grids import Sheet
from jaxattack.report.languages import join_names, language_name
from jaxattack.report.rates import METRIC_NAMES, Rate, percent
from jaxattack.report.tables import Tables, everywhere, for_language, pairs
from jaxattack.report.variants import Variant, parse_variant, variant_label

Rows = Iterable[Mapping[str, Any]]


def every_rate(tables: Tables, wanted: Callable[[Variant], bool]) -> Sheet:
    """Every measured cell of violations, of the variants wanted."""
    rows = [
        (name, language_name(code), *_columns(rate, tables.seeds))
        for variant, name in tables.variants.items()
        if wanted(variant)
        for code in (*tables.languages, *tables.added)
        if (rate := tables.rate(variant, code))
    ]
    columns = ("model", "asked in", *_header("violations", "95 % interval", tables.seeds))
    return Sheet("All cells: violations", columns, tuple(rows))


def utility_sheet(tables: Tables) -> Sheet:
    """Every variant and every metric; the cells of single languages are in `results.json`."""
    rows = []
    for variant, name in tables.variants.items():
        means = [everywhere(tables, variant, metric) for metric in tables.metrics]
        rows.append((name, *("" if mean is None else percent(mean.value, 1) for mean in means)))
    columns = ("model", *(METRIC_NAMES.get(metric, metric) for metric in tables.metrics))
    return Sheet("Every variant, mean over the languages", columns, tuple(rows))


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


def proof_sheet(proof: Rows) -> Sheet:
    """How many frozen weights moved."""
    rows = [
        (row["variant"], _seed(row), f"{row['frozen']:,}", f"{row['moved']:,}") for row in proof
    ]
    return Sheet("Frozen weights that moved", ("model", "seed", "frozen", "moved"), tuple(rows))


def loss_sheet(runs: Rows) -> Sheet:
    """First, lowest and last loss of every attack."""
    rows = []
    for run in runs:
        loss = run["loss"]
        ends = (f"{value:.3g}" for value in (loss[0], min(loss), loss[-1]))
        label = variant_label(parse_variant(run["variant"]))
        rows.append((label, _seed(run), str(len(loss)), *ends))
    columns = ("model", "seed", "steps", "first", "lowest", "last")
    return Sheet("Loss of every attack", columns, tuple(rows))


def sheet_of_tests(tests: Rows, caption: str = "Paired tests against the aligned model") -> Sheet:
    """Every paired test, by attack and language asked."""
    columns = ("attack", "asked in", "difference", "p of every seed", "largest p", "after Holm")
    rows = [
        (
            language_name(row["attack"]),
            language_name(row["language"]),
            percent(row["difference"], 1),
            " / ".join(f"{p:.2g}" for p in row.get("p_seeds") or ()),
            _small(row.get("p")),
            _small(row.get("holm")),
        )
        for row in tests
    ]
    return Sheet(caption, columns, tuple(rows))


def capacity_sheet(rounds: Rows) -> Sheet:
    """Every attack with all earlier masks frozen."""
    columns = ["attack", "seed", "round", "frozen before", "in its language", "others (mean)"]
    columns += ["frozen that moved", "left to move", "Jaccard with the earlier masks"]
    rows = [
        (
            language_name(row["language"]),
            _seed(row),
            str(row["round"]),
            percent(row["frozen_share"], 1),
            percent(row["own"], 1),
            percent(row["others"], 1),
            _whole(row.get("moved")),
            _whole(row.get("trainable_left")),
            _small(row.get("jaccard_with_union")),
        )
        for row in rounds
    ]
    return Sheet("Attack after attack", tuple(columns), tuple(rows))


def similarity_sheet(tests: Rows) -> Sheet:
    """Every correlation of similarity and transfer."""
    columns = ("measure", "layer", "ρ", "95 % interval", "p", "pairs")
    rows = []
    for row in tests:
        bounds = [row.get("low"), row.get("high")]
        interval = "" if None in bounds else " to ".join(f"{bound:.3f}" for bound in bounds)
        text = (str(row["measure"]), str(row["layer"]), f"{row['rho']:.3f}", interval)
        rows.append((*text, _small(row.get("p")), _whole(row.get("n"))))
    return Sheet("Correlation of similarity and transfer", columns, tuple(rows))


def adaptation_sheet(runs: Rows) -> Sheet:
    """How the models were adapted."""
    columns = ("how", "languages", "new tokens", "steps", "first loss", "last loss")
    rows = [
        (
            str(row["how"]),
            join_names(row["languages"]),
            _whole(row.get("new_tokens")),
            _whole(row.get("steps")),
            _small(row.get("loss_first")),
            _small(row.get("loss_last")),
        )
        for row in runs
    ]
    return Sheet("Adaptations", columns, tuple(rows))


def profile_sheet(kinds: Rows) -> Sheet:
    """Stages, their number and their time."""
    rows = [(str(r["kind"]), _whole(r.get("count")), f"{r['seconds']:,.1f}") for r in kinds]
    return Sheet("Time by kind of stage", ("stage", "how many", "seconds"), tuple(rows))


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


def _whole(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _small(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}"
