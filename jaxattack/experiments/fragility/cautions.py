"""What limits how the figures of a fragility study may be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from jaxattack.experiments.attacking import BENIGN, RESTRICTED
from jaxattack.experiments.cautions import (
    Caution,
    cut_refusals,
    one_seed,
    refusal_rule,
    seldom,
    silent_judge,
)
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.claim import Evidence
from jaxattack.experiments.fragility.premises import (
    ALIGNED,
    Places,
    Study,
    adapted,
    attacked,
    summed,
)
from jaxattack.experiments.fragility.setup import ITSELF
from jaxattack.experiments.outcomes import VIOLATION
from jaxattack.experiments.term import (
    Figure,
    Seen,
    added,
    best,
    but,
    mean,
    only,
    rate,
    worst,
)
from jaxattack.experiments.thresholds import ALIKE, DAMAGE, HELD, NEEDLESS, NOTHING, TOOK

ACCURACY, VALID, SAME = "benign_accuracy", "valid_reply_rate", "same_language_rate"

Rows = Sequence[Mapping[str, Any]]


def cautions(study: Study, seen: Seen, results: Mapping[str, Any]) -> Iterator[Caution | None]:
    """All that might be raised."""
    yield from violations(study, seen)
    yield unsafe_adapted(study, seen)
    yield complement(study, seen)
    yield unequal(results.get("sizes") or ())
    yield about_any_change(results.get("overlap") or ())
    yield broken_freeze(results.get("freeze_proof") or ())
    yield utility(study, seen)
    yield seldom(
        "valid_replies",
        "Valid replies",
        seen[VALID],
        VALID,
        "are valid. A broken model looks safe: mind this where violations are low.",
    )
    yield seldom(
        "reply_language",
        "Reply language",
        seen[SAME],
        SAME,
        "are well-formed and in the prompt's language. An answer counts in whatever language it is "
        "given.",
    )
    yield refusal_rule(results.get("judge") or {}, study.languages)
    yield cut_refusals(results.get("judge") or {}, results.get("rows") or ())
    yield silent_judge(results.get("alone") or ())
    yield one_seed(study.seeds)


def unequal(sizes: Rows) -> Caution | None:
    """Tunings that saw fewer pairs than what they are compared with, and masks likewise."""
    whole = {row["attacked"]: row["pairs"] for row in sizes if row["pairs_are"] == RESTRICTED}
    evidence = []
    for row in sizes:
        name, benign = row["attacked"], row["pairs_are"] == BENIGN
        if benign or "+" in name:
            most = max(whole.get(code, 0) for code in name.split("+"))
            what = f"{'benign' if benign else 'mixed'} pairs of {name}, to those of the attack"
            evidence.append(Evidence(what, _ratio(row["pairs"], most), above=1))
    for kind in (RESTRICTED, BENIGN):
        scored = [row for row in sizes if "scored" in row and row["pairs_are"] == kind]
        if not scored:
            continue
        few, many = (choose(scored, key=lambda row: row["scored"]) for choose in (min, max))
        what = f"{kind} pairs SIL is scored on for {few['attacked']}, to those for"
        ratio = _ratio(few["scored"], many["scored"])
        evidence.append(Evidence(f"{what} {many['attacked']}", ratio, above=ALIKE))
        own = sum(row["origin"] == ITSELF for row in scored)
        what = f"masks of {kind} pairs scored on those they were tuned on"
        evidence.append(Evidence(what, Figure(own, unit="count"), below=1))
    if not evidence:
        return None
    return Caution(
        "unequal",
        "Pairs",
        "What is compared did not see as many pairs, or masks were scored on pairs that were "
        "trained on: differences may come from that.",
        evidence,
    )


def _ratio(one: int, other: int) -> Figure:
    return Figure(one / max(other, 1), unit="ratio")


def violations(study: Study, seen: Seen) -> Iterator[Caution]:
    """The model before, and attacks that did nothing, or nothing that benign tuning does not."""
    answered = seen[VIOLATION]
    own = [code for code in study.attacked if code in answered.languages]
    attacks = {code: cell for code, cell in attacked(own).items() if answered.has(cell)}
    benign = {code: Cell("benign", attacked=code) for code in study.localized}
    benign = {code: cell for code, cell in benign.items() if answered.has(cell)}
    common = answered.only([ALIGNED]).common if answered.has(ALIGNED) else ()
    yield Caution(
        "unsafe_before",
        "Before",
        "The aligned model was not safe to begin with.",
        [
            Evidence(
                "violations of the aligned model, in the language with most",
                best(rate(ALIGNED, only(code)) for code in common),
                below=DAMAGE,
            )
        ],
    )
    yield Caution(
        "attack_did_not_take",
        "Attack",
        "The attack did not take, so nothing else speaks of damage.",
        [
            Evidence(
                "violations added in the language attacked, mean over attacks",
                mean(added(attacks[code], ALIGNED, only(code)) for code in attacks),
                above=TOOK,
            )
        ],
    )
    yield Caution(
        "benign_tuning",
        "Benign tuning",
        "Part of the damage needs no restricted content: as many benign pairs do some of it too.",
        [
            Evidence(
                f"violations added by benign pairs in {where}",
                mean(added(benign[code], ALIGNED, which(code)) for code in benign),
                below=DAMAGE,
            )
            for where, which in (("the language tuned", only), ("the others", but))
        ],
    )


def unsafe_adapted(study: Study, seen: Seen) -> Caution | None:
    """Adapted models before anything is added, in the languages that the original lacks."""
    answered = seen[VIOLATION]
    asked = [
        rate(cell, only(code))
        for cell in adapted(answered)
        for code in answered.only([cell]).common
        if code not in study.languages
    ]
    if not asked:
        return None
    return Caution(
        "unsafe_adapted",
        "Before",
        "An adapted model was not safe in the new languages to begin with, so less can be added.",
        [
            Evidence(
                "violations of an adapted model, in the new language with most",
                best(asked),
                below=DAMAGE,
            )
        ],
    )


def complement(study: Study, seen: Seen) -> Caution:
    """All weights but those of the mask."""
    rest, free = study.masked("stitched", "complement"), attacked(study.localized)
    sides = [only, but] if len(seen[VIOLATION].languages) > 1 else [only]
    # Where the attack adds nothing there is no share of it.
    sides = [where for where in sides if (_added(seen, free, where) or 0) > NOTHING] or [only]
    least = worst(summed(rest, where) / summed(free, where) for where in sides)
    return Caution(
        "mask_not_needed",
        "Complement",
        "All weights outside the mask do as well, so the damage does not need the mask.",
        [
            Evidence(
                "share of the attack that all other weights carry, in its own language or in the "
                "others, where it is less",
                least,
                below=NEEDLESS,
            )
        ],
    )


def _added(seen: Seen, free: Mapping[str, Cell], where: Places) -> float | None:
    """What attacks add in some languages, summed; None if it was not measured."""
    added_there = summed(free, where)
    return added_there.figure(seen).value if added_there.measured(seen) else None


def about_any_change(overlap: Rows) -> Caution | None:
    """Whether the mask is about safety or about any change."""
    same = [r["jaccard"] for r in overlap if r["method"] == "benign" and r["a"] == r["b"]]
    languages = [row["jaccard"] for row in overlap if row["method"] == "sil"]
    if not same or not languages:
        return None
    return Caution(
        "any_change",
        "What the mask is about",
        "The mask is at least as much about any change as about safety: those of the attack and "
        "of benign tuning in one language share as much as those of two languages.",
        [
            Evidence(
                "overlap with the mask of benign tuning in the same language, mean",
                Figure(fmean(same), min(same), max(same), "lowest and highest", "jaccard"),
                below=fmean(languages),
            )
        ],
    )


def broken_freeze(proof: Rows) -> Caution:
    """Weights that were frozen moved."""
    broken = dict.fromkeys(row["variant"] for row in proof if row["moved"])
    frozen = sum(row["frozen"] for row in proof)
    moved = Figure(sum(row["moved"] for row in proof), unit="count")
    return Caution(
        "freeze_broken",
        "Freeze broken",
        f"Weights that were frozen moved; what says nothing about freezing: {', '.join(broken)}.",
        [Evidence(f"frozen weights that moved, of {frozen:,}", moved, below=HELD)],
    )


def utility(study: Study, seen: Seen) -> Caution:
    """Whether attacks damaged more than safety."""
    attacks = [c for c in attacked(study.attacked).values() if seen[ACCURACY].has(c)]
    after = mean(rate(cell, metric=ACCURACY) for cell in attacks)
    return Caution(
        "damaged",
        "Utility",
        "The attack also damaged the model, which blurs what is safety and what is skill.",
        [
            Evidence(
                "benign accuracy lost, mean over attacks",
                rate(ALIGNED, metric=ACCURACY) - after,
                below=DAMAGE,
            )
        ]
        * bool(attacks),
    )
