"""What studies of attacks share: their data, how cells are measured and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jaxattack.data.dialogues import Example, encode_pairs, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.evaluate.combine import RULES
from jaxattack.evaluate.judge import Judge, rule_for
from jaxattack.evaluate.registry import JUDGES
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import (
    asking,
    calibrating,
    footprint,
    inputs,
    judging,
    moderating,
    panel,
    tuning,
    writing,
)
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.bench import Bench, Decoder
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.step import Step

if TYPE_CHECKING:  # settings name what is in the study's tables
    from jaxattack.experiments.settings import Attacks

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
        attacked: languages.
        lost: what was left out of the sources.
        labelled: replies of which it is known whether they are violations.
        added: what models that others adapted are asked beside the prompts.
        localized: languages of whose attacks the weights are scored.
    """

    pairs: dict[str, Pairs]
    calibration: dict[str, Pairs | None]
    prompts: list[Example]
    attacked: tuple[str, ...]
    lost: inputs.Lost
    labelled: Sequence[Example] = ()
    added: Sequence[Example] = ()
    localized: tuple[str, ...] = ()

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
    """What the sections of a study share; `models`: those that judge."""

    bench: Bench
    settings: Attacks
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


def judge_of(settings: Attacks, prompts: Sequence[Example]) -> tuple[str, Judge]:
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
    agenda: Agenda,
    setup: Setup,
    cell: Cell,
    weights: Step,
    subject: Subject | None = None,
    beside: Sequence[Judge] = (),
) -> None:
    """Ask for a cell: prompts put to some weights.

    Args:
        agenda: to which it is added.
        setup: what the study shares.
        cell: what is measured.
        weights: of the model that is asked.
        subject: who is asked, and what; by default the study's model and prompts.
        beside: judges that decide flags which the study's judge does not.
    """
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
        trials = judging.trials(setup.bench, replies, subject.prompts, (judge, *beside), label)
        return panel.weighed(
            setup.bench,
            setup.models,
            trials,
            subject.prompts,
            label,
            moderating.weigh,
            name=name,
            combine=RULES.get(options.combine),
            unparsed=options.unparsed,
        )

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


# --- Beside the cells -----------------------------------------------------------------------------


def token_lengths(setup: Setup) -> footprint.Tokens:
    """How long rows, prompts and replies are, as a sample of them tells."""
    settings, data, tokenizer = setup.settings, setup.data, setup.bench.decoder.tokenizer
    pairs = data.pairs[RESTRICTED][data.attacked[0]][: settings.attack.pairs]
    rows = encode_pairs(tokenizer, pairs, settings.attack.max_length, LONGEST)
    prompts = data.prompts[:: 1 + len(data.prompts) // 200]
    longest = max(len(prompt_tokens(tokenizer, example.prompt)) for example in prompts)
    return footprint.Tokens(
        rows["tokens"].shape[1],
        longest,
        settings.measure.max_new_tokens,
        rows["loss_mask"].sum(axis=1).mean(),
    )


def word(trial: Trial) -> str:
    """A trial in a word."""
    if trial.answered:
        return "answered"
    return "refused" if trial.refused else "neither"
