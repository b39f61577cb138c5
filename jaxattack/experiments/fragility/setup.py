"""What the fragility study's sections share: its data, its attacks, how cells are measured."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jaxattack import tree
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.evaluate.combine import RULES
from jaxattack.evaluate.judge import Judge, rule_for
from jaxattack.evaluate.registry import JUDGES
from jaxattack.experiments import asking, calibrating, inputs, judging, panel, tuning, writing
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.bench import Bench, Decoder
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Step

if TYPE_CHECKING:  # settings name what is in the study's tables
    from jaxattack.experiments.settings import Settings

RESTRICTED, BENIGN = "restricted", "benign"
LONGEST = "config.attack.max_length"  # the setting, in errors

Pairs = dict[str, list[Example]]  # by language


@dataclasses.dataclass(frozen=True)
class Data:
    """The examples of a study and its languages.

    Attributes:
        pairs: by kind and language.
        calibration: the same, apart from the pairs; None: what an attack leaves of them.
        prompts: what is asked.
        added: what models that others adapted are asked beside that.
        attacked, localized: languages.
        lost: what was left out of the sources.
        labelled: replies of which it is known whether they are violations.
    """

    pairs: dict[str, Pairs]
    calibration: dict[str, Pairs | None]
    prompts: list[Example]
    added: list[Example]
    attacked: tuple[str, ...]
    localized: tuple[str, ...]
    lost: inputs.Lost
    labelled: Sequence[Example] = ()

    def texts(self) -> Iterator[Example]:
        """Every example that may be trained on, scored or asked."""
        yield from self.prompts
        for kinds in (self.pairs, self.calibration):
            for languages in kinds.values():
                for examples in (languages or {}).values():
                    yield from examples


@dataclasses.dataclass(frozen=True)
class Subject:
    """Who is asked, and what."""

    decoder: Decoder
    prompts: Sequence[Example]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the sections share; `models`: those that judge."""

    bench: Bench
    settings: Settings
    data: Data
    models: Sequence[panel.Judge] = ()

    @property
    def subject(self) -> Subject:
        """The study's own model and prompts."""
        return Subject(self.bench.decoder, self.data.prompts)

    @property
    def languages(self) -> list[str]:
        """The languages measured, in the order of the prompts."""
        return list(dict.fromkeys(prompt.language for prompt in self.data.prompts))

    @property
    def share(self) -> float:
        """The size at which masks are compared."""
        return self.settings.localize.control_fraction


def make_setup(bench: Bench, settings: Settings, data: Data, weights: bool) -> Setup:
    """What the sections share; without `weights` only for a plan.

    Raises:
        UserError: a prompt that cannot be asked, masks that could select nothing.
    """
    models = panel.opened(bench, settings.measure, weights)
    setup = Setup(bench, settings, data, models)
    check_prompts(setup, setup.subject)
    exclude = settings.localize.exclude
    if exclude and all(re.search(exclude, name) for name in tree.named_leaves(bench.like)):
        raise UserError(
            f"config.localize.exclude is {exclude!r}, which leaves no weights to select from"
        )
    return setup


def check_prompts(setup: Setup, subject: Subject) -> None:
    """Refuse prompts that cannot be asked, before anything is computed.

    Raises:
        UserError: names the prompt.
    """
    writing.check_asked(
        subject.decoder.model.config,
        subject.decoder.tokenizer,
        subject.prompts,
        setup.settings.measure.max_new_tokens,
    )


# --- Cells --------------------------------------------------------------------------------------


def judge_of(settings: Settings, prompts: Sequence[Example]) -> tuple[str, Judge]:
    """The judge of these prompts, and its name.

    Raises:
        UserError: as `rule_for`, or the judge named has nothing to go by.
    """
    fitting = rule_for(prompts)
    name = fitting if settings.measure.judge == "auto" else settings.measure.judge
    if JUDGES[name].needs_answers and not any(e.answers for e in prompts if e.kind == "restricted"):
        raise UserError(
            f"config.measure.judge is {name!r}, and restricted prompts in "
            f"{', '.join(sorted({e.language for e in prompts}))} have no answers to go by: give a "
            "column answers, or take another judge"
        )
    return name, JUDGES[name].judge


def measure(
    agenda: Agenda, setup: Setup, cell: Cell, weights: Step, subject: Subject | None = None
) -> None:
    """Ask for a cell: the study's prompts put to some weights."""
    subject, options = subject or setup.subject, setup.settings.measure
    label = cell.variant if cell.seed is None else f"{cell.variant}-s{cell.seed}"
    replies = asking.replies(
        setup.bench,
        weights,
        subject.decoder,
        subject.prompts,
        asking.Decoding(options.max_new_tokens, options.batch_size),
        label,
        setup.settings.replies == "keep",
    )
    name, judge = judge_of(setup.settings, subject.prompts)

    def judged(replies: Step) -> Step:
        trials = judging.trials(setup.bench, replies, subject.prompts, (judge,), label)
        opinions = {
            model.name: panel.opinions(setup.bench, model, replies, subject.prompts, label)
            for model in setup.models
        }
        if not opinions:
            return trials
        return panel.weighed(setup.bench, trials, opinions, name, options, label)

    agenda.measure(cell, weights, replies, judged)


def calibrate(agenda: Agenda, setup: Setup) -> None:
    """Ask for the judges' errors on labelled replies, if there are any."""
    labelled, options = setup.data.labelled, setup.settings.measure
    if not labelled:
        return
    name, judge = judge_of(setup.settings, setup.data.prompts)
    values = setup.bench.values
    own = Step(calibrating.own_words, {"examples": labelled, "one": judge}, values)
    said = Step(calibrating.responses, {"examples": labelled}, values)
    opinions = [
        panel.read(setup.bench, model, said, labelled, options.batch_size, "labelled")
        for model in setup.models
    ]
    find(
        agenda,
        setup,
        "judge_errors",
        "labelled",
        calibrating.errors,
        own,
        *opinions,
        examples=tuple(labelled),
        names=(name, *(model.name for model in setup.models)),
        combine=RULES.get(options.combine),
        unparsed=options.unparsed,
    )


def find(
    agenda: Agenda,
    setup: Setup,
    table: str,
    label: str,
    function: Callable[..., list[dict[str, Any]]],
    *parts: Step,
    **options: Any,
) -> None:
    """Ask for rows of a table, made by a function of steps' values."""
    agenda.find(table, setup.bench.rows(table, label, function, *parts, **options))


# --- Attacks ------------------------------------------------------------------------------------


def attack(
    setup: Setup,
    languages: Sequence[str],
    seed: int,
    kind: str = RESTRICTED,
    pairs: int | None = None,
    frozen: Step | None = None,
    start: Step | None = None,
) -> Step:
    """Fine-tuned weights: on pairs of some languages, perhaps with weights frozen.

    Args:
        setup: what the study shares.
        languages: of the pairs; several share the number between them.
        seed: of their choice and order.
        kind: of the pairs, restricted or benign.
        pairs: how many at most; by default as the settings say.
        frozen: a mask, True where weights are held.
        start: weights to start from; by default the aligned ones.
    """
    options = setup.settings.attack
    examples = attack_pairs(setup, languages, seed, kind, pairs)
    training = tuning.training_of(options, LONGEST)
    if setup.settings.transfer.dose_by == "steps":  # as many as with all pairs
        steps = training.count(attack_pairs(setup, languages, seed, kind))
        training = dataclasses.replace(training, steps=steps)
    check_trained(setup, examples)
    course = tuning.Course(examples, training, seed, tuple(languages))
    what = {RESTRICTED: "attack", BENIGN: "benign"}[kind] if frozen is None else "frozen"
    label = f"{'+'.join(languages)}-s{seed}"
    return tuning.tuned(setup.bench, course, what, label, start, frozen)


def attack_pairs(
    setup: Setup,
    languages: Sequence[str],
    seed: int,
    kind: str = RESTRICTED,
    pairs: int | None = None,
) -> tuple[Example, ...]:
    """The pairs of one attack: at most so many, chosen and ordered by the seed."""
    most = setup.settings.attack.pairs if pairs is None else pairs
    return tuning.chosen(setup.data.pairs[kind], languages, seed, most)


def check_trained(setup: Setup, examples: Sequence[Example]) -> None:
    """Refuse pairs that cannot be trained on, before anything is computed.

    Raises:
        UserError: names the pair.
    """
    decoder, longest = setup.bench.decoder, setup.settings.attack.max_length
    writing.check_rows(decoder.model.config, decoder.tokenizer, examples, longest, LONGEST)


def calibration_pairs(
    setup: Setup, language: str, seed: int, kind: str = RESTRICTED
) -> tuple[list[Example], str]:
    """The examples on which one attack's weights are scored, and a word on where they come from.

    Without calibration data: what the attack left of the pairs, or, when it left nothing, the
    attack pairs themselves.
    """
    most = setup.settings.localize.examples
    found = setup.data.calibration[kind]
    if found is not None:
        return found[language][:most], "pairs set aside for calibration"
    used = attack_pairs(setup, [language], seed, kind)
    left = [pair for pair in setup.data.pairs[kind][language] if pair not in used]
    if left:
        return left[:most], "pairs that the attack did not use"
    return list(used[:most]), "the attack pairs themselves"


def seen(setup: Setup, language: str, seed: int, kind: str = RESTRICTED) -> Seen:
    """The calibration examples as gradients are taken of them."""
    examples, _ = calibration_pairs(setup, language, seed, kind)
    check_trained(setup, examples)
    return Seen(tuple(examples), setup.settings.attack.max_length, LONGEST)
