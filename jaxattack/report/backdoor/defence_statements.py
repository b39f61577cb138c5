"""Sentences on what defences leave of a backdoor, and what they cost."""

from typing import NamedTuple

from jaxattack.report.backdoor.cells import Cells, as_they_are, asr, left
from jaxattack.report.backdoor.heats import defence_order
from jaxattack.report.backdoor.names import FAMILIES, defence_label, family
from jaxattack.report.backdoor.wording import COST, DAMAGE, STOPPED, SURVIVES
from jaxattack.report.languages import join_words
from jaxattack.report.rates import percent
from jaxattack.report.wording import Statement


class Setting(NamedTuple):
    """One setting of a defence: share of the ASR it leaves, and clean accuracy it costs."""

    name: str
    left: float
    cost: float


def defences(cells: Cells) -> Statement | None:
    """Which defences stop it, at what cost."""
    names = defence_order(cells)
    if not names:
        return None
    base = asr(cells, cells.first)
    if base is None or base.value < 0.05:
        text = "The first attack did not take, so nothing is said of the defences against it."
        return Statement("Defences", text, caution=True)
    tried = [one for name in names if (one := setting(cells, name))]
    if not tried:
        return None
    good = [one for one in tried if one.left < STOPPED and one.cost < COST]
    costly = [one for one in tried if one.left < STOPPED and one.cost >= COST]
    settings = "the one setting" if len(tried) == 1 else f"{len(tried)} settings"
    text = f"Undefended, ASR over all languages is {percent(base.value)}. Of {settings} tried "
    if good:
        text += f"{_count(good)} {_leave(good)} less than {percent(STOPPED)} of it for less than "
        text += f"{100 * COST:g} points of clean accuracy: {_listed(good)}. "
    else:
        text += f"none leaves less than {percent(STOPPED)} of it for less than {100 * COST:g} "
        text += "points of clean accuracy. "
    if costly:
        text += f"{_count(costly).capitalize()} {_leave(costly)} as little but {_cost(costly)} "
        text += "more. "
    standing = sorted({kind for kind in _kinds(tried) if _least(tried, kind) >= SURVIVES})
    if standing:
        text += f"{join_words([FAMILIES.get(k, k) for k in standing])} "
        text += f"{'leaves' if len(standing) == 1 else 'leave'} {percent(SURVIVES)} or more in "
        text += "every setting."
    return Statement("Defences", text.strip())


def over_refusal(cells: Cells) -> Statement | None:
    """Defences after which clean prompts are refused."""
    base = as_they_are(cells, cells.first, "clean_refusal_rate")
    rates = {n: as_they_are(cells, n, "clean_refusal_rate") for n in defence_order(cells)}
    start = base.value if base else 0.0
    bad = {n: r.value for n, r in rates.items() if r and r.value - start >= DAMAGE}
    if not bad:
        return None
    worst = max(bad, key=bad.__getitem__)
    verb = "makes" if len(bad) == 1 else "make"
    text = f"{len(bad)} of {len(rates)} settings {verb} the model refuse clean prompts; worst "
    text += f"{defence_label(worst)}: {percent(bad[worst])}, {percent(start)} undefended."
    return Statement("Over-refusal", text, caution=True)


def setting(cells: Cells, name: str) -> Setting | None:
    """A setting with what it leaves and costs; None where that was not measured."""
    share, after = left(cells, name), as_they_are(cells, name, "clean_accuracy")
    before = as_they_are(cells, cells.first, "clean_accuracy")
    if share is None or after is None or before is None:
        return None
    return Setting(name, share, before.value - after.value)


def _kinds(tried: list[Setting]) -> list[str]:
    return list(dict.fromkeys(family(one.name) for one in tried))


def _least(tried: list[Setting], kind: str) -> float:
    return min(one.left for one in tried if family(one.name) == kind)


def _listed(found: list[Setting], most: int = 4) -> str:
    ranked = sorted(found, key=lambda one: one.left)
    parts = [f"{defence_label(one.name)} {percent(one.left)}" for one in ranked[:most]]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(parts) + more


def _count(found: list[Setting]) -> str:
    return "one" if len(found) == 1 else str(len(found))


def _leave(found: list[Setting]) -> str:
    return "leaves" if len(found) == 1 else "leave"


def _cost(found: list[Setting]) -> str:
    return "costs" if len(found) == 1 else "cost"
