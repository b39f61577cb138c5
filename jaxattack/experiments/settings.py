"""The fragility study's settings: a ConfigDict checked and frozen at the program's edge."""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from jaxattack.errors import UserError
from jaxattack.localize.masks import SCOPES
from jaxattack.models import kernels


@dataclasses.dataclass(frozen=True)
class Data:
    """URIs: `organism:<split>` or `jsonl:<file>`."""

    pairs: str
    prompts: str
    calibration: str  # "" for what goes with the pairs


@dataclasses.dataclass(frozen=True)
class Attack:
    """Fine-tuning on restricted pairs of one language."""

    languages: tuple[str, ...]  # () for every language of the pairs
    pairs: int  # at most so many
    epochs: int
    batch_size: int
    accumulate: int
    learning_rate: float
    optimizer: str
    weight_decay: float
    schedule: str
    warmup: float
    clip: float
    max_length: int


@dataclasses.dataclass(frozen=True)
class Localize:
    """Scores and masks."""

    languages: tuple[str, ...]  # () for `max_languages` spread over those attacked
    max_languages: int
    fractions: tuple[float, ...]
    control_fraction: float
    at: str
    scope: str
    examples: int  # calibration pairs, at most
    spread: bool  # an example's gradient on each part of the mesh


@dataclasses.dataclass(frozen=True)
class Measure:
    """Prompts and decoding."""

    languages: tuple[str, ...]  # () for every language of the prompts
    prompts: int  # per language and kind, at most; 0 for all
    max_new_tokens: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What the report shows."""

    replies: bool


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the study needs to know."""

    study: str
    model: str
    revision: str | None
    dtype: str
    remat: str
    attention: str
    mesh: tuple[int, int, int]
    seeds: tuple[int, ...]
    data: Data
    attack: Attack
    localize: Localize
    measure: Measure
    report: Report


def freeze(config: Mapping[str, Any], kind: type, where: str = "config") -> Any:
    """Build the dataclass `kind` from a config, section by section.

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
    for where, languages in (
        ("config.attack.languages", attack.languages),
        ("config.localize.languages", localize.languages),
        ("config.measure.languages", measure.languages),
    ):
        for language in languages:
            if "," in language or " " in language:
                listed = ",".join(repr(code.strip()) for code in language.split(","))
                raise UserError(
                    f'{where}: {language!r} is no language; write --{where}="({listed})"'
                )
        if len(set(languages)) < len(languages):
            raise UserError(f"{where} names a language twice: {', '.join(languages)}")
    positive = {
        "attack.pairs": attack.pairs, "attack.epochs": attack.epochs,
        "attack.batch_size": attack.batch_size, "attack.learning_rate": attack.learning_rate,
        "attack.accumulate": attack.accumulate,
        "attack.max_length": attack.max_length, "localize.max_languages": localize.max_languages,
        "localize.examples": localize.examples, "measure.batch_size": measure.batch_size,
        "measure.max_new_tokens": measure.max_new_tokens,
    }  # fmt: skip
    for name, value in positive.items():
        if not value > 0:
            raise UserError(f"config.{name} is {value}; it should be above 0")
    not_negative = {
        "attack.weight_decay": attack.weight_decay, "attack.clip": attack.clip,
        "attack.warmup": attack.warmup, "measure.prompts": measure.prompts,
    }  # fmt: skip
    for name, value in not_negative.items():
        if not value >= 0:
            raise UserError(f"config.{name} is {value}; it should not be negative")
    if attack.batch_size % attack.accumulate:
        raise UserError(
            f"config.attack.accumulate is {attack.accumulate}; it should divide "
            f"config.attack.batch_size, which is {attack.batch_size}"
        )
    for fraction in (*localize.fractions, localize.control_fraction):
        if not 0 <= fraction <= 1:
            raise UserError(
                f"config.localize: a fraction of weights lies between 0 and 1, not {fraction}"
            )
    _one_of("config.localize.at", localize.at, ("aligned", "attacked"))
    _one_of("config.localize.scope", localize.scope, SCOPES)
    _one_of("config.remat", settings.remat, ("none", "full", "dots"))
    _one_of("config.attention", settings.attention, kernels.KERNELS)
    if not settings.seeds or len(set(settings.seeds)) < len(settings.seeds):
        raise UserError(f"config.seeds is {settings.seeds}; give at least one, each once")
    return settings


def _one_of(where: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{where} is {value!r}; give one of {', '.join(known)}")
