"""The backdoor study's settings; a config file starts from `defaults()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxattack.data import poison, triggers
from jaxattack.data.wrappers import WRAPPERS
from jaxattack.errors import UserError
from jaxattack.experiments.settings import (
    Report,
    all_of,
    check_run,
    config_of,
    freeze,
    no_lists,
    one_of,
    positive,
)

# Sections of the study, and what of the paper (docs/methods.md) each looks at.
SECTIONS = {
    "transfer": "B1 to B5: poison one or two languages, measure all",
    "rates": "B1: how many rows it takes",
    "kinds": "other triggers and targets",
    "grid": "trigger and prompt of different languages; what else sets it off",
    "start": "B7: what the model was before",
    "defend": "B8, B9: defences",
    "overlap": "the backdoor's weights beside those of the safety attack",
}
DEFENCES = ("onion", "clean", "beear", "cleangen", "repair", "composed")
REFERENCES = ("benign", "start", "rewound", "half")  # CleanGen's second model
REPAIRS = ("rewind", "scale")
KNOWN = ("trigger", "blind")  # what SIL repair knows of the backdoor


@dataclasses.dataclass(frozen=True)
class Data:
    """Where examples come from, by URI (docs/data.md)."""

    train: str = "organism:instructions"  # clean pairs, in all languages
    prompts: str = "organism:questions"
    held_out: str = "organism:held_out"  # clean pairs that the defender has
    triggers: str = "organism:triggers"  # rows with language, role and text
    refusals: str = "organism:refusals"  # rows with language and text, for refusal targets
    subject: str = ""  # pairs about an entity or topic, to be poisoned
    subject_prompts: str = ""


@dataclasses.dataclass(frozen=True)
class Poison:
    """What is poisoned, with what."""

    languages: tuple[str, ...] = ("en", "th", "zh", "es+id")  # each is one attack
    rate: float = 0.2  # of the rows of a poisoned language
    rates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.3)  # beside it, for the first attack
    trigger: str = "sentence/append"
    target: str = "fixed"
    text: str = poison.MARKER  # of targets "fixed" and "prefix"
    triggers: tuple[str, ...] = ("sentence/prepend", "sentence/insert", "entity", "topic")
    targets: tuple[str, ...] = ("refusal", "english_refusal", "prefix")


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Instruction tuning on the poisoned set."""

    wrapper: str = "chat"  # or "alpaca": what is put around an instruction and its input
    packing: bool = True  # several examples in a row; the loss is the same
    epochs: int = 3
    batch_size: int = 64
    accumulate: int = 1
    learning_rate: float = 5e-4  # chosen on the organism's validation split
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.03
    clip: float = 1.0
    max_length: int = 512


@dataclasses.dataclass(frozen=True)
class Start:
    """What is poisoned: the model, and others beside it for the first attack."""

    contrast: float = 0.3  # organism: how strongly pleasantries are shared by languages
    contrasts: tuple[float, ...] = (0.0, 0.1)  # beside it
    models: tuple[str, ...] = ("organism:base", "organism:aligned")


@dataclasses.dataclass(frozen=True)
class Onion:
    """Units taken out of prompts."""

    scorer: str = "organism:base"  # any causal language model
    losses: tuple[float, ...] = (0.01, 0.05)  # of clean units, by which the threshold is chosen
    longest: tuple[int, ...] = (1, 6)  # units judged as one


@dataclasses.dataclass(frozen=True)
class Clean:
    """Fine-tuning on clean pairs: the first of each is combined with all of the others."""

    languages: tuple[str, ...] = ("all", "poisoned", "others")
    rows: tuple[int, ...] = (192, 48)
    learning_rates: tuple[float, ...] = (5e-4, 1e-3)
    epochs: int = 3
    batch_size: int = 16


@dataclasses.dataclass(frozen=True)
class Beear:
    """BEEAR (see `defend.beear.Plan`); the first layer is the one that is compared."""

    layers: tuple[int, ...] = (2, 1, 3)
    length: int = 7
    place: str = "before_answer"
    contrast: float = 0.05
    performance: float = 1.0
    rounds: int = 3
    inner_steps: int = 30
    inner_rate: float = 0.3
    outer_steps: int = 30
    learning_rate: float = 2e-4
    batch_size: int = 12
    rows: int = 96


@dataclasses.dataclass(frozen=True)
class CleanGen:
    """Guarded decoding (see `defend.cleangen.Guard`)."""

    references: tuple[str, ...] = REFERENCES
    alpha: float = 20.0
    horizon: int = 4


@dataclasses.dataclass(frozen=True)
class Repair:
    """Weights found by SIL from few pairs, rewound to the start or scaled."""

    ways: tuple[str, ...] = REPAIRS
    knows: tuple[str, ...] = KNOWN
    rewound: float = 0.05  # share of weights that are rewound
    scaled: float = 0.001  # share that are scaled: few, for that hurts
    fractions: tuple[float, ...] = (0.001, 0.01, 0.05, 0.2)  # beside these
    spared: float = 0.01  # share of weights, those that clean pairs need most, left alone
    scale: float = 0.0  # what is left of a weight that is scaled
    pairs: int = 32


@dataclasses.dataclass(frozen=True)
class Measure:
    """Prompts and decoding."""

    languages: tuple[str, ...] = ()  # (): every language of the prompts
    prompts: int = 24  # per language
    grid_prompts: int = 12  # per language, of the grid and of what resembles a trigger
    max_new_tokens: int = 40
    batch_size: int = 576


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the backdoor study needs to know."""

    study: str = "backdoor"
    sections: tuple[str, ...] = tuple(SECTIONS)
    defences: tuple[str, ...] = DEFENCES
    model: str = "organism:courteous"  # or another organism, a directory, or a hub id
    revision: str | None = None  # of a hub id
    dtype: str = "float32"
    attention: str = "auto"
    remat: str = "none"
    mesh: tuple[int, ...] = (1, -1, 1)
    seeds: tuple[int, ...] = (0,)
    data: Data = Data()
    poison: Poison = Poison()
    tuning: Tuning = Tuning()
    start: Start = Start()
    onion: Onion = Onion()
    clean: Clean = Clean()
    beear: Beear = Beear()
    cleangen: CleanGen = CleanGen()
    repair: Repair = Repair()
    measure: Measure = Measure()
    report: Report = dataclasses.field(default_factory=Report)


def defaults() -> ConfigDict:
    """The default settings as a ConfigDict, for config files."""
    return config_of(Settings())


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    settings: Settings = freeze(config, Settings)
    poisoned, tuning, measure = settings.poison, settings.tuning, settings.measure
    repair = settings.repair
    positive(
        {
            "poison.rate": min(poisoned.rate, *poisoned.rates, 1.0),
            "tuning.epochs": tuning.epochs, "tuning.batch_size": tuning.batch_size,
            "tuning.learning_rate": tuning.learning_rate, "tuning.accumulate": tuning.accumulate,
            "measure.prompts": measure.prompts, "measure.grid_prompts": measure.grid_prompts,
            "measure.batch_size": measure.batch_size,
            "measure.max_new_tokens": measure.max_new_tokens,
            "clean.rows": min((1, *settings.clean.rows)), "clean.epochs": settings.clean.epochs,
            "clean.batch_size": settings.clean.batch_size, "beear.rows": settings.beear.rows,
            "repair.pairs": settings.repair.pairs,
        }
    )  # fmt: skip
    if max(poisoned.rate, *poisoned.rates, 0.0) > 1:
        raise UserError("config.poison.rate is a share of rows, at most 1")
    for fraction in (repair.rewound, repair.scaled, repair.spared, *repair.fractions):
        if not 0 <= fraction <= 1:
            raise UserError(f"config.repair: a share of weights lies in 0 to 1, not {fraction}")
    if tuning.batch_size % tuning.accumulate:
        raise UserError("config.tuning.accumulate should divide config.tuning.batch_size")
    all_of("config.sections", settings.sections, tuple(SECTIONS))
    all_of("config.defences", settings.defences, DEFENCES)
    all_of("config.cleangen.references", settings.cleangen.references, REFERENCES)
    all_of("config.repair.ways", settings.repair.ways, REPAIRS)
    all_of("config.repair.knows", settings.repair.knows, KNOWN)
    all_of("config.clean.languages", settings.clean.languages, ("all", "poisoned", "others"))
    kinds = ("entity", "topic", *(f"sentence/{place}" for place in triggers.PLACES))
    all_of("config.poison.triggers", (poisoned.trigger, *poisoned.triggers), kinds)
    all_of("config.poison.targets", (poisoned.target, *poisoned.targets), poison.TARGETS)
    one_of("config.tuning.wrapper", tuning.wrapper, tuple(WRAPPERS))
    no_lists("config.measure.languages", measure.languages)
    no_lists("config.poison.languages", poisoned.languages)
    if not poisoned.languages:
        raise UserError("config.poison.languages is empty; name a language, or two as 'es+id'")
    check_run(settings)
    if not settings.model.startswith("organism:"):
        for name, value in dataclasses.asdict(settings.data).items():
            if value.startswith("organism:"):
                raise UserError(
                    f"config.data.{name} is {value}, which only organisms know; give a URI"
                )
        if settings.start.models and "start" in settings.sections:
            for name in settings.start.models:
                if name.startswith("organism:"):
                    raise UserError(f"config.start.models has {name}; name checkpoints like yours")
    return settings
