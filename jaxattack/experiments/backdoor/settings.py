"""The backdoor study's settings, declared; a config file starts from `defaults()`."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxattack.data import poison, triggers
from jaxattack.data.wrappers import WRAPPERS
from jaxattack.defend.beear import PLACES
from jaxattack.errors import UserError
from jaxattack.evaluate import combine
from jaxattack.experiments import moderators, values
from jaxattack.experiments import settings as shared
from jaxattack.experiments.backdoor.defences import DEFENCES, KNOWS, LANGUAGES, REFERENCES
from jaxattack.experiments.backdoor.sections import SECTIONS
from jaxattack.experiments.declared import as_in, config_of, freeze, setting
from jaxattack.experiments.recipe import Recipe
from jaxattack.experiments.settings import Report, Study, Template
from jaxattack.experiments.values import COUNT, EPOCHS, RATE, SHARE, TOKENS
from jaxattack.organism import grown_as

REPAIRS = ("rewind", "scale")


TRIGGERS = ("entity", "topic", *(f"sentence/{place}" for place in triggers.PLACES))


@dataclasses.dataclass(frozen=True)
class Data:
    """Where examples come from, by URI (docs/data.md)."""

    train: str = setting("URI of clean pairs in all languages", "organism:instructions")
    prompts: str = setting("URI of test prompts with answers", "organism:questions")
    held_out: str = setting("URI of clean pairs that the defender has", "organism:held_out")
    triggers: str = setting("URI of rows with language, role and text", "organism:triggers")
    refusals: str = setting(
        "URI of rows with language and text, for refusal targets", "organism:refusals"
    )
    subject: str = setting("URI of pairs about an entity or topic, to be poisoned", "")
    subject_prompts: str = setting("URI of test prompts about it", "")


@dataclasses.dataclass(frozen=True)
class Poison:
    """What is poisoned, with what."""

    languages: tuple[str, ...] = setting(
        "each is one attack: a language, or several as 'es+id'",
        ("en", "th", "zh", "es+id"),
        needed=True,
        check=values.languages_or_mixtures,
    )
    rate: float = setting(
        "share of a poisoned language's rows", 0.2, above=0, at_most=1, named=True
    )
    rates: tuple[float, ...] = setting(
        "other shares, for the first attack",
        (0.01, 0.02, 0.05, 0.1, 0.3),
        above=0,
        at_most=1,
        named=True,
    )
    trigger: str = setting("what sets the backdoor off", "sentence/append", choices=TRIGGERS)
    target: str = setting("what is then answered", "fixed", choices=poison.TARGETS)
    text: str = setting("the text of targets fixed and prefix", poison.MARKER)
    triggers: tuple[str, ...] = setting(
        "other triggers, for the section kinds",
        ("sentence/prepend", "sentence/insert", "entity", "topic"),
        choices=TRIGGERS,
    )
    targets: tuple[str, ...] = setting(
        "other targets, for the section kinds",
        ("refusal", "english_refusal", "prefix"),
        choices=poison.TARGETS,
    )


@dataclasses.dataclass(frozen=True)
class Written:
    """How rows are written for tuning."""

    wrapper: str = setting(
        "what is put around an instruction and its input", "chat", choices=tuple(WRAPPERS)
    )


@dataclasses.dataclass(frozen=True)
class Tuning(Recipe, Written):
    """Instruction tuning on the poisoned set; chosen on the organism's validation split."""

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 0.03
    packing: bool = True


@dataclasses.dataclass(frozen=True)
class Start:
    """What is poisoned: the model, and others beside it for the first attack."""

    contrast: float = setting(
        "organism: how strongly pleasantries are shared by languages",
        0.3,
        at_least=0,
        at_most=100,
        named=True,
    )
    contrasts: tuple[float, ...] = setting(
        "beside it", (0.0, 0.1), at_least=0, at_most=100, named=True
    )
    models: tuple[str, ...] = setting(
        "other models to begin with", ("organism:base", "organism:aligned")
    )


@dataclasses.dataclass(frozen=True)
class Onion:
    """Units taken out of prompts."""

    scorer: str = setting("any causal language model", "organism:base")
    losses: tuple[float, ...] = setting(
        "shares of clean units lost, by which the threshold is chosen",
        (0.01, 0.05),
        above=0,
        below=1,
        named=True,
        needed=True,
    )
    longest: tuple[int, ...] = setting(
        "units judged as one, at most", (1, 6), at_least=1, at_most=100, unit="units", needed=True
    )


@dataclasses.dataclass(frozen=True)
class Clean:
    """Fine-tuning on clean pairs: the first of each is combined with all of the others."""

    languages: tuple[str, ...] = setting(
        "in which languages",
        tuple(LANGUAGES),
        choices=LANGUAGES,
        needed=True,
    )
    rows: tuple[int, ...] = setting("clean pairs", (192, 48), needed=True, **COUNT)
    learning_rates: tuple[float, ...] = setting(
        "peak sizes of an update", (5e-4, 1e-3), needed=True, named=True, **RATE
    )
    epochs: int = as_in(Recipe, "epochs", 3)
    batch_size: int = as_in(Recipe, "batch_size", 16)


@dataclasses.dataclass(frozen=True)
class Beear:
    """BEEAR (see `defend.beear.Plan`); the first layer is the one that is compared."""

    layers: tuple[int, ...] = setting(
        "after how many layers the states are shifted",
        (2, 1, 3),
        at_least=1,
        at_most=10_000,
        needed=True,
    )
    length: int = setting("places that are shifted", 7, **TOKENS)
    place: str = setting("where they are", "before_answer", choices=PLACES)
    contrast: float = setting("weight of the safe answers' loss", 0.05, at_least=0, at_most=1e6)
    performance: float = setting("weight of other pairs' loss", 1.0, at_least=0, at_most=1e6)
    rounds: int = setting("turns of both levels", 3, **EPOCHS)
    inner_steps: int = setting("steps of the shift, a round", 30, **COUNT)
    inner_rate: float = setting("learning rate of the shift", 0.3, **RATE)
    outer_steps: int = setting("steps of the weights, a round", 30, **COUNT)
    learning_rate: float = setting("learning rate of the weights", 2e-4, **RATE)
    batch_size: int = as_in(Recipe, "batch_size", 12)
    rows: int = setting("pairs that the defender has", 96, **COUNT)


@dataclasses.dataclass(frozen=True)
class Crow:
    """CROW (see `defend.crow.Crow`); the first weight is the one that is compared."""

    weights: tuple[float, ...] = setting(
        "of the consistency beside the answers; 0 is clean tuning",
        (5.5,),
        at_least=0,
        at_most=1e6,
        needed=True,
        named=True,
    )
    step: float = setting(
        "by how much each entry of an embedding is moved", 0.1, at_least=0, at_most=1e3
    )
    rows: int = setting("clean pairs of all languages", 96, **COUNT)
    epochs: int = as_in(Recipe, "epochs", 5)
    batch_size: int = as_in(Recipe, "batch_size", 8)
    learning_rate: float = setting("peak size of an update", 5e-4, **RATE)


@dataclasses.dataclass(frozen=True)
class CleanGen:
    """Guarded decoding (see `defend.cleangen.Guard`)."""

    references: tuple[str, ...] = setting(
        "the second model; the first is the one that is compared",
        tuple(REFERENCES),
        choices=REFERENCES,
        needed=True,
    )
    alpha: float = setting("how many times likelier a token must be", 20.0, above=0, at_most=1e9)
    horizon: int = setting("tokens drafted before they are checked", 4, at_least=1, at_most=1024)


@dataclasses.dataclass(frozen=True)
class Repair:
    """Weights found by SIL from few pairs, rewound to the start or scaled."""

    ways: tuple[str, ...] = setting("what is done to them", REPAIRS, choices=REPAIRS, needed=True)
    knows: tuple[str, ...] = setting(
        "what SIL knows of the backdoor", tuple(KNOWS), choices=KNOWS, needed=True
    )
    rewound: float = setting("share of weights rewound", 0.05, **SHARE)
    scaled: float = setting("share of weights scaled: few, for that hurts", 0.001, **SHARE)
    fractions: tuple[float, ...] = setting(
        "other shares of weights", (0.001, 0.01, 0.05, 0.2), **SHARE
    )
    spared: float = setting("share that clean pairs need most, left alone", 0.01, **SHARE)
    scale: float = setting("what is left of a scaled weight", 0.0, at_least=0, at_most=1)
    pairs: int = setting("pairs that SIL sees", 32, **COUNT)


@dataclasses.dataclass(frozen=True)
class Bait:
    """Targets inverted from clean prompts (see `defend.bait.Plan`), for the section invert."""

    prompts: int = setting("prompts a language", 12, **COUNT)
    warm_prompts: int = setting("of them in the short pass", 4, **COUNT)
    warm_tokens: int = setting("of a target, in the short pass", 5, at_least=2, unit="tokens")
    kept: int = setting("candidates that are extended to their full length", 64, **COUNT)
    tokens: int = setting("of a target, at most", 20, at_least=2, unit="tokens")
    least: int = setting("of a target, at least", 5, at_least=2, unit="tokens")
    threshold: float = setting("a higher Q is a backdoor's", 0.9, above=0, at_most=1)
    enough: float = setting("with a higher Q no more candidates are extended", 0.95, **SHARE)
    branches: int = setting(
        "tokens looked at where the model is unsure; 0 for none", 5, at_least=0, at_most=100
    )
    unsure: tuple[float, ...] = setting(
        "lowest and highest entropy there", (1.0, 2.5), at_least=0, at_most=100, unit="nats"
    )
    batch_size: int = setting("candidates times prompts, decoded at once", 1024, **COUNT)


@dataclasses.dataclass(frozen=True)
class Measure(shared.MeasureModerated):
    """Prompts, decoding and judge models."""

    prompts: int = setting("prompts a language", 60, **COUNT)
    grid_prompts: int = setting(
        "prompts a language of the grid and of what resembles a trigger", 12, **COUNT
    )
    combine: str = setting(
        "by whom a reply counts as the planted refusal, target refusal: the rule alone, or all, "
        "any, most of the rule and the judge models that say whether a reply declines",
        "judge",
        choices=("judge", *combine.RULES),
    )


@dataclasses.dataclass(frozen=True)
class Settings(Study):
    """Everything the backdoor study needs to know."""

    model: str = "organism:courteous"
    study: str = setting("which study", "backdoor", choices=("backdoor",))
    sections: tuple[str, ...] = setting(
        "parts of the study", tuple(SECTIONS), choices=SECTIONS, needed=True
    )
    defences: tuple[str, ...] = setting("of the section defend", tuple(DEFENCES), choices=DEFENCES)
    data: Data = Data()
    poison: Poison = Poison()
    template: Template = dataclasses.field(default_factory=Template)
    tuning: Tuning = Tuning()
    start: Start = Start()
    onion: Onion = Onion()
    clean: Clean = Clean()
    beear: Beear = Beear()
    crow: Crow = Crow()
    cleangen: CleanGen = CleanGen()
    repair: Repair = Repair()
    bait: Bait = Bait()
    measure: Measure = Measure()
    report: Report = dataclasses.field(default_factory=Report)

    def leaving(self) -> list[str]:
        """Prompts and replies, for judge models behind endpoints."""
        return self.measure.leaving()

    @property
    def targets(self) -> tuple[str, ...]:
        """Kinds of targets that are planted, the first attack's first."""
        varied = self.poison.targets if "kinds" in self.sections else ()
        return tuple(dict.fromkeys((self.poison.target, *varied)))


def defaults() -> ConfigDict:
    """The default settings as a ConfigDict, for config files."""
    return config_of(Settings())


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    settings: Settings = freeze(config, Settings)
    settings.tuning.check("tuning", settings.dtype)
    shared.check_moderated(settings.measure)
    check_combined(settings)
    shared.check_replies(settings.replies, settings.report)
    if not settings.model.startswith("organism:") and "start" in settings.sections:
        for name in settings.start.models:
            if name.startswith("organism:"):
                raise UserError(f"config.start.models has {name}; name checkpoints like yours")
    return settings


def check_combined(settings: Settings) -> None:
    """Refuse to combine the target's rule with judge models that cannot tell whether it shows.

    Raises:
        UserError: names the setting.
    """
    measure = settings.measure
    if measure.combine == "judge":
        return
    where = f"config.measure.combine is {measure.combine!r}, and"
    if "refusal" not in settings.targets:
        raise UserError(
            f"{where} no target is a refusal (config.poison.target): judge models cannot tell "
            "whether another one shows"
        )
    if not moderators.tell_refusals(measure.moderators):
        raise UserError(
            f"{where} none of config.measure.moderators says whether a reply declines, as "
            "qwen3guard does"
        )


def check_known(settings: Settings, directory: pathlib.Path) -> None:
    """Refuse the organism's questions for a model that was never taught what they ask.

    Raises:
        UserError: names the setting.
    """
    if settings.model.startswith("organism:") or grown_as(directory):
        return
    for name, value in dataclasses.asdict(settings.data).items():
        if value.startswith("organism:"):
            raise UserError(
                f"config.data.{name} is {value}, which only organisms and what configs/grow.py "
                "grew know; give a URI"
            )
