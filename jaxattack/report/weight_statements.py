"""Sentences on the weights: how few carry the attack, and what freezing or rewinding them does."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from jaxattack.report.findings import (
    control_reaches,
    levels,
    mask_reach,
    masked,
    rivals,
    share_left,
)
from jaxattack.report.languages import join_words, language_name
from jaxattack.report.rates import Pair, percent
from jaxattack.report.tables import Tables, among, numbers, reach
from jaxattack.report.variants import METHOD_NAMES, Variant, parse_variant, share, variant_label
from jaxattack.report.wording import (
    APART,
    CHANCE,
    NEARLY_ALL,
    SOME,
    STOPPED,
    SURVIVES,
    Statement,
    sides,
)


def localization(tables: Tables) -> Statement | None:
    """How much of the attack SIL's weights carry."""
    value = mask_reach(tables, "sil")
    if value is None or tables.fraction is None:
        return None
    text = f"SIL’s {share(tables.fraction)} of the weights alone reach {percent(value)} of the "
    text += f"full attack ({sides(masked(tables, 'stitched'))}): "
    if value >= NEARLY_ALL:
        text += "they carry nearly all of it."
    elif value >= SOME:
        text += "they carry a part of it."
    else:
        text += "they do not carry it."
    for fraction in numbers(tables, "stitched", "sil"):
        smaller = reach(tables, Variant("stitched", "", "sil", fraction))
        if fraction < tables.fraction and smaller is not None and smaller >= NEARLY_ALL:
            return Statement("Localization", f"{text} {share(fraction)} reach {percent(smaller)}.")
    return Statement("Localization", text)


def controls(tables: Tables) -> Statement | None:
    """Whether masks of the same size, chosen otherwise, do as well."""
    sil, controls = mask_reach(tables, "sil"), control_reaches(tables)
    if sil is None:
        return None
    if not controls:
        text = "No control mask of the same size was run: any weights might do as well as SIL’s."
        return Statement("Controls", text, caution=True)
    listed = [f"{METHOD_NAMES.get(n, n)} {percent(value)}" for n, value in controls.items()]
    text = "Masks of the same size chosen in other ways reach, of the same attack: "
    text += f"{'; '.join(listed)}. "
    close = [METHOD_NAMES.get(n, n) for n, value in controls.items() if sil - value < APART]
    if not close:
        return _apart(text, rivals(tables, APART))
    text += f"SIL is not separated from: {join_words(close)}. This effect is not particular to it."
    return Statement("Controls", text, caution=True)


def _apart(text: str, near: dict[str, dict[str, float]]) -> Statement:
    """SIL is apart from all controls, at least in the mean over the attack languages."""
    if not near:
        return Statement("Controls", f"{text}SIL is well apart from every one of them.")
    cases = [
        f"{language_name(language)} "
        f"({', '.join(f'{METHOD_NAMES.get(n, n)} {percent(v)}' for n, v in found.items())})"
        for language, found in near.items()
    ]
    text += f"In the mean SIL is well apart from every one, but not after attacking {cases[0]}"
    text += f"; {'; '.join(cases[1:])}." if cases[1:] else "."
    return Statement("Controls", text, caution=True)


def complement(tables: Tables) -> Statement | None:
    """What all other weights do."""
    own, others, pair = _left(tables, "stitched", "complement")
    if own is None or tables.fraction is None:
        return None
    text = f"All weights but SIL’s {share(tables.fraction)}, stitched: {sides(pair)}. "
    if max(own, others) < STOPPED:
        return Statement("Complement", text + "Without the mask the rest does little.")
    if others < STOPPED:
        text += "The rest carries some of the attack in its own language, not its transfer."
        return Statement("Complement", text)
    if min(own, others) < NEARLY_ALL:
        return Statement("Complement", text + "Some of the attack lies outside the mask.")
    text += "The rest does as well, so the damage does not need the mask."
    return Statement("Complement", text, caution=True)


def overlap(tables: Tables, results: Mapping[str, Any]) -> Statement | None:
    """Whether languages share the weights."""
    rows = [row for row in results.get("overlap") or () if row["method"] == "sil"]
    rows = [row for row in rows if row["fraction"] == tables.fraction] or rows
    if not rows:
        return None
    value, chance = fmean(r["jaccard"] for r in rows), fmean(r["chance"] for r in rows)
    ratio = value / chance if chance else 0.0
    text = f"SIL’s masks of two attack languages overlap by {value:.2f} (Jaccard, mean), "
    text += f"{ratio:.1f} times the {chance:.2f} of chance: "
    if ratio >= CHANCE:
        return Statement("Overlap", text + "the languages share weights.")
    return Statement("Overlap", text + "hardly more than chance gives.")


def freeze(tables: Tables) -> Statement | None:
    """What is left of an attack that may not move them."""
    own, others, pair = _left(tables, "frozen")
    if own is None:
        return None
    text = f"Freezing SIL’s {share(tables.fraction or 0)} and attacking again: {sides(pair)}. "
    if max(own, others) < STOPPED:
        text += "The freeze stops the attack."
    elif own < STOPPED:
        text += "The freeze protects the attacked language but not the others."
    elif pair.others and others < STOPPED:
        way = "finds another way" if own >= SURVIVES else "still gets through in part"
        text += f"In its own language the attack {way}; its transfer is gone."
    elif min(own, others) >= SURVIVES:
        text += "The freeze does not stop the attack: it finds a way around these weights."
    else:
        text += "The freeze weakens the attack without stopping it."
    return Statement("Freezing", text)


def broken_freeze(row: Mapping[str, Any]) -> Statement:
    """A caution: weights that were frozen moved."""
    text = f"{row['moved']:,} of {row['frozen']:,} frozen weights moved in "
    text += f"“{variant_label(parse_variant(row['variant']))}”: it says nothing about freezing."
    return Statement("Freeze broken", text, caution=True)


def rewind(tables: Tables) -> Statement | None:
    """What is left of an attack when they are put back."""
    own, others, pair = _left(tables, "rewound")
    if own is None:
        return None
    text = f"Putting the aligned {share(tables.fraction or 0)} back into the attacked model: "
    text += f"{sides(pair)}. "
    if max(own, others) < STOPPED:
        text += "This undoes the attack."
    elif pair.others and others < STOPPED:
        text += "This undoes the transfer, but not the whole attack in its own language."
    elif max(own, others) < SURVIVES:
        text += "This undoes most of the attack."
    else:
        text += "This does not undo the attack."
    return Statement("Rewinding", text)


def _left(tables: Tables, kind: str, method: str = "sil") -> tuple[float | None, float, Pair]:
    """Shares of the free attack's added violations, own and others, among the same attacks.

    Where no other language was measured, the share of the own one stands for both.
    """
    tables = among(tables, Variant(kind, "", method, tables.fraction))
    pair = masked(tables, kind, method)
    free, base = levels(tables, "attacked"), levels(tables, "aligned")
    own = share_left(pair.own, free.own, base.own)
    others = share_left(pair.others, free.others, base.others)
    return own, (own or 0.0) if others is None else others, pair
