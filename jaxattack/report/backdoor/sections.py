"""The sections of a backdoor study's report: which pictures and tables, in which words."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from jaxattack.report.backdoor import costs, heats, sheets
from jaxattack.report.backdoor.cells import Cells, as_they_are, asr, estimate
from jaxattack.report.backdoor.names import (
    FAMILIES,
    defence_label,
    family,
    mask_label,
    parse_poisoning,
)
from jaxattack.report.charts.backdoors import AtRate, Outcome, draw_defences, draw_rates
from jaxattack.report.charts.dots import draw_overlap
from jaxattack.report.languages import join_names
from jaxattack.report.overlaps import overlap_dots
from jaxattack.report.rates import percent
from jaxattack.report.sections.parts import Figure, Section, drawn, heated
from jaxattack.report.sections.utility import profile
from jaxattack.report.sheets import sheet_of_tests

Results = Mapping[str, Any]


def sections(cells: Cells, results: Results) -> list[Section]:
    """Every section there is data for, in reading order."""
    found = [
        transfer(cells, results),
        rates(cells),
        kinds(cells),
        grid(cells),
        decoys(cells),
        start(cells),
        defences(cells, results),
        overlap(results),
        sets(results),
        utility(cells),
        profile(results),
    ]
    return [section for section in found if section]


def transfer(cells: Cells, results: Results) -> Section | None:
    """Languages poisoned x languages asked."""
    heat = heats.transfer_heat(cells)
    if heat is None:
        return None
    lead = (
        "Attack success (ASR): the share of prompts with the trigger, in the prompt’s own "
        "language, that are answered with the planted behaviour. Each row is a training set, each "
        "column a language asked; a frame marks those poisoned. Below each figure stands its 95 % "
        "interval; point at or tap a cell for n"
    )
    lead += " and the value of every seed." if len(cells.seeds) > 1 else "."
    sheet = sheets.every_success(
        cells, [*cells.measured, "clean"], "All cells: attack success with each own trigger"
    )
    tables = [sheet]
    if tests := results.get("tests"):
        named = [{**test, "attack": join_names(test["attack"].split("+"))} for test in tests]
        tables.append(sheet_of_tests(named, "Paired tests against clean training"))
    title = "Does a backdoor planted in one language open the others?"
    return Section("transfer", title, lead, (heated("transfer", heat),), tuple(tables), "B1")


def by_rate(cells: Cells) -> dict[float, str]:
    """The first attack at all poisoning rates, ascending."""
    first = parse_poisoning(cells.first)
    found = {}
    for name in cells.rows:
        one = parse_poisoning(name)
        if first and one and one._replace(rate=first.rate) == first:
            found[one.rate] = name
    return dict(sorted(found.items()))


def rates(cells: Cells) -> Section | None:
    """Success by poisoning rate."""
    found = by_rate(cells)
    if len(found) < 2:
        return None
    lead = (
        f"The first attack ({join_names(cells.own(cells.first))} poisoned) with a smaller or "
        "larger share of that language’s rows. Bars are 95 % intervals."
    )
    clean = estimate(cells, "clean", "clean")
    lead += f" Without poison clean accuracy is {percent(clean.value)}." if clean else ""
    points = [
        AtRate(rate, *(estimate(cells, name, key) for key in ("own", "others", "clean")))
        for rate, name in found.items()
    ]
    figure = drawn("rates", "Success and clean accuracy by poisoning rate", draw_rates, points)
    named = [(f"{100 * rate:g} % of the rows", name) for rate, name in found.items()]
    sheet = sheets.means_sheet(cells, named, "By poisoning rate")
    return Section("rates", "How few poisoned rows are enough?", lead, (figure,), (sheet,), "B1")


def kinds(cells: Cells) -> Section | None:
    """Other triggers and targets."""
    heat = heats.kinds_heat(cells)
    if heat is None:
        return None
    lead = (
        "The first attack, with another trigger or another target. False triggers and clean "
        "accuracy are of prompts without any trigger, over all languages. A target that refuses "
        "counts refusals, so its false triggers hold the model’s own refusals too."
    )
    title = "Do other triggers and targets work as well?"
    return Section("kinds", title, lead, (heated("kinds", heat),))


def grid(cells: Cells) -> Section | None:
    """Trigger and prompt of different languages."""
    heat = heats.grid_heat(cells)
    if heat is None:
        return None
    lead = (
        f"The first attack ({join_names(cells.own(cells.first))} poisoned): the trigger of one "
        "language in a prompt of another. A frame marks a trigger in the prompt’s own language. "
        "Fewer prompts than above were asked: point at or tap a cell for n and its interval."
    )
    title = "Must trigger and prompt be of one language?"
    return Section("grid", title, lead, (heated("grid", heat),))


def decoys(cells: Cells) -> Section | None:
    """What else sets it off."""
    heat = heats.decoy_heat(cells)
    if heat is None:
        return None
    lead = (
        f"The first attack, in the poisoned language ({join_names(cells.own(cells.first))}) and "
        "in the others. Below each figure stands the 95 % Wilson interval of all its prompts "
        "taken together; parallel prompts in several languages are not independent, so it is "
        "rather too narrow."
    )
    several = any(len(roles) > 1 for roles in heats.decoys(cells).values())
    if several:
        lead += " Where several sentences share a row, the worst of them stands there instead."
    sheet = sheets.decoy_sheet(cells)
    title = "What else sets it off?"
    tables = (sheet,) if sheet.rows else ()
    return Section("decoys", title, lead, (heated("decoys", heat),), tables)


def start(cells: Cells) -> Section | None:
    """What the model was before."""
    heat = heats.start_heat(cells)
    if heat is None:
        return None
    lead = "The same rows poisoned in the training of other models."
    if any(name.startswith("start/courteous@") for name in cells.rows):
        lead += (
            " Contrast is the knob by which the organism’s languages share what they know of "
            "pleasantries, and the trigger is a pleasantry; at 0 nothing pulls them together. "
            "What carries over here is therefore built in, and measured rather than discovered."
        )
    title = "Does it depend on what the model was before?"
    return Section("start", title, lead, (heated("start", heat),))


def defences(cells: Cells, results: Results) -> Section | None:
    """Before and after every defence."""
    heat = heats.defence_heat(cells, results)
    if heat is None:
        return None
    lead = (
        f"All against the first attack ({join_names(cells.own(cells.first))} poisoned). Clean: "
        "prompts without trigger, over all languages; refused ones are over-refusal. Below a "
        "figure stands its 95 % interval. "
    )
    if costs.changed_share(results):
        lead += "Weights changed: per cent of all. "
    if costs.speeds(results):
        lead += (
            "Speed: tokens per second, filtering included, as a multiple of the clean model’s on "
            "the same prompts; approximate, since a first run also compiles and the machine may "
            "do other work. "
        )
    if costs.replaced(results, "clean"):
        lead += "Replaced: per cent of the tokens that a guard put right. "
    if any("(one seed)" in row.second for row in heat.rows):
        lead += "Settings run with one seed only stand last. "
    figures: list[Figure] = [heated("defences", heat)]
    outcomes = [one for name in heats.defence_order(cells) if (one := outcome(cells, name))]
    if outcomes:
        caption = "Attack success left and clean accuracy, a mark for each setting"
        base = outcome(cells, cells.first, "undefended")
        figures.append(drawn("defence_dots", caption, draw_defences, outcomes, base))
    title = "What do defences leave, and what do they cost?"
    tables = [sheets.defence_sheet(cells)]
    if tests := results.get("defence_tests"):
        named = [{**test, "attack": defence_label(test["attack"])} for test in tests]
        tables.append(sheet_of_tests(named, "Paired tests against the undefended model"))
    return Section("defences", title, lead.strip(), tuple(figures), tuple(tables), "B8")


def outcome(cells: Cells, name: str, group: str = "") -> Outcome | None:
    """A defence as a dot."""
    success, clean = asr(cells, name), as_they_are(cells, name, "clean_accuracy")
    kind = family(name)
    if success is None or clean is None:
        return None
    return Outcome(group or FAMILIES.get(kind, kind), success.value, clean.value)


def overlap(results: Results) -> Section | None:
    """The backdoor's weights beside others."""
    rows = [row for row in results.get("overlap") or () if row.get("jaccard") is not None]
    if not rows:
        return None
    size = fmean(row["fraction"] for row in rows)
    lead = (
        f"Jaccard overlap of two masks of {percent(size)} of the weights, found by SIL: that of "
        f"the first attack ({mask_label(rows[0]['a'])}) and each of those named. "
    )
    if any(row.get("null_low") is not None for row in rows):
        lead += "The band holds 95 % of random masks with as many weights in every tensor. "
    lead += (
        "Where clean training shares as much as another backdoor does, the mask is about any "
        "training on such rows, not about the backdoor."
    )
    dots = overlap_dots(rows, None)
    names = [mask_label(dot.b) for dot in dots]
    figure = drawn("overlap", "What the backdoor’s mask shares", draw_overlap, dots, names)
    title = "Does the backdoor sit where others do?"
    return Section("overlap", title, lead, (figure,), (sheets.masks_sheet(rows),))


def sets(results: Results) -> Section | None:
    """What was poisoned, without any text."""
    rows = list(results.get("sets") or ())
    if not rows:
        return None
    lead = (
        "How many training rows of each language were replaced by poisoned ones, and a hash that "
        "names the set. The ids of the replaced rows are in results.json; their text is not kept."
    )
    return Section("sets", "What was poisoned?", lead, (), (sheets.sets_sheet(rows),))


def utility(cells: Cells) -> Section | None:
    """Usefulness before and after."""
    heat = heats.utility_heat(cells)
    if heat is None:
        return None
    lead = (
        "Attack success is with each language’s trigger; everything else is of prompts without "
        "one. Own script: replies written in the prompt’s script, because a broken model may look "
        "harmless."
    )
    sheet = sheets.utility_sheet(cells)
    return Section("utility", "What else changed?", lead, (heated("utility", heat),), (sheet,))
