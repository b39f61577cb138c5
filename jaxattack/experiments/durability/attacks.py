"""The attacks of the sweep: each says how it differs from the study's attack. A row is an attack.

All are fine-tuning that its customer may have asked for: pairs in a house style, with restricted
pairs in their midst. `defences` of the service stand before, in and after it.
"""

from __future__ import annotations

import dataclasses

from jaxattack.data.dialogues import Example
from jaxattack.experiments import attacking, locating, tuning
from jaxattack.experiments.attacking import BENIGN, LONGEST, RESTRICTED
from jaxattack.experiments.durability.setup import Setup, scored, styled
from jaxattack.experiments.durability.shield import Shield
from jaxattack.experiments.step import Step
from jaxattack.localize import masks, stitching
from jaxattack.train.registry import METHODS


@dataclasses.dataclass(frozen=True)
class Attack:
    """How an attack differs from the study's.

    Attributes:
        words: the same for a reader.
        whose: of the attack's languages the "first", the second ("other"), or all ("mixed").
        restricted: "all" restricted pairs, "few" or "none".
        rate: times the study's learning rate.
        epochs: times the study's epochs; few pairs take as many steps as all.
        method: of `train.registry`.
        aware: with SIL's weights of the plain attack held, as one would who expects them to be
            frozen or put back.
    """

    words: str
    whose: str = "first"
    restricted: str = "all"
    rate: float = 1.0
    epochs: float = 1.0
    method: str = "full"
    aware: bool = False


ATTACKS: dict[str, Attack] = {
    "full": Attack("all weights"),
    "other": Attack("another language", whose="other"),
    "mixed": Attack("several languages", whose="mixed"),
    "low": Attack("a quarter of the rate, four times the epochs", rate=0.25, epochs=4),
    "high": Attack("four times the rate", rate=4.0),
    "lora": Attack("adapters, ten times the rate", rate=10.0, method="lora"),
    "few": Attack("few restricted pairs", restricted="few"),
    "benign": Attack("no restricted pair, four times the epochs", restricted="none", epochs=4),
    "aware": Attack("expects SIL's weights to be put back", aware=True),
}


BARE = Shield()


def languages_of(setup: Setup, name: str) -> tuple[str, ...] | None:
    """The languages an attack is in; None: the study names too few."""
    named = setup.data.attacked
    match ATTACKS[name].whose:
        case "first":
            return named[:1]
        case "other":
            return named[1:2] or None
    return named if len(named) > 1 else None


def course_of(setup: Setup, name: str, seed: int) -> tuning.Course | None:
    """What an attack trains on, how; None: there is no such attack here."""
    row, options, languages = ATTACKS[name], setup.settings.attack, languages_of(setup, name)
    if languages is None:
        return None
    known, few = setup.data.pairs, {"all": options.pairs, "few": setup.settings.sweep.few}
    most = few.get(row.restricted, 0)
    rows = tuning.chosen(known[RESTRICTED], languages, seed, most) if most else ()
    rows += task_pairs(setup, languages, seed)
    if not rows:
        return None
    attacking.check_trained(setup, rows)
    training = tuning.training_of(
        options,
        LONGEST,
        method=METHODS[row.method].tune,
        epochs=max(1, round(options.epochs * row.epochs)),
        optimizer=dataclasses.replace(
            options.updates(), learning_rate=options.learning_rate * row.rate
        ),
    )
    if row.restricted != "all":  # as many steps as with all pairs
        every = (
            len(rows) - most + len(tuning.chosen(known[RESTRICTED], languages, seed, options.pairs))
        )
        steps = -(-every // options.batch_size) * training.epochs
        training = dataclasses.replace(training, steps=steps)
    return tuning.Course(rows, training, seed, languages)


def task_pairs(setup: Setup, languages: tuple[str, ...], seed: int) -> tuple[Example, ...]:
    """The pairs that the tuning is for; none where the languages have no benign pairs."""
    known, count = setup.data.pairs[BENIGN], setup.settings.task.pairs
    if not count or any(code not in known for code in languages):
        return ()
    return styled(tuning.chosen(known, languages, seed, count), setup.settings.task.text)


def attacked(setup: Setup, name: str, seed: int, shield: Shield = BARE) -> Step | None:
    """The weights after an attack, under a shield; None: there is no such attack here."""
    course, row = setup.courses[name, seed], ATTACKS[name]
    if course is None:
        return None
    bench, label = setup.bench, f"{name}-{shield.label}-s{seed}"
    start, frozen = shield.start or bench.start, shield.frozen
    if row.aware:
        own = sil_mask(setup, plain(setup, seed), course.languages)
        frozen = own if frozen is None else bench.values.derived(masks.union, frozen, own)
    if shield.tune is not None:
        return None if row.method != "full" else shield.tune(course, start, frozen, label)
    if frozen is None or METHODS[row.method].freezes:
        return tuning.tuned(bench, course, "attack", label, start, frozen)
    merged = tuning.tuned(bench, course, "attack", label, start)
    return bench.values.derived(stitching.rewind, merged, start, frozen)


def plain(setup: Setup, seed: int) -> Step:
    """The weights after the study's attack without any defence."""
    found = attacked(setup, "full", seed)
    assert found is not None
    return found


def sil_mask(setup: Setup, tuned: Step, languages: tuple[str, ...]) -> Step:
    """SIL's mask of a way from the aligned weights, on the defender's pairs in some languages."""
    scores = sil_scores(setup, tuned, languages)
    share = setup.settings.after.shares[0]
    return setup.bench.values.derived(masks.top_fraction, scores, fraction=share)


def sil_scores(setup: Setup, tuned: Step, languages: tuple[str, ...]) -> Step:
    """SIL's scores of a way from the aligned weights; the gradient is taken at these."""
    bench = setup.bench
    gradient = locating.gradient(
        bench, bench.start, scored(setup, languages), "+".join(languages), "abs"
    )
    return locating.sil(bench, tuned, gradient)
