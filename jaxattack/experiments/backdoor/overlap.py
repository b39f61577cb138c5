"""Where a backdoor sits: its SIL mask beside the safety attack's, and beside other backdoors'."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from jaxattack.data.dialogues import Example
from jaxattack.data.poison import respond
from jaxattack.experiments import locating, opening, tables
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.backdoor.attacks import Attack
from jaxattack.experiments.backdoor.poisoning import shown
from jaxattack.experiments.backdoor.setup import Setup, seen
from jaxattack.experiments.backdoor.training import poisoned
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.fragility import settings as other_study
from jaxattack.experiments.fragility import setup as safety
from jaxattack.experiments.fragility import sil
from jaxattack.experiments.fragility.data import read_data
from jaxattack.experiments.step import Step
from jaxattack.localize import masks

SHARE = 0.2  # of the weights, in every mask


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A mask, and the weights that it was chosen from."""

    mask: Step
    movable: Step


def overlap(agenda: Agenda, setup: Setup) -> None:
    """Jaccard of SIL masks: the first attack's beside every other's (see `beside`).

    A row has the cell of the other, `method` and `share` as of both masks.
    """
    known = safety_setup(setup)
    for seed in setup.settings.seeds:
        first = of_backdoor(setup, setup.first, seed)
        for cell, other in beside(setup, known, seed):
            rows = setup.bench.rows(
                "overlap",
                f"{cell.variant}-s{seed}",
                tables.overlap,
                first.mask,
                other.mask,
                first.movable,
                other.movable,
                columns=cell.columns() | {"method": "sil", "share": SHARE},
            )
            agenda.find("overlap", rows)


def beside(setup: Setup, known: safety.Setup | None, seed: int) -> Iterator[tuple[Cell, Chosen]]:
    """Masks of other backdoors, of clean training, and of the safety attack where it is known."""
    for attack in setup.attacks[1:]:
        yield attack.cell(seed), of_backdoor(setup, attack, seed)
    yield Cell("clean", seed), of_clean(setup, seed)
    if known is None:
        return
    for language in known.data.localized:
        yield (
            Cell("attacked", seed, language),
            Chosen(
                sil.sil_mask(known, language, seed),
                sil.sil_movable(known, language, seed),
            ),
        )


def safety_setup(setup: Setup) -> safety.Setup | None:
    """The fragility study's attacks on the same start; None where its data are not known."""
    if not setup.settings.model.startswith("organism:"):
        return None
    languages = tuple(dict.fromkeys(code for a in setup.attacks for code in a.languages))
    known = other_study.Settings()
    settings = dataclasses.replace(
        known,
        seeds=setup.settings.seeds,
        dtype=setup.settings.dtype,
        mesh=setup.settings.mesh,
        attack=dataclasses.replace(known.attack, languages=languages[:2]),
        localize=other_study.Localize(control_fraction=SHARE),
    )
    data = read_data(settings, opening.model_directory("organism:aligned", None))
    return safety.make_setup(setup.bench, settings, data, weights=False)


def of_backdoor(setup: Setup, attack: Attack, seed: int) -> Chosen:
    """SIL's mask of a backdoor: on held-out prompts with the trigger and the target behaviour."""
    target = setup.target(attack)
    rows = shown(setup.data, attack, setup.data.held_out, seed)
    answered = [dataclasses.replace(row, response=respond(row, target, seed)) for row in rows]
    return chosen(setup, poisoned(setup, attack, seed), answered, f"{attack.name}-s{seed}")


def of_clean(setup: Setup, seed: int) -> Chosen:
    """SIL's mask of clean training: on held-out pairs of the first attack's languages."""
    rows = [row for row in setup.data.held_out if row.language in setup.first.languages]
    return chosen(setup, poisoned(setup, None, seed), rows, f"clean-s{seed}")


def chosen(setup: Setup, tuned: Step, rows: Sequence[Example], label: str) -> Chosen:
    """SIL's mask as in the fragility study: `|tau|` times the mean `|gradient|` at the start."""
    bench = setup.bench
    gradient = locating.gradient(bench, bench.start, seen(setup, rows), label)
    scores = locating.sil(bench, tuned, gradient)
    mask = bench.values.derived(masks.top_fraction, scores, fraction=SHARE)
    return Chosen(mask, locating.with_score(bench, scores))
