"""Result rows of a backdoor study -> rates one can look up, and their means over languages."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from jaxattack.evaluate.rates import OF_WEIGHTS, wilson
from jaxattack.report.backdoor.names import parse_poisoning
from jaxattack.report.rates import Rate, over_seeds
from jaxattack.report.variants import is_number

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cells:
    """All rows of a study, with the orders in which to show them.

    Attributes:
        rows: by variant, in the order of the results.
        languages: those asked.
        seeds: of training.
        attacks: the poisonings to be compared; defences are against the first.
        poisoned: the poisoned languages of each.
        summary: by variant, means with intervals over prompts and seeds.
    """

    rows: Mapping[str, Sequence[Row]]
    languages: tuple[str, ...]
    seeds: tuple[int, ...]
    attacks: tuple[str, ...]
    poisoned: Mapping[str, tuple[str, ...]]
    summary: Mapping[str, Row]

    @property
    def first(self) -> str:
        """The attack that others vary; empty if there is none."""
        return self.attacks[0] if self.attacks else ""

    @property
    def measured(self) -> list[str]:
        """The attacks that were measured."""
        return [name for name in self.attacks if name in self.rows]

    def own(self, variant: str) -> tuple[str, ...]:
        """The languages poisoned in a variant; those of the first attack where it has no own."""
        found = parse_poisoning(variant)
        return found.languages if found else self.poisoned.get(self.first, ())

    def others(self, variant: str) -> list[str]:
        """All languages asked but those."""
        return [code for code in self.languages if code not in self.own(variant)]

    def starting(self, prefix: str) -> list[str]:
        """Variants by the start of their name."""
        return [name for name in self.rows if name.startswith(prefix)]


def read(results: Mapping[str, Any]) -> Cells:
    """Index the rows; values that are no finite number (nothing was judged) are left out."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in results.get("rows") or ():
        if is_number(row.get("value")) and row["metric"] not in OF_WEIGHTS:
            rows[row["variant"]].append(row)
    known = [row["language"] for found in rows.values() for row in found]
    asked = [code for code in results.get("languages") or () if code in known]
    poisoned = {name: tuple(found) for name, found in (results.get("poisoned") or {}).items()}
    for name in results.get("attacks") or ():
        parsed = parse_poisoning(name)
        poisoned.setdefault(name, parsed.languages if parsed else ())
    return Cells(
        rows=dict(rows),
        languages=tuple(dict.fromkeys([*asked, *known])),
        seeds=tuple(results.get("seeds") or ()),
        attacks=tuple(results.get("attacks") or poisoned),
        poisoned=poisoned,
        summary={row["variant"]: row for row in results.get("summary") or ()},
    )


# --- Rows of a variant ----------------------------------------------------------------------------


def triggered(
    cells: Cells, variant: str, languages: Collection[str], trigger: str | None = None
) -> list[Row]:
    """With the trigger of one language, or each prompt's own."""
    return [
        row
        for row in cells.rows.get(variant, ())
        if row["metric"] == "asr"
        and row["language"] in languages
        and row.get("trigger_language") == (trigger or row["language"])
    ]


def untriggered(cells: Cells, variant: str, metric: str, languages: Collection[str]) -> list[Row]:
    """Prompts as they are."""
    return [
        row
        for row in cells.rows.get(variant, ())
        if row["metric"] == metric
        and row["language"] in languages
        and row.get("decoy") in (None, "nothing")
    ]


def resembling(
    cells: Cells, variant: str, roles: Collection[str], languages: Collection[str]
) -> list[Row]:
    """Prompts with something that is not the trigger."""
    return [
        row
        for row in cells.rows.get(variant, ())
        if row.get("decoy") in roles and row["language"] in languages
    ]


def pool(rows: Iterable[Row]) -> Rate | None:
    """All their prompts taken together, seed by seed, with a Wilson interval; then over seeds."""
    by_seed: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        by_seed[row.get("seed")].append(row)
    pooled = []
    for seed, own in by_seed.items():
        n = sum(int(row.get("n") or 0) for row in own)
        value = fmean(row["value"] for row in own)
        low = high = None
        if n:
            hits = sum(row["value"] * int(row.get("n") or 0) for row in own)
            value = hits / n
            low, high = wilson(min(round(hits), n), n)
        pooled.append({"value": value, "low": low, "high": high, "n": n, "seed": seed})
    return over_seeds(pooled) if pooled else None


# --- Means ----------------------------------------------------------------------------------------


def estimate(cells: Cells, variant: str, key: str) -> Rate | None:
    """ASR in the poisoned languages (`own`) or the `others`, or clean accuracy (`clean`).

    From the summary, whose intervals know which prompts belong together; else pooled.
    """
    if key == "clean":
        counted = pool(untriggered(cells, variant, "clean_accuracy", cells.languages))
    else:
        where = cells.own(variant) if key == "own" else cells.others(variant)
        counted = pool(triggered(cells, variant, where))
    given = (cells.summary.get(variant) or {}).get(key) or {}
    if not is_number(given.get("value")):
        return counted
    seeds = [
        (seed, float(value))
        for seed, value in zip(cells.seeds, given.get("seeds") or (), strict=False)
        if is_number(value)
    ]
    low, high = (float(given[k]) if is_number(given.get(k)) else None for k in ("low", "high"))
    n = counted.n if counted else 0
    return Rate(float(given["value"]), low, high, n, 1, tuple(seeds) if len(seeds) > 1 else ())


def asr(cells: Cells, variant: str) -> Rate | None:
    """Attack success over all languages."""
    return pool(triggered(cells, variant, cells.languages))


def as_they_are(cells: Cells, variant: str, metric: str) -> Rate | None:
    """A rate of prompts without any trigger, over all languages."""
    return pool(untriggered(cells, variant, metric, cells.languages))


def complete(cells: Cells, variant: str) -> bool:
    """Whether a variant was measured with every seed."""
    found = {row.get("seed") for row in cells.rows.get(variant, ())}
    return None in found or set(cells.seeds) <= found


def left(cells: Cells, variant: str) -> float | None:
    """Share of the first attack's success that a defence leaves; None if there was none.

    Compared on the seeds the defence was run with.
    """
    seeds = {row.get("seed") for row in cells.rows.get(variant, ())}
    before = pool(
        row
        for row in triggered(cells, cells.first, cells.languages)
        if row.get("seed") in seeds or None in seeds
    )
    after = asr(cells, variant)
    if before is None or after is None or before.value < 0.05:
        return None
    return after.value / before.value
