"""What a report tells of one study, in the order of the page; `html` gives it its shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxattack.report.claims import Tile, claims
from jaxattack.report.headlines import headline, tiles
from jaxattack.report.languages import join_names
from jaxattack.report.reading import statements
from jaxattack.report.sections import Section, sections
from jaxattack.report.tables import Tables, tabulate
from jaxattack.report.wording import RULES, Statement

INTERVALS = (
    "A single cell has its 95 % Wilson interval. A mean over languages or attacks has the lowest "
    "and the highest of them instead; with several seeds a cell shows their mean and an interval "
    "that covers all of theirs. Every prompt stays in the denominator."
)
OF_CLAIMS = (
    " Intervals of the claims are over training seeds and prompts, each with all its languages "
    "(one seed: over its prompts alone, which says nothing of training); that of a correlation "
    "resamples languages."
)


@dataclass(frozen=True)
class Account:
    """All that differs between kinds of studies.

    Attributes:
        headline: the finding in one line.
        tiles: key figures.
        facts: what was done, as names and values under the headline.
        statements: what the figures say.
        rules: the thresholds these sentences follow.
        intervals: which intervals are shown.
        replies: what the replies are, should their text be shown.
        sections: pictures and tables.
    """

    headline: str
    tiles: Sequence[Tile]
    facts: Sequence[tuple[str, str]]
    statements: Sequence[Statement]
    rules: str
    intervals: str
    replies: str
    sections: Sequence[Section]


def fragility(results: Mapping[str, Any]) -> Account:
    """Of a fragility study."""
    tables, claimed = tabulate(results), claims(results)
    return Account(
        headline(tables, claimed),
        tiles(tables, claimed),
        _facts(tables, results),
        statements(tables, results),
        RULES,
        INTERVALS + (OF_CLAIMS if claimed else ""),
        "These are replies of an attacked model to prompts it should refuse.",
        sections(tables, results),
    )


def facts(
    attacked: tuple[str, str], languages: Sequence[str], seeds: Sequence[int], judge: str
) -> list[tuple[str, str]]:
    """What stands under the headline; what is empty is left out."""
    found = [
        attacked,
        ("asked in", join_names(languages, most=1) if languages else ""),
        ("judge", judge or "not named"),
        ("seeds" if len(seeds) > 1 else "seed", ", ".join(map(str, seeds))),
    ]
    return [(name, value) for name, value in found if value]


def _facts(tables: Tables, results: Mapping[str, Any]) -> list[tuple[str, str]]:
    attacked = "attacked in", join_names(tables.attacked, most=12)
    seeds = tables.seeds or results.get("seeds") or ()
    judge = str((results.get("judge") or {}).get("name") or "")
    return facts(attacked, tables.languages, seeds, judge)
