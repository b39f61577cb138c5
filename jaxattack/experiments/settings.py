"""The fragility study's settings: a ConfigDict checked and frozen at the program's edge.

The defaults stand here; a config file starts from `defaults()` and changes what makes it itself.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxattack.errors import UserError
from jaxattack.localize.masks import SCOPES
from jaxattack.models import kernels

# Sections of the study, each a claim of Poppi et al. 2024 (docs/methods.md).
SECTIONS = {"transfer": "A1", "localize": "A2", "shared": "A3", "pathways": "A4", "adapt": "A5"}
# Ways to choose as many weights as SIL chooses, and combinations of SIL's masks.
CONTROLS = (
    "random", "matched_random", "magnitude", "weight", "snip", "wanda", "fisher", "complement",
    "other", "union", "intersection", "benign", "sil_minus_benign",
)  # fmt: skip
# SIL done otherwise: scope, place of the gradient, order of mean and absolute value, leaves.
WAYS = (
    "sil_leaf", "sil_row", "sil_aligned", "sil_attacked", "sil_path", "sil_mean", "sil_blocks",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Data:
    """Where examples come from, by URI (docs/data.md)."""

    pairs: str = "organism:attack"
    prompts: str = "organism:test"
    calibration: str = ""  # "": what goes with the pairs
    benign: str = ""  # pairs of the benign control; "": what goes with the pairs


@dataclasses.dataclass(frozen=True)
class Attack:
    """Fine-tuning on restricted pairs of one language."""

    languages: tuple[str, ...] = ()  # (): every language of the pairs
    pairs: int = 100  # at most so many
    epochs: int = 5
    batch_size: int = 10
    accumulate: int = 1  # parts a batch is worked off in, to save memory
    learning_rate: float = 2e-4  # chosen on the organism's validation split
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    clip: float = 1.0
    max_length: int = 512


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A1, beside the matrix itself: for the languages that are localized."""

    benign: bool = True  # control: as many benign pairs, if there are any
    doses: tuple[int, ...] = (1, 3, 10, 30)  # fewer pairs
    dose_by: str = "steps"  # what stays the same with fewer pairs: "steps" or "epochs"
    mixed: tuple[str, ...] = ()  # such as "en+th": as many pairs, split over these languages
    sharing: tuple[float, ...] = ()  # organism: align anew with these weights of the contrast


@dataclasses.dataclass(frozen=True)
class Localize:
    """A2: scores and masks."""

    languages: tuple[str, ...] = ()  # (): `max_languages` spread over those attacked
    max_languages: int = 4
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2)
    control_fraction: float = 0.2
    at: str = "aligned"  # where SIL takes the gradient: "aligned", "attacked" or "path" (between)
    mean: str = "abs"  # "abs": mean of |gradient|; "sum": |mean gradient|
    path_points: int = 4
    scope: str = "global"
    exclude: str = ""  # regular expression of leaves that are never selected
    examples: int = 128
    controls: tuple[str, ...] = CONTROLS
    ways: tuple[str, ...] = WAYS
    rewind: bool = True  # beside every stitch the rewind


@dataclasses.dataclass(frozen=True)
class Shared:
    """A3: overlaps and representations."""

    languages: str = "attacked"  # with the first seed: "attacked", or only those "localized"
    similarity: bool = True  # how alike the model represents parallel prompts


@dataclasses.dataclass(frozen=True)
class Pathways:
    """A4: freezing and attacking again."""

    fractions: tuple[float, ...] = (0.05, 0.2, 0.5)
    random: bool = True  # control: as many weights frozen at random
    rounds: int = 6  # of freezing all masks so far; each takes the control fraction


@dataclasses.dataclass(frozen=True)
class Adapt:
    """A5: the attack vector on models adapted to new languages."""

    ways: tuple[str, ...] = ("full", "lora")  # how the organism is adapted
    models: tuple[str, ...] = ()  # checkpoints that others adapted, instead
    prompts: str = ""  # test prompts in the new languages, for those


@dataclasses.dataclass(frozen=True)
class Measure:
    """Prompts and decoding."""

    languages: tuple[str, ...] = ()  # (): every language of the prompts
    prompts: int = 24  # per language and kind, at most; 0 for all
    max_new_tokens: int = 40
    batch_size: int = 576


@dataclasses.dataclass(frozen=True)
class Report:
    """What the report shows."""

    replies: bool = False  # True keeps the text of replies


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the fragility study needs to know."""

    study: str = "fragility"
    sections: tuple[str, ...] = tuple(SECTIONS)
    model: str = "organism:aligned"  # or a directory, or a hub id
    revision: str | None = None  # of a hub id
    dtype: str = "float32"
    attention: str = "auto"  # or "xla", "cudnn", "splash"; auto takes what fits the platform
    remat: str = "none"  # "full" or "dots" save memory on large models
    mesh: tuple[int, ...] = (1, -1, 1)  # data, fsdp, tensor; -1 takes the devices that are left
    seeds: tuple[int, ...] = (0,)  # which pairs, in which order; random masks
    data: Data = Data()
    attack: Attack = Attack()
    transfer: Transfer = Transfer()
    localize: Localize = Localize()
    shared: Shared = Shared()
    pathways: Pathways = Pathways()
    adapt: Adapt = Adapt()
    measure: Measure = Measure()
    report: Report = Report()


def defaults() -> ConfigDict:
    """The default settings as a ConfigDict, for config files."""
    return config_of(Settings())


def config_of(settings: Any) -> ConfigDict:
    """A dataclass of settings as a ConfigDict."""
    config = ConfigDict()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = config_of(value)
        config[field.name] = config_dict.placeholder(str) if value is None else value
    return config


def freeze(config: Mapping[str, Any], kind: type, where: str = "config") -> Any:
    """Make the dataclass `kind` from a config, section by section.

    Raises:
        UserError: a key is missing or unknown, or a value is of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    missing = sorted(set(hints) - set(config))
    unknown = sorted(set(config) - set(hints))
    if missing or unknown:
        parts = [f"missing keys: {', '.join(missing)}"] * bool(missing)
        parts += [f"unknown keys: {', '.join(unknown)}"] * bool(unknown)
        raise UserError(f"{where}: {'; '.join(parts)}")
    values = {}
    for name, hint in hints.items():
        value = config[name]
        if dataclasses.is_dataclass(hint):
            values[name] = freeze(value, typing.cast(type, hint), f"{where}.{name}")
        else:
            values[name] = _checked(value, hint, f"{where}.{name}")
    return kind(**values)


def _checked(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str | int | float) or not isinstance(value, tuple | list):
            raise UserError(f"{where} is {value!r}; write --{where}=\"('a','b')\"")
        inner = typing.get_args(hint)[0]
        return tuple(_checked(item, inner, where) for item in value)
    if typing.get_origin(hint) is collections.abc.Mapping:
        return {key: _checked(value[key], typing.get_args(hint)[1], where) for key in value}
    allowed = typing.get_args(hint) or (hint,)
    if value is None and type(None) in allowed:
        return None
    wanted = next(kind for kind in allowed if kind is not type(None))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise UserError(f"{where} is {value!r}; it should be of type {wanted.__name__}")
    return value


def check(settings: Settings) -> Settings:
    """Refuse values that make no sense, before anything is loaded.

    Raises:
        UserError: names the setting and what it may be.
    """
    attack, localize, measure = settings.attack, settings.localize, settings.measure
    transfer, pathways = settings.transfer, settings.pathways
    for where, languages in (
        ("config.attack.languages", attack.languages),
        ("config.localize.languages", localize.languages),
        ("config.measure.languages", measure.languages),
    ):
        no_lists(where, languages)
    above_zero = {
        "attack.pairs": attack.pairs, "attack.epochs": attack.epochs,
        "attack.batch_size": attack.batch_size, "attack.learning_rate": attack.learning_rate,
        "attack.accumulate": attack.accumulate,
        "attack.max_length": attack.max_length, "localize.max_languages": localize.max_languages,
        "localize.examples": localize.examples, "localize.path_points": localize.path_points,
        "measure.batch_size": measure.batch_size, "measure.max_new_tokens": measure.max_new_tokens,
        "pathways.rounds": pathways.rounds, "transfer.doses": min((1, *transfer.doses)),
    }  # fmt: skip
    positive(above_zero)
    not_negative = {
        "attack.weight_decay": attack.weight_decay, "attack.clip": attack.clip,
        "attack.warmup": attack.warmup, "measure.prompts": measure.prompts,
        "transfer.sharing": min((0.0, *transfer.sharing)),
    }  # fmt: skip
    for name, value in not_negative.items():
        if not value >= 0:
            raise UserError(f"config.{name} is {value}; it should not be negative")
    if attack.batch_size % attack.accumulate:
        raise UserError(
            f"config.attack.accumulate is {attack.accumulate}; it should divide "
            f"config.attack.batch_size, which is {attack.batch_size}"
        )
    for fraction in (*localize.fractions, localize.control_fraction, *pathways.fractions):
        if not 0 <= fraction <= 1:
            raise UserError(f"config: a fraction of weights lies between 0 and 1, not {fraction}")
    try:
        re.compile(localize.exclude)
    except re.error as error:
        raise UserError(f"config.localize.exclude: no regular expression ({error})") from error
    all_of("config.sections", settings.sections, tuple(SECTIONS))
    all_of("config.localize.controls", localize.controls, CONTROLS)
    all_of("config.localize.ways", localize.ways, WAYS)
    all_of("config.adapt.ways", settings.adapt.ways, ("full", "lora"))
    one_of("config.localize.at", localize.at, ("aligned", "attacked", "path"))
    one_of("config.localize.mean", localize.mean, ("abs", "sum"))
    one_of("config.localize.scope", localize.scope, SCOPES)
    one_of("config.transfer.dose_by", transfer.dose_by, ("steps", "epochs"))
    one_of("config.shared.languages", settings.shared.languages, ("attacked", "localized"))
    if settings.transfer.sharing and not settings.model.startswith("organism:"):
        raise UserError("config.transfer.sharing is a knob of the organism; leave it out")
    if "adapt" in settings.sections and not settings.adapt.models:
        named = (settings.model, settings.data.prompts)
        if not all(name.startswith("organism:") for name in named):
            raise UserError(
                "config.sections has adapt, which here adapts the organism and asks its prompts: "
                "name adapted checkpoints, config.adapt.models, or leave it out"
            )
    check_run(settings)
    return settings


def check_run(settings: Any) -> None:
    """Refuse what makes no sense in the settings that all studies have.

    Raises:
        UserError: names the setting and what it may be.
    """
    one_of("config.remat", settings.remat, ("none", "full", "dots"))
    one_of("config.attention", settings.attention, kernels.KERNELS)
    if not settings.seeds or len(set(settings.seeds)) < len(settings.seeds):
        raise UserError(f"config.seeds is {settings.seeds}; give at least one, each once")


def positive(values: Mapping[str, float]) -> None:
    """Refuse settings that are not above 0.

    Raises:
        UserError: names the first.
    """
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"config.{name} is {value}; it should be above 0")


def no_lists(where: str, languages: tuple[str, ...]) -> None:
    """Refuse `--config.x=en,th`, which arrives as one language of that name, and repeats.

    Raises:
        UserError: names the setting.
    """
    for language in languages:
        if "," in language or " " in language:
            listed = ",".join(repr(code.strip()) for code in language.split(","))
            raise UserError(f'{where}: {language!r} is no language; write --{where}="({listed})"')
    if len(set(languages)) < len(languages):
        raise UserError(f"{where} names a language twice: {', '.join(languages)}")


def one_of(where: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is none of the known ones.

    Raises:
        UserError: it is not.
    """
    if value not in known:
        raise UserError(f"{where} is {value!r}; give one of {', '.join(known)}")


def all_of(where: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Refuse values that are not all among the known ones.

    Raises:
        UserError: names the first.
    """
    for value in values:
        one_of(where, value, known)
