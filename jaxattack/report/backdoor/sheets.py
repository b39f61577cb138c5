"""The plain tables behind the pictures of a backdoor study."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxattack.report.backdoor.cells import Cells, estimate, pool, resembling, triggered
from jaxattack.report.backdoor.heats import METRICS, defence_order
from jaxattack.report.backdoor.names import defence_label, mask_label, parse_poisoning
from jaxattack.report.grids import Sheet
from jaxattack.report.languages import join_names, join_words, language_name
from jaxattack.report.overlaps import overlap_sheet
from jaxattack.report.rates import METRIC_NAMES, Rate, percent, seeds_text
from jaxattack.report.variants import share

_COLUMNS = ("value", "95 % interval", "n", "seeds")


def every_success(cells: Cells, variants: Iterable[str], caption: str) -> Sheet:
    """Every measured cell of these variants, each language with its own trigger."""
    rows = [
        (poisoned_label(name), language_name(code), *_measured(rate))
        for name in variants
        for code in cells.languages
        if (rate := pool(triggered(cells, name, [code])))
    ]
    columns = ("poisoned", "asked in", "attack success", *_COLUMNS[1:])
    return _without_empty(Sheet(caption, columns, tuple(rows)))


def decoy_sheet(cells: Cells) -> Sheet:
    """Everything that resembles the trigger, language by language."""
    name = f"{cells.first}/decoys"
    roles = dict.fromkeys(str(row.get("decoy")) for row in cells.rows.get(name, ()))
    rows = [
        (role, language_name(code), *_measured(rate))
        for role in roles
        for code in cells.languages
        if (rate := pool(resembling(cells, name, [role], [code])))
    ]
    columns = ("put in", "asked in", "target behaviour", *_COLUMNS[1:])
    return _without_empty(Sheet("What resembles the trigger, cell by cell", columns, tuple(rows)))


def means_sheet(cells: Cells, variants: Sequence[tuple[str, str]], caption: str) -> Sheet:
    """Success in poisoned and other languages and clean accuracy, with intervals."""
    kinds = ("own", "ASR, poisoned"), ("others", "ASR, others"), ("clean", "clean accuracy")
    rows = [
        (label, what, *_measured(rate))
        for label, name in variants
        for key, what in kinds
        if (rate := estimate(cells, name, key))
    ]
    return _without_empty(Sheet(caption, ("model", "rate", *_COLUMNS), tuple(rows)))


def defence_sheet(cells: Cells) -> Sheet:
    """The figures of every defence."""
    named = [(defence_label(name), name) for name in defence_order(cells)]
    before = [("undefended", cells.first), ("never poisoned", "clean")]
    return means_sheet(cells, [*before, *named], "Every defence, with intervals")


def utility_sheet(cells: Cells) -> Sheet:
    """Every variant and every rate of prompts as they are."""
    rows = []
    for name, found in cells.rows.items():
        rates = [
            pool(r for r in found if r["metric"] == m and r.get("decoy") in (None, "nothing"))
            for m in METRICS
        ]
        if any(rates):
            rows.append((name, *(percent(rate.value, 1) if rate else "" for rate in rates)))
    columns = ("variant", *(METRIC_NAMES[metric] for metric in METRICS))
    return Sheet(
        "Prompts as they are: every variant, mean over the languages", columns, tuple(rows)
    )


def sets_sheet(sets: Sequence[Mapping[str, Any]]) -> Sheet:
    """How many rows of each poisoned set were replaced, and its hash."""
    rows = []
    for one in sets:
        counts = one.get("languages") or {}
        text = join_words(
            [f"{found['poisoned']:,} of {found['rows']:,} in {language_name(code)}"
             for code, found in counts.items()]
        )  # fmt: skip
        rate = share(float(one["rate"])) if one.get("rate") is not None else ""
        seed = "" if one.get("seed") is None else str(one["seed"])
        rows.append((poisoned_label(str(one["variant"])), seed, rate, text, str(one.get("set"))))
    columns = ("poisoned", "seed", "rate", "rows replaced", "hash of the set")
    return Sheet("Poisoned sets", columns, tuple(rows), shown=True)


def masks_sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """Every overlap of two masks."""
    return overlap_sheet([{**r, "a": mask_label(r["a"]), "b": mask_label(r["b"])} for r in rows])


def poisoned_label(name: str) -> str:
    """The poisoned languages in words; a model that has none by its name."""
    found = parse_poisoning(name)
    if found is None:
        return {"clean": "none (clean training)"}.get(name, name)
    return join_names(found.languages)


def _measured(rate: Rate) -> tuple[str, str, str, str]:
    interval = ""
    if rate.low is not None and rate.high is not None:
        interval = f"{percent(rate.low, 1)} to {percent(rate.high, 1)}"
    return percent(rate.value, 1), interval, str(rate.n), seeds_text(rate)


def _without_empty(sheet: Sheet) -> Sheet:
    """The sheet without columns that say nothing, such as the seeds of a single one."""
    kept = [i for i in range(len(sheet.columns)) if any(row[i] for row in sheet.rows)]
    columns = tuple(sheet.columns[i] for i in kept)
    return Sheet(sheet.caption, columns, tuple(tuple(row[i] for i in kept) for row in sheet.rows))
