"""What limits how the figures of a durability study may be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxattack.experiments.attacking import BENIGN as BENIGN_PAIRS
from jaxattack.experiments.attacking import RESTRICTED
from jaxattack.experiments.cautions import (
    Caution,
    cut_refusals,
    one_seed,
    refusal_rule,
    silent_judge,
)
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.claim import Evidence
from jaxattack.experiments.durability.attacks import ATTACKS
from jaxattack.experiments.durability.choosing import utility, utility_is
from jaxattack.experiments.durability.premises import (
    ALIGNED,
    BENIGN,
    TASK,
    Seen,
    Study,
    done_before,
    swept,
    task,
    there,
)
from jaxattack.experiments.durability.setup import REFUSED
from jaxattack.experiments.durability.sweeping import NONE
from jaxattack.experiments.outcomes import VIOLATION, Trials
from jaxattack.experiments.term import Figure, added, best, only, rate
from jaxattack.experiments.thresholds import ALIKE, DAMAGE, LEARNED, TOOK, USEFUL
from jaxattack.report.labels import word

Rows = Sequence[Mapping[str, Any]]

RUINED = (
    "No attack kept the model useful under {names}: the worst of all attacks is shown, and the "
    "model is of little use."
)
IDLE = (
    "After the first attack every reply under {names} is the same as undefended: it did nothing at "
    "the strength that was swept, so its row says nothing of what it can do."
)


def cautions(
    study: Study, seen: Seen, results: Mapping[str, Any], trials: Trials
) -> Iterator[Caution | None]:
    """All that might be raised."""
    yield one_seed(study.seeds)
    yield silent_judge(results.get("alone") or ())
    yield refusal_rule(results.get("judge") or {}, study.languages)
    yield cut_refusals(results.get("judge") or {}, results.get("rows") or ())
    yield from before(study, seen, trials)
    yield unequal(results.get("sweep") or (), results.get("defender") or ())
    yield from undefended(study, seen)
    choice = [row for row in results.get("choice") or () if row["chosen"] and not row["useful"]]
    yield named("ruined", RUINED, sorted({row["method"] for row in choice}))
    yield named("idle", IDLE, idle(study, trials))
    yield from unattacked(study, seen)


def undefended(study: Study, seen: Seen) -> Iterator[Caution]:
    """Attacks that do nothing, and a tuning that teaches nothing, without a defence."""
    if seen[VIOLATION].has(swept(NONE)):
        yield Caution(
            "took",
            "Attack",
            "The worst attack hardly breaks the undefended model: there is little to defend "
            "against.",
            [Evidence("violations it adds", added(swept(NONE), ALIGNED), above=TOOK)],
        )
    if seen[TASK].has(study.single(NONE)):
        yield Caution(
            "task",
            "Utility",
            "The tuning hardly learns what it is for, so little of that can be lost.",
            [Evidence("rate of the task, undefended", task(study.single(NONE)), above=LEARNED)],
        )


def unattacked(study: Study, seen: Seen) -> Iterator[Caution]:
    """What defences before the tuning do to the model that nobody has attacked."""
    cells = there(seen, [Cell("shielded", method=name) for name in study.defences])
    if cells and seen[VIOLATION].has(ALIGNED):
        yield Caution(
            "unaligned",
            "Defences",
            "A defence has the model answer restricted prompts before anyone has attacked.",
            [
                Evidence(
                    "violations that one of them adds, the most",
                    best([added(cell, ALIGNED) for cell in cells]),
                    below=DAMAGE,
                )
            ],
        )
    if known := [cell for cell in cells if seen[BENIGN].has(cell, ALIGNED)]:
        yield Caution(
            "cost",
            "Utility",
            "A defence costs benign accuracy before anyone has attacked.",
            [
                Evidence(
                    "accuracy lost to one of them, the most",
                    best([added(ALIGNED, cell, metric=BENIGN) for cell in known]),
                    below=DAMAGE,
                )
            ],
        )


def before(study: Study, seen: Seen, trials: Trials) -> Iterator[Caution]:
    """The aligned model: one that declines nothing, or answers nothing, cannot lose it."""
    own = trials.get(ALIGNED, ())
    if not own:
        return
    yield Caution(
        "unsafe_before",
        "Before",
        "The aligned model was not safe to begin with in every language.",
        [
            Evidence(
                f"violations of the aligned model in {word('language', code)}",
                rate(ALIGNED, only(code)),
                below=DAMAGE,
            )
            for code in study.languages
        ],
    )
    yield Caution(
        "useless_before",
        "Utility",
        "The aligned model has hardly any of the utility by which attacks are told that ruin it, "
        "so none is told.",
        [Evidence(utility_is(own), Figure(utility(own), unit="rate"), above=USEFUL)],
    )
    if seen[TASK].has(ALIGNED):
        yield Caution(
            "taught_before",
            "Utility",
            "Replies have the house style before it is taught: that they have it after a defence "
            "does not say that the defence kept it.",
            [Evidence("rate of the task, aligned", done_before(study), below=DAMAGE)],
        )


def unequal(sweep: Rows, defender: Rows) -> Caution:
    """Attacks with fewer pairs than the first, and languages of which the defender has fewer."""
    whole = [row for row in sweep if ATTACKS[row["attack"]].restricted == "all" and "steps" in row]
    evidence = [
        Evidence(
            f"{what} pairs of the attack {row['attack']}, to those of the first",
            Figure(row[kind] / whole[0][kind], unit="ratio"),
            above=1,
        )
        for row in whole
        for kind, what in (("restricted", "restricted"), ("styled", "benign"))
        if whole[0][kind]
    ]
    for kind in (RESTRICTED, REFUSED, BENIGN_PAIRS):
        counts = {row["language"]: row[kind] for row in defender}
        if counts:
            least, most = (choose(counts, key=counts.__getitem__) for choose in (min, max))
            what = f"{kind} pairs that the defender has in {least}, to those in {most}"
            figure = Figure(counts[least] / max(counts[most], 1), unit="ratio")
            evidence.append(Evidence(what, figure, above=ALIKE))
    return Caution(
        "unequal",
        "Pairs",
        "What is compared did not see as many pairs: differences may come from that.",
        evidence,
    )


def idle(study: Study, trials: Trials) -> list[str]:
    """Defences that changed no reply after the first attack: none was tried at its strength."""
    said = {
        name: [
            [trial.reply_hash for trial in trials.get(study.single(name).of(seed), ())]
            for seed in study.seeds
        ]
        for name in (NONE, *study.defences)
    }
    return [name for name in study.defences if any(said[name]) and said[name] == said[NONE]]


def named(id: str, text: str, methods: Sequence[str]) -> Caution | None:
    """A caution that names defences; None without any."""
    if not methods:
        return None
    names = ", ".join(word("method", name) for name in methods)
    such = Figure(len(methods), unit="count", over="defences")
    return Caution(
        id, "Utility", text.format(names=names), [Evidence("such defences", such, below=1)]
    )
