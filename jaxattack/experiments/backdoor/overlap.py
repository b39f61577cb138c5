"""Where a backdoor sits: its SIL mask beside the safety attack's, and beside other backdoors'."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxattack.data import triggers
from jaxattack.data.dialogues import Example
from jaxattack.data.poison import respond
from jaxattack.experiments import inputs, stages
from jaxattack.experiments import settings as other_study
from jaxattack.experiments.backdoor.data import SUBJECTS, Attack, sentence_of, target_of, wrapped
from jaxattack.experiments.backdoor.sections import Section, name_of
from jaxattack.experiments.backdoor.stages import Setup, gradient_of, poisoned
from jaxattack.experiments.fragility import localization, shared
from jaxattack.experiments.fragility import study as fragility
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.wanted import find
from jaxattack.localize import masks, scores

SHARE = 0.2  # of the weights, in every mask


def overlap(setup: Setup) -> Section:
    """Jaccard of SIL masks: of a backdoor, of clean training, and of the safety attack."""
    section = Section()
    safety = safety_setup(setup)
    for seed in setup.settings.seeds:
        found = {name_of(attack): backdoor_mask(setup, attack, seed) for attack in setup.attacks}
        first = name_of(setup.attacks[0])
        others = {name: masks_ for name, masks_ in found.items() if name != first}
        others["clean"] = clean_mask(setup, seed)
        if safety is not None:
            for language in safety.localized_languages:
                others[f"safety attack/{language}"] = (
                    localization.sil_mask(safety, language, seed),
                    localization.sil_movable(safety, language, seed),
                )
        mask, movable = found[first]
        for name, (other, from_other) in others.items():
            facts = {"a": first, "b": name, "method": "sil", "fraction": SHARE, "seed": seed}
            section.findings.append(
                find(setup.root, setup.memo, "overlap", f"{name}-s{seed}", shared.overlap,
                     mask, other, movable, from_other, facts=facts)
            )  # fmt: skip
    return section


def safety_setup(setup: Setup) -> stages.Setup | None:
    """The fragility study's attacks on the same start; None where its data are not known."""
    if not setup.settings.model.startswith("organism:"):
        return None
    languages = tuple(dict.fromkeys(code for a in setup.attacks for code in a.languages))
    settings = dataclasses.replace(
        other_study.Settings(),
        seeds=setup.settings.seeds,
        dtype=setup.settings.dtype,
        mesh=setup.settings.mesh,
        attack=other_study.Attack(languages=languages[:2]),
        localize=other_study.Localize(control_fraction=SHARE),
    )
    known = fragility.read_data(settings, inputs.model_directory("organism:aligned", None))
    start = setup.origin.weights
    return fragility.make_setup(settings, setup.root, setup.subject, start, setup.like, known)


def backdoor_mask(setup: Setup, attack: Attack, seed: int) -> tuple[Lazy, Lazy]:
    """SIL's mask of a backdoor: on held-out prompts with the trigger and the target behaviour."""
    target = target_of(setup.settings, setup.data, attack.target)
    if attack.trigger in SUBJECTS:
        known = setup.data.subjects[attack.trigger].pairs
        rows = [row for row in known if row.language in attack.languages]
    else:
        sentence = sentence_of(setup.data, attack.trigger)
        rows = [
            triggers.triggered(row, sentence, seed)
            for row in setup.data.held_out
            if row.language in attack.languages
        ]
    shown = [dataclasses.replace(row, response=respond(row, target, seed)) for row in rows]
    return sil_mask(setup, poisoned(setup, attack, seed), shown, f"{attack.name}-s{seed}")


def clean_mask(setup: Setup, seed: int) -> tuple[Lazy, Lazy]:
    """SIL's mask of clean training: on held-out pairs of the first attack's languages."""
    languages = setup.attacks[0].languages
    rows = [row for row in setup.data.held_out if row.language in languages]
    return sil_mask(setup, poisoned(setup, None, seed), rows, f"clean-s{seed}")


def sil_mask(setup: Setup, tuned: Lazy, rows: Sequence[Example], label: str) -> tuple[Lazy, Lazy]:
    """SIL's mask as in the fragility study: `|tau|` times the mean `|gradient|` at the start.

    Beside it the weights that it was chosen from.
    """
    start = setup.origin.weights
    gradient = gradient_of(setup, start, wrapped(setup.settings, rows), label)
    scores_ = setup.memo.derive("sil", scores.sil, start, tuned, gradient)
    mask = setup.memo.derive("top", masks.top_fraction, scores_, fraction=SHARE)
    return mask, setup.memo.derive("with score", masks.with_score, scores_)
