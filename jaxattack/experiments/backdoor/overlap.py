"""Where a backdoor sits: its SIL mask beside the safety attack's, and beside other backdoors'."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxattack import workdir
from jaxattack.data import triggers
from jaxattack.data.dialogues import Example
from jaxattack.data.poison import respond
from jaxattack.experiments import inputs
from jaxattack.experiments import settings as other_study
from jaxattack.experiments.backdoor.data import SUBJECTS, Attack, sentence_of, target_of, wrapped
from jaxattack.experiments.backdoor.sections import Section, name_of
from jaxattack.experiments.backdoor.stages import Setup, gradient_of, poisoned
from jaxattack.experiments.bench import Bench, Decoder
from jaxattack.experiments.fragility import localization
from jaxattack.experiments.fragility import setup as fragility
from jaxattack.experiments.fragility.study import read_data
from jaxattack.experiments.lazy import Lazy, Memo
from jaxattack.experiments.step import Input, Step, Values
from jaxattack.experiments.tables import overlap as rows_of_overlap
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
            for language in safety.data.localized:
                others[f"safety attack/{language}"] = (
                    _lazy(localization.sil_mask(safety, language, seed)),
                    _lazy(localization.sil_movable(safety, language, seed)),
                )
        mask, movable = found[first]
        for name, (other, from_other) in others.items():
            facts = {"a": first, "b": name, "method": "sil", "fraction": SHARE, "seed": seed}
            section.findings.append(
                find(setup.root, setup.memo, "overlap", f"{name}-s{seed}", rows_of_overlap,
                     mask, other, movable, from_other, columns=facts)
            )  # fmt: skip
    return section


def safety_setup(setup: Setup) -> fragility.Setup | None:
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
    known = read_data(settings, inputs.model_directory("organism:aligned", None))
    lineage = workdir.digest(setup.origin.weights.lineage)
    values = Values()
    start = Step(_weights, {"weights": Bridge(lineage, setup.origin.weights, setup.memo)}, values)
    decoder = Decoder(setup.model, setup.tokenizer)
    bench = Bench(setup.root, values, decoder, start, setup.like, settings.dtype)
    return fragility.make_setup(bench, settings, known)


@dataclasses.dataclass(frozen=True)
class Bridge:
    """A tree of this study as a step of the other, until this one is made of steps too."""

    lineage: str
    lazy: Lazy = dataclasses.field(compare=False)
    memo: Memo = dataclasses.field(compare=False)


def _weights(weights: Bridge):
    return weights.memo.load(weights.lazy)


def _lazy(step: Step) -> Lazy:
    return Lazy({"step": step.id}, lambda: Input(step)(), step.needs)


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
