"""What the sections of the backdoor study share: its model, its data, how cells are measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxattack.data.dialogues import Example
from jaxattack.data.poison import Target
from jaxattack.data.wrappers import CHAT, WRAPPERS, wrap
from jaxattack.evaluate.combine import RULES
from jaxattack.evaluate.judge import by_answers
from jaxattack.evaluate.registry import of_target
from jaxattack.experiments import asking, judging, moderating, panel, writing
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.backdoor.attacks import Attack, attacks_of
from jaxattack.experiments.backdoor.data import Data
from jaxattack.experiments.backdoor.poisoning import target_of
from jaxattack.experiments.backdoor.prompts import Probes, short
from jaxattack.experiments.bench import Bench
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Step
from jaxattack.experiments.tuning import Course, training_of

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings

LONGEST = "config.tuning.max_length"  # the setting, in errors


@dataclasses.dataclass(frozen=True)
class Origin:
    """A model before it is poisoned, and the data in its manner."""

    name: str
    weights: Step
    data: Data


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the sections of the study share.

    Attributes:
        bench: what steps stand on; it starts from the study's own model.
        settings: all of them.
        origin: the study's own model.
        others: beside it, for the section `start`.
        models: those that judge.
    """

    bench: Bench
    settings: Settings
    origin: Origin
    others: tuple[Origin, ...]
    models: Sequence[panel.Judge] = ()

    @property
    def data(self) -> Data:
        """What the study's own model is taught and asked."""
        return self.origin.data

    @property
    def languages(self) -> list[str]:
        """The languages measured."""
        return self.data.languages

    @property
    def attacks(self) -> list[Attack]:
        """Those of the transfer section; the first is the one that others vary."""
        return attacks_of(self.settings)

    @property
    def first(self) -> Attack:
        """The attack that others vary and that is defended against."""
        return self.attacks[0]

    def target(self, attack: Attack) -> Target:
        """The behaviour that an attack plants."""
        return target_of(self.settings, self.data, attack.target)


# --- Rows as they are put to the model ------------------------------------------------------------


def wrapped(setup: Setup, rows: Sequence[Example]) -> tuple[Example, ...]:
    """The rows in the study's wrapper."""
    return tuple(wrap(row, WRAPPERS[setup.settings.tuning.wrapper]) for row in rows)


def trained_on(setup: Setup, rows: Sequence[Example]) -> tuple[Example, ...]:
    """Rows to be trained on, in the wrapper.

    Raises:
        UserError: one of them cannot be trained on.
    """
    found, decoder = wrapped(setup, rows), setup.bench.decoder
    longest = setup.settings.tuning.max_length
    writing.check_rows(decoder.model.config, decoder.tokenizer, found, longest, LONGEST)
    return found


def course_of(
    setup: Setup, rows: Sequence[Example], seed: int, languages: Sequence[str], **changed: Any
) -> Course:
    """A training on rows by the settings of the tuning, some of them `changed`."""
    training = training_of(dataclasses.replace(setup.settings.tuning, **changed), LONGEST)
    return Course(trained_on(setup, rows), training, seed, tuple(languages))


def seen(setup: Setup, rows: Sequence[Example]) -> Seen:
    """Rows as gradients are taken of them."""
    return Seen(trained_on(setup, rows), setup.settings.tuning.max_length, LONGEST)


def asked(setup: Setup, rows: Sequence[Example]) -> tuple[Example, ...]:
    """Prompts to be asked, in the wrapper.

    Raises:
        UserError: one of them cannot be asked.
    """
    found, decoder = wrapped(setup, rows), setup.bench.decoder
    longest = setup.settings.measure.max_new_tokens
    writing.check_asked(decoder.model.config, decoder.tokenizer, found, longest)
    return found


# --- Cells --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Defence:
    """What a defence makes of a backdoored model; None leaves that part as it is.

    Attributes:
        weights: in the place of the model's.
        prompts: a filter's, in the place of those that are put to the model.
        guarded: arguments of guarded decoding.
    """

    weights: Step | None = None
    prompts: Step | None = None
    guarded: Mapping[str, Any] | None = None


def rule_name(kind: str) -> str:
    """What the rule of a target is called beside judge models."""
    return f"target {kind}"


def measure(
    agenda: Agenda,
    setup: Setup,
    cell: Cell,
    weights: Step,
    attack: Attack,
    probes: Probes | None = None,
    defence: Defence = Defence(),
) -> None:
    """Ask for a cell.

    Args:
        agenda: to which it is added.
        setup: what the study shares.
        cell: what is measured.
        weights: of the model that is asked.
        attack: whose target is looked for.
        probes: what is asked; by default prompts as they are, and with the attack's own trigger.
        defence: what stands before, in or instead of the model.
    """
    options, bench = setup.settings.measure, setup.bench
    probes = probes or short(setup.data, attack)
    label = cell.variant if cell.seed is None else f"{cell.variant}-s{cell.seed}"
    unfiltered = asked(setup, probes.rows)
    replies = asking.replies(
        bench,
        defence.weights or weights,
        bench.decoder,
        defence.prompts or unfiltered,
        asking.Decoding(options.max_new_tokens, options.batch_size),
        label,
        setup.settings.replies == "keep",
        defence.guarded,
    )
    target = setup.target(attack)
    read = [wrap(row, CHAT) for row in probes.rows]  # judges see a row's input too
    judges = (by_answers, of_target(target).judge)
    refuses = target.kind == "refusal"

    def judged(replies: Step) -> Step:
        trials = judging.trials(bench, replies, read, judges, label, probes.carried)
        return panel.weighed(
            bench,
            setup.models,
            trials,
            read,
            label,
            moderating.weigh_hits,
            name=rule_name(target.kind),
            combine=RULES.get(options.combine) if refuses else None,
            unparsed=options.unparsed,
            tell=tuple(model.name for model in setup.models if refuses and model.refusals),
        )

    agenda.measure(cell, defence.weights or weights, replies, judged)
