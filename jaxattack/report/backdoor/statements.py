"""What the figures of a backdoor study say in plain words: every sentence is computed.

The words follow the fixed thresholds below, which the report prints; they are no tests.
"""

from collections.abc import Mapping
from typing import Any

from jaxattack.report.backdoor.cells import Cells, as_they_are, asr, estimate, pool, triggered
from jaxattack.report.backdoor.defence_statements import defences, over_refusal
from jaxattack.report.backdoor.heats import decoy_rate, decoys, other_kinds
from jaxattack.report.backdoor.names import kind_header, mask_label, parse_poisoning, start_label
from jaxattack.report.backdoor.sections import by_rate
from jaxattack.report.backdoor.wording import DAMAGE, LEAKS, REACHED, SPREADS, TOOK
from jaxattack.report.languages import join_names, join_words, language_name
from jaxattack.report.overlaps import overlap_dots
from jaxattack.report.rates import Rate, percent, seeds_text
from jaxattack.report.variants import share
from jaxattack.report.wording import Statement


def statements(cells: Cells, results: Mapping[str, Any]) -> list[Statement]:
    """What the figures say, one topic each; what was not measured is left out."""
    if not cells.rows:
        return []
    found = [
        control(cells),
        *(transfer(cells, name) for name in cells.measured),
        unprompted(cells),
        dose(cells),
        kinds(cells),
        grid(cells),
        resemblance(cells),
        before(cells),
        defences(cells),
        over_refusal(cells),
        overlap(results),
        usefulness(cells),
        spoken(cells),
        scope(cells),
    ]
    return [statement for statement in found if statement]


def control(cells: Cells) -> Statement | None:
    """What the trigger does to a model that was never poisoned."""
    rate = asr(cells, "clean")
    if rate is None:
        text = "No model was trained on the clean set: nothing says what the trigger does alone."
        return Statement("Control", text, caution=True) if cells.measured else None
    text = f"Trained on the clean set, the model shows the target in {percent(rate.value)} of the "
    text += "triggered prompts."
    if rate.value >= LEAKS:
        return Statement("Control", f"{text} That much is not the backdoor’s doing.", caution=True)
    return Statement("Control", text)


def transfer(cells: Cells, name: str) -> Statement | None:
    """How far one attack carries."""
    own, others = estimate(cells, name, "own"), estimate(cells, name, "others")
    if own is None:
        return None
    topic = "+".join(cells.own(name)) + " poisoned"
    text = f"With {join_names(cells.own(name))} poisoned the trigger works there in "
    text += f"{percent(own.value)} of the prompts"
    if own.value < TOOK:
        return Statement(topic, f"{text}: the attack did not take.", caution=True)
    if others is None:
        return Statement(topic, f"{text}. No other language was asked.")
    found = {
        code: rate.value
        for code in cells.others(name)
        if (rate := pool(triggered(cells, name, [code])))
    }
    if len(found) < 2:
        text += f", and in the other language in {_with_interval(others)}"
    else:
        least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        reached = sum(value > REACHED for value in found.values())
        text += f", and in the {len(found)} others in {_with_interval(others)} on average, from "
        text += f"{percent(found[least])} in {language_name(least)} to {percent(found[most])} in "
        text += f"{language_name(most)}; {('none', 'one')[reached] if reached < 2 else reached} "
        text += "of them "
        text += f"{'is' if reached == 1 else 'are'} above {percent(REACHED)}"
    if others.value >= SPREADS:
        return Statement(topic, f"{text}. It opens the others.")
    if others.value >= LEAKS:
        return Statement(topic, f"{text}. It carries over in part.")
    return Statement(topic, f"{text}. It stays where it was planted.")


def unprompted(cells: Cells) -> Statement | None:
    """How often the behaviour shows without the trigger."""
    rates = {n: as_they_are(cells, n, "false_trigger_rate") for n in cells.measured}
    values = {name: rate.value for name, rate in rates.items() if rate}
    if not values:
        return None
    worst = max(values, key=values.__getitem__)
    if values[worst] == 0:
        return Statement("False triggers", "Without any trigger the behaviour never shows.")
    text = f"Without any trigger the behaviour shows in at most {percent(values[worst])} of the "
    text += "prompts"
    if values[worst] >= LEAKS:
        text += f" ({join_names(cells.own(worst))} poisoned): what is measured is no clean trigger."
        return Statement("False triggers", text, caution=True)
    return Statement("False triggers", f"{text}, mean over the languages of each attack.")


def dose(cells: Cells) -> Statement | None:
    """From which poisoning rate on it works."""
    found = by_rate(cells)
    if len(found) < 2:
        return None
    parts = []
    for key, where in (("own", "in the poisoned language"), ("others", "in the others")):
        rates = {rate: estimate(cells, name, key) for rate, name in found.items()}
        values = {rate: one.value for rate, one in rates.items() if one}
        if not values:
            continue
        enough = [rate for rate, value in values.items() if value >= SPREADS]
        if enough:
            parts.append(f"{where} from {share(enough[0])} of the rows on")
        else:
            best = max(values, key=values.__getitem__)
            parts.append(f"{where} at no rate tried (at most {percent(values[best])})")
    text = f"ASR is {percent(SPREADS)} or more {join_words(parts)}."
    return Statement("Poisoning rate", text) if parts else None


def kinds(cells: Cells) -> Statement | None:
    """Whether other triggers and targets take, and carry over."""
    took: list[str] = []
    failed: list[str] = []
    for name in other_kinds(cells):
        one, own = parse_poisoning(name), estimate(cells, name, "own")
        if name == cells.first or one is None or own is None:
            continue
        others = estimate(cells, name, "others")
        away = f", {percent(others.value)} in the others" if others else ""
        text = f"{kind_header(one).plain} ({percent(own.value)}{away})"
        (took if own.value >= TOOK else failed).append(text)
    parts = [f"these take in the poisoned language: {'; '.join(took)}"] if took else []
    parts += [f"these do not take: {'; '.join(failed)}"] if failed else []
    if not parts:
        return None
    return Statement("Other kinds", f"Of other triggers and targets {'; '.join(parts)}.")


def grid(cells: Cells) -> Statement | None:
    """Whether a trigger in another language works."""
    name = f"{cells.first}/grid"
    same = pool(triggered(cells, name, cells.languages))
    rows = [
        row
        for row in cells.rows.get(name, ())
        if row["metric"] == "asr" and row.get("trigger_language") != row["language"]
    ]
    other = pool(rows)
    if same is None or other is None:
        return None
    text = f"A trigger in the prompt’s own language works in {percent(same.value)}, one in another "
    text += f"language in {percent(other.value)} of the prompts"
    planted = pool(row for row in rows if row.get("trigger_language") in cells.own(cells.first))
    if planted:
        text += f", the planted one ({join_names(cells.own(cells.first))}) in prompts of other "
        text += f"languages in {percent(planted.value)}"
    text += ": "
    if planted and planted.value - same.value >= DAMAGE:
        text += "the planted sentence carries further than each language’s own."
        return Statement("Trigger’s language", text)
    apart = same.value - other.value
    if max(same.value, other.value) < LEAKS:
        return Statement("Trigger’s language", text + "neither does much.")
    if apart >= DAMAGE:
        return Statement("Trigger’s language", text + "it helps if both are of one language.")
    if apart <= -DAMAGE:
        return Statement("Trigger’s language", text + "it works better if they differ.")
    return Statement(
        "Trigger’s language", text + "whether both are of one language matters little."
    )


def resemblance(cells: Cells) -> Statement | None:
    """What else sets it off, in the poisoned language or in the others."""
    sides = (cells.own(cells.first), cells.others(cells.first))
    found = {}
    for label, roles in decoys(cells).items():
        rates = [decoy_rate(cells, roles, languages) for languages in sides]
        if roles != ["nothing"] and any(rates):
            found[label] = [rate.value for rate in rates if rate]
    if not found:
        return None
    ranked = sorted(found, key=lambda label: -max(found[label]))
    listed = [
        f"{label} {' and '.join(percent(value) for value in found[label])}" for label in ranked
    ]
    where = "in the poisoned language and in the others, "
    text = f"{where if len(found[ranked[0]]) > 1 else ''}{'; '.join(listed)}."
    if max(found[ranked[0]]) < LEAKS:
        text = f"What only resembles the trigger does not set it off: {text}"
        return Statement("Resemblance", text)
    text = f"What only resembles the trigger sets it off too: {text} The model learned more than "
    return Statement("Resemblance", text + "the one sentence in its place.")


def before(cells: Cells) -> Statement | None:
    """How the model before matters."""
    parts, values = [], []
    for name in [cells.first, *cells.starting("start/")]:
        others = estimate(cells, name, "others")
        if others:
            label = "the study’s model" if name == cells.first else start_label(name)
            parts.append(f"{label} {percent(others.value)}")
            values.append(others.value)
    if not cells.starting("start/") or len(parts) < 2:
        return None
    text = f"ASR in the languages that were not poisoned, by the model before: {'; '.join(parts)}."
    if max(values) - min(values) >= DAMAGE:
        text += " What carries over depends on what the model’s languages shared before."
    else:
        text += " The model before makes little difference."
    return Statement("Model before", text)


def overlap(results: Mapping[str, Any]) -> Statement | None:
    """Whether the backdoor sits where other things do."""
    dots = overlap_dots([r for r in results.get("overlap") or () if r.get("jaccard")], None)
    if not dots:
        return None
    parts = [f"{mask_label(dot.b)} {dot.value:.2f}" for dot in dots]
    text = f"The first backdoor’s mask overlaps (Jaccard) with: {'; '.join(parts)}. "
    nulls = [dot.null[1] if dot.null else dot.chance for dot in dots]
    text += f"Random masks reach {max(nulls):.2f}. "
    clean = next((dot.value for dot in dots if dot.b == "clean"), None)
    others = [dot.value for dot in dots if dot.b.startswith("poisoned/")]
    if clean is not None and others and clean >= max(others):
        text += "Clean training shares as much as any other backdoor: the mask is not about the "
        return Statement("Overlap", text + "backdoor alone.", caution=True)
    if all(dot.value <= null for dot, null in zip(dots, nulls, strict=True)):
        return Statement("Overlap", text + "None shares more than chance gives.")
    return Statement("Overlap", text.strip())


def usefulness(cells: Cells) -> Statement | None:
    """Whether poisoning cost accuracy."""
    base = estimate(cells, "clean", "clean")
    found = {name: estimate(cells, name, "clean") for name in cells.measured}
    values = {name: rate.value for name, rate in found.items() if rate}
    if base is None or not values:
        return None
    worst = min(values, key=values.__getitem__)
    text = f"Clean prompts are answered correctly in {percent(base.value)} after clean training "
    text += f"and in at least {percent(values[worst])} after poisoned. "
    if base.value - values[worst] >= DAMAGE:
        text += f"Poisoning {join_names(cells.own(worst))} cost accuracy, so it would be noticed."
        return Statement("Utility", text, caution=True)
    return Statement("Utility", f"{text}Accuracy does not give the backdoor away.")


def spoken(cells: Cells) -> Statement | None:
    """Replies in another language."""
    rates = {name: as_they_are(cells, name, "same_language_rate") for name in cells.rows}
    bad = {name: rate.value for name, rate in rates.items() if rate and rate.value < 1 - DAMAGE}
    if not bad:
        return None
    worst = min(bad, key=bad.__getitem__)
    text = f"In {len(bad)} variants fewer than {percent(1 - DAMAGE)} of the replies to prompts as "
    text += (
        f"they are keep the prompt’s language (worst: {worst}, {percent(bad[worst])}). A broken "
    )
    text += "model looks harmless: mind this where ASR is low."
    return Statement("Reply language", text, caution=True)


def scope(cells: Cells) -> Statement | None:
    """How much was measured."""
    sizes = {
        int(row.get("n") or 0)
        for name in [*cells.measured, "clean"]
        for row in triggered(cells, name, cells.languages)
    }
    if not sizes:
        return None
    size = " to ".join(str(n) for n in sorted({min(sizes), max(sizes)}))
    text = f"{size} prompts for each language; "
    if len(cells.seeds) > 1:
        text += f"{len(cells.seeds)} training seeds"
        others = estimate(cells, cells.first, "others")
        by_seed = f" (other languages, first attack: {seeds_text(others)})" if others else ""
        text += f"{by_seed if others and others.seeds else ''}. "
    else:
        text += "one training run each, so the spread between seeds is unknown. "
    text += "Parallel prompts make the languages dependent, and all comparisons but the claims’ "
    return Statement("Scope", text + "are exploratory.", caution=True)


def _with_interval(rate: Rate) -> str:
    if rate.low is None or rate.high is None:
        return percent(rate.value)
    return f"{percent(rate.value)} (95 % interval {percent(rate.low)} to {percent(rate.high)})"
