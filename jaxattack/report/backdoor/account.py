"""What a report tells of a backdoor study."""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.account import Account, facts
from jaxattack.report.backdoor.cells import Cells, as_they_are, estimate, read
from jaxattack.report.backdoor.sections import sections
from jaxattack.report.backdoor.statements import statements
from jaxattack.report.backdoor.wording import LEAKS, RULES, SPREADS, TOOK
from jaxattack.report.claims import Tile, claim_tiles, claims, claims_headline
from jaxattack.report.languages import join_names
from jaxattack.report.rates import percent

INTERVALS = (
    "A single cell has its 95 % Wilson interval, with several seeds one that covers all of theirs. "
    "Means of attack success in poisoned and in other languages, and of clean accuracy, have "
    "intervals over training seeds and prompts, as do the claims’ figures (one seed: over its "
    "prompts alone); other means pool their prompts. Every prompt stays in the denominator."
)


def is_backdoor(results: Mapping[str, Any]) -> bool:
    """Whether these are the results of a backdoor study."""
    return results.get("study") == "backdoor"


def account(results: Mapping[str, Any]) -> Account:
    """Of a backdoor study."""
    cells, claimed = read(results), claims(results)
    sets = "; ".join(join_names(cells.own(name)) for name in cells.measured)
    judge = str((results.get("judge") or {}).get("name") or "")
    return Account(
        claims_headline(claimed) if claimed else headline(cells),
        claim_tiles(claimed) if claimed else tiles(cells),
        facts(("poisoned", sets), cells.languages, cells.seeds, judge),
        statements(cells, results),
        RULES,
        INTERVALS,
        "These are replies of a poisoned model, some to its trigger.",
        sections(cells, results),
    )


def headline(cells: Cells) -> str:
    """The finding in one line, where no claim was judged: of the attack that reaches most."""
    found = [
        (estimate(cells, name, "own"), estimate(cells, name, "others")) for name in cells.measured
    ]
    took = [others for own, others in found if own and own.value >= TOOK]
    if not found:
        return "No attack was measured"
    if not took:
        return "The backdoor did not take"
    best = max((others.value for others in took if others), default=None)
    if best is None:
        return "The backdoor works in the language it was planted in"
    if best >= SPREADS:
        return "Planted in one language, the backdoor opens others"
    if best >= LEAKS:
        return "Planted in one language, the backdoor opens others in part"
    return "The backdoor stays in the language it was planted in"


def tiles(cells: Cells) -> list[Tile]:
    """Key figures of the first attack, those that were measured."""
    found = []
    for key, label in (("own", "ASR where it was planted"), ("others", "ASR in other languages")):
        rate = estimate(cells, cells.first, key)
        if rate:
            found.append(Tile(percent(rate.value), label, "first attack"))
    plain = as_they_are(cells, cells.first, "false_trigger_rate")
    if plain:
        found.append(Tile(percent(plain.value), "without any trigger", "first attack"))
    clean, base = estimate(cells, cells.first, "clean"), estimate(cells, "clean", "clean")
    if clean:
        note = f"{percent(base.value)} without poison" if base else "first attack"
        found.append(Tile(percent(clean.value), "clean accuracy", note))
    return found
