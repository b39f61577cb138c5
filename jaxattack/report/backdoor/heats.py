"""Heat tables of a backdoor study: only attack success is coloured, as what is bad."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxattack.report.backdoor.cells import (
    Cells,
    as_they_are,
    asr,
    complete,
    estimate,
    pool,
    resembling,
    triggered,
    untriggered,
)
from jaxattack.report.backdoor.costs import changed_share, replaced, speeds
from jaxattack.report.backdoor.names import (
    Poisoning,
    defence_header,
    kind_header,
    parse_poisoning,
    poisoned_header,
    role_label,
    start_header,
)
from jaxattack.report.grids import Cell, Header, Heat, language_header
from jaxattack.report.rates import METRIC_NAMES, Rate, describe, percent

Column = tuple[Header, Callable[[str], Cell]]
Line = tuple[Header, str]  # what a row is called, and its variant

METRICS = ("false_trigger_rate", "clean_accuracy", "clean_refusal_rate", "same_language_rate")


def rate_cell(rate: Rate | None, what: str, bad: bool = True, marked: bool = False) -> Cell:
    """A rate over its interval; coloured where more of it is worse."""
    if rate is None:
        return Cell("–", f"{what}: not measured", None, marked)
    second = ""
    if rate.low is not None and rate.high is not None:
        second = f"{100 * rate.low:.0f}–{100 * rate.high:.0f}"
    value = rate.value if bad else None
    return Cell(_bare(rate.value), f"{what}: {describe(rate)}", value, marked, second)


# --- Attacks --------------------------------------------------------------------------------------


def transfer_heat(cells: Cells) -> Heat | None:
    """Poisoned sets x languages asked with their own trigger, and the mean of the others."""
    if not cells.measured:
        return None
    rows, headers = [], []
    for name in [*cells.measured, *(["clean"] if "clean" in cells.rows else [])]:
        own: tuple[str, ...] = cells.own(name) if name != "clean" else ()
        label = poisoned_header(own) if own else Header("none", "clean training")
        headers.append(label)
        row = []
        for code in cells.languages:
            what = f"{label.plain} poisoned, asked in {language_header(code).plain}"
            row.append(rate_cell(pool(triggered(cells, name, [code])), what, marked=code in own))
        mean = estimate(cells, name, "others") if own else asr(cells, name)
        rows.append((*row, rate_cell(mean, f"{label.plain} poisoned, mean of the others")))
    columns = (*(language_header(c) for c in cells.languages), Header("mean", "not poisoned"))
    caption = "Attack success in per cent, each language asked with its own trigger"
    return Heat(
        caption, "poisoned ↓ asked in →", columns, tuple(headers), tuple(rows), "violations"
    )


def grid_heat(cells: Cells) -> Heat | None:
    """Languages of the trigger x languages of the prompt, of the first attack."""
    name = f"{cells.first}/grid"
    known = {row.get("trigger_language") for row in cells.rows.get(name, ())}
    triggers = [code for code in cells.languages if code in known]
    if not triggers:
        return None
    rows = []
    for trigger in triggers:
        what = f"trigger in {language_header(trigger).plain}"
        row = []
        for code in cells.languages:
            rate = pool(triggered(cells, name, [code], trigger))
            tip = f"{what}, prompt in {language_header(code).plain}"
            cell = rate_cell(rate, tip, marked=code == trigger)
            row.append(cell._replace(second=""))
        elsewhere = [code for code in cells.languages if code != trigger]
        mean = pool(triggered(cells, name, elsewhere, trigger))
        rows.append((*row, rate_cell(mean, f"{what}, prompts in other languages")))
    return Heat(
        caption="Attack success in per cent, by language of the trigger and of the prompt",
        corner="trigger ↓ prompt →",
        columns=(*(language_header(c) for c in cells.languages), Header("mean", "other prompts")),
        rows=tuple(language_header(code) for code in triggers),
        cells=tuple(rows),
        ramp="violations",
    )


def kinds_heat(cells: Cells) -> Heat | None:
    """The first attack with other triggers and other targets."""
    names = other_kinds(cells)
    if not names:
        return None
    lines = [(kind_header(one), name) for name in names if (one := parse_poisoning(name))]
    columns = [*_success(cells), _plain(cells, "false_trigger_rate", bad=True)]
    columns += [_plain(cells, "clean_accuracy")]
    caption = "Per cent, by what sets the backdoor off and what it does"
    return _table(caption, "trigger → target", lines, columns)


def start_heat(cells: Cells) -> Heat | None:
    """The first attack on other models than the study's."""
    others = cells.starting("start/")
    if not others:
        return None
    lines = [(start_header(name), name) for name in others]
    if cells.first in cells.rows:
        lines.insert(0, (Header("the study’s model"), cells.first))
    columns = [*_success(cells), _plain(cells, "clean_accuracy")]
    return _table("Per cent, by the model that was poisoned", "model", lines, columns)


def decoy_heat(cells: Cells) -> Heat | None:
    """What else sets it off: nothing at all, and what resembles the trigger."""
    name, own = f"{cells.first}/decoys", cells.own(cells.first)
    sides = {"poisoned": own, "others": cells.others(cells.first)}
    if name not in cells.rows:
        return None
    rows, headers = [], []
    for label, roles in decoys(cells).items():
        row, n = [], 0
        for side, languages in sides.items():
            rate = decoy_rate(cells, roles, languages)
            cell = rate_cell(rate, f"{label}, {side}")
            worst = _worst(cells, name, roles, languages) if len(roles) > 1 else None
            if worst and rate:
                tip = f"{cell.tip}; worst {worst[0]}: {percent(worst[1].value, 1)}"
                cell = cell._replace(tip=tip, second=f"worst {_bare(worst[1].value)}")
            row.append(cell)
            n += rate.n if rate else 0
        rows.append((*row, Cell(f"{n:,}", f"{label}: {n:,} prompts for each seed")))
        headers.append(Header(label))
    columns = Header("poisoned"), Header("others"), Header("n")
    caption = "Target behaviour without the trigger, per cent"
    return Heat(caption, "what was put in", columns, tuple(headers), tuple(rows), "violations")


def decoys(cells: Cells) -> dict[str, list[str]]:
    """What was put into prompts in place of the trigger: label -> roles, alike ones together."""
    found: dict[str, list[str]] = {}
    if untriggered(cells, cells.first, "false_trigger_rate", cells.languages):
        found["nothing"] = ["nothing"]
    for row in cells.rows.get(f"{cells.first}/decoys", ()):
        roles = found.setdefault(role_label(str(row.get("decoy"))), [])
        if row.get("decoy") not in roles:
            roles.append(str(row.get("decoy")))
    return found


def decoy_rate(cells: Cells, roles: Sequence[str], languages: Sequence[str]) -> Rate | None:
    """How often the behaviour shows with something of these roles in the prompt."""
    if roles == ["nothing"]:
        return pool(untriggered(cells, cells.first, "false_trigger_rate", languages))
    return pool(resembling(cells, f"{cells.first}/decoys", roles, languages))


def other_kinds(cells: Cells) -> list[str]:
    """The first attack and those that differ from it in trigger or target; empty without any."""
    first = parse_poisoning(cells.first)
    if first is None:
        return []

    def same(one: Poisoning | None) -> bool:
        return one is not None and one[::3] == first[::3] and not one.part

    names = [name for name in cells.rows if same(parse_poisoning(name))]
    return names if len(names) > 1 else []


# --- Defences -------------------------------------------------------------------------------------


def defence_order(cells: Cells) -> list[str]:
    """All settings of all defences; those run with every seed first."""
    return sorted(cells.starting("defended/"), key=lambda name: not complete(cells, name))


def defence_heat(cells: Cells, results: Mapping[str, Any]) -> Heat | None:
    """Every setting of every defence beside no defence and no poison."""
    names = defence_order(cells)
    if not names:
        return None
    lines = [(Header("undefended"), cells.first), (Header("never poisoned"), "clean")]
    lines = [line for line in lines if line[1] in cells.rows]
    for name in names:
        header = defence_header(name)
        once = "" if complete(cells, name) else " (one seed)"
        lines.append((header._replace(second=f"{header.second}{once}".strip()), name))
    columns = [*_success(cells), _plain(cells, "clean_accuracy")]
    columns += [_plain(cells, "clean_refusal_rate")]
    moved, fast = changed_share(results), speeds(results)
    guards = {what: replaced(results, what) for what in ("clean", "triggered")}
    extra = [
        (Header("weights", "changed"), moved, _share),
        (Header("speed", "against clean"), fast, _times),
    ]
    extra += [(Header("replaced", what), found, _share) for what, found in guards.items()]
    columns += [_number(*one) for one in extra if one[1]]
    return _table("Per cent, before and after each defence", "defence", lines, columns)


# --- What else changed ----------------------------------------------------------------------------


def utility_heat(cells: Cells) -> Heat | None:
    """Every rate of the models before and after poisoning, mean over languages."""
    lines = [(Header("before", "not tuned"), "start"), (Header("none", "clean training"), "clean")]
    lines += [(poisoned_header(cells.own(name)), name) for name in cells.measured]
    lines = [line for line in lines if line[1] in cells.rows]
    if not lines:
        return None
    all_of = Header("attack success"), lambda v: rate_cell(asr(cells, v), "attack success", False)
    columns = [all_of, *(_plain(cells, metric) for metric in METRICS)]
    return _table("Per cent, mean over all languages", "poisoned", lines, columns)


# --- Columns --------------------------------------------------------------------------------------


def _success(cells: Cells) -> list[Column]:
    def of(key: str, what: str) -> Callable[[str], Cell]:
        return lambda variant: rate_cell(estimate(cells, variant, key), what)

    return [
        (Header("ASR", "poisoned"), of("own", "attack success, poisoned languages")),
        (Header("ASR", "others"), of("others", "attack success, other languages")),
    ]


def _plain(cells: Cells, metric: str, bad: bool = False) -> Column:
    name = METRIC_NAMES.get(metric, metric)

    def cell(variant: str) -> Cell:
        if metric == "clean_accuracy":
            return rate_cell(estimate(cells, variant, "clean"), name, bad)
        return rate_cell(as_they_are(cells, variant, metric), name, bad)

    first, _, second = name.partition(" ")
    return Header(first, second), cell


def _number(header: Header, found: Mapping[str, float], write: Callable[[float], str]) -> Column:
    def cell(variant: str) -> Cell:
        if variant not in found:
            return Cell("", f"{header.plain}: none")
        return Cell(write(found[variant]), f"{header.plain}: {write(found[variant])}")

    return header, cell


def _table(caption: str, corner: str, lines: Sequence[Line], columns: Sequence[Column]) -> Heat:
    rows = []
    for header, variant in lines:
        cells = [cell(variant) for _, cell in columns]
        rows.append(tuple(c._replace(tip=f"{header.plain}: {c.tip}") for c in cells))
    return Heat(
        caption=caption,
        corner=corner,
        columns=tuple(header for header, _ in columns),
        rows=tuple(header for header, _ in lines),
        cells=tuple(rows),
        ramp="violations",
    )


def _worst(
    cells: Cells, name: str, roles: Sequence[str], languages: Sequence[str]
) -> tuple[str, Rate] | None:
    rates = [(role, pool(resembling(cells, name, [role], languages))) for role in roles]
    found = [(role, rate) for role, rate in rates if rate]
    return max(found, key=lambda one: one[1].value, default=None)


def _bare(value: float) -> str:
    return percent(value).removesuffix("\u00a0%")


def _share(value: float) -> str:
    return _bare(value) if value == 0 or value >= 0.01 else f"{100 * value:.2g}"


def _times(value: float) -> str:
    return f"{value:.2f}×"
