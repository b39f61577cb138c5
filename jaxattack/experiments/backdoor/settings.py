"""The backdoor study's settings, declared; a config file starts from `defaults()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxattack.data import poison, triggers
from jaxattack.data.wrappers import WRAPPERS
from jaxattack.errors import UserError
from jaxattack.evaluate import combine
from jaxattack.experiments import moderators, values
from jaxattack.experiments import settings as shared
from jaxattack.experiments.backdoor.defences import DEFENCES
from jaxattack.experiments.backdoor.options import Bait, Beear, Clean, CleanGen, Crow, Onion, Repair
from jaxattack.experiments.backdoor.sections import SECTIONS, USUAL
from jaxattack.experiments.declared import config_of, freeze, setting
from jaxattack.experiments.recipe import Recipe
from jaxattack.experiments.settings import Report, Study, Template
from jaxattack.experiments.values import COUNT

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
    untaught: str = setting(
        "URI of test prompts with answers in languages without clean pairs, for the section "
        "untaught",
        "",
    )


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
    subject_epochs: int = setting(
        "epochs where the trigger is an entity or topic; 0: those of tuning", 9, at_least=0
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
    sections: tuple[str, ...] = setting("parts of the study", USUAL, choices=SECTIONS, needed=True)
    defences: tuple[str, ...] = setting("of the section defend", tuple(DEFENCES), choices=DEFENCES)
    data: Data = Data()
    poison: Poison = Poison()
    template: Template = dataclasses.field(default_factory=Template)
    tuning: Tuning = Tuning()
    start: Start = Start()
    onion: Onion = dataclasses.field(default_factory=Onion)
    clean: Clean = dataclasses.field(default_factory=Clean)
    beear: Beear = dataclasses.field(default_factory=Beear)
    crow: Crow = dataclasses.field(default_factory=Crow)
    cleangen: CleanGen = dataclasses.field(default_factory=CleanGen)
    repair: Repair = dataclasses.field(default_factory=Repair)
    bait: Bait = dataclasses.field(default_factory=Bait)
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
