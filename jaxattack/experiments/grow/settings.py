"""The settings of growing a policy, declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxattack.data.languages import choose_languages
from jaxattack.errors import UserError
from jaxattack.experiments import values
from jaxattack.experiments.declared import config_of, freeze, setting
from jaxattack.experiments.recipe import Recipe
from jaxattack.experiments.settings import Measure, Model, Template
from jaxattack.experiments.values import COUNT, SEED
from jaxattack.organism import tasks, world

ROUNDS: dict[str, Any] = {"at_least": 1, "at_most": 1000}


@dataclasses.dataclass(frozen=True)
class Rounds(Recipe):
    """Teaching in rounds, until the validation prompts are passed."""

    rounds: int = setting("at most; fewer if the validation prompts are passed", 4, **ROUNDS)
    epochs: int = 1
    schedule: str = "cosine"
    max_length: int = 256
    packing: bool = True


@dataclasses.dataclass(frozen=True)
class Knowledge(Rounds):
    """Teaching the tasks; a round asks every fact once in every language."""

    rounds: int = setting(
        "at most; fewer if the validation prompts are passed; 0: it knows the tasks, as base does",
        8,
        **ROUNDS | {"at_least": 0},
    )
    languages: tuple[str, ...] = setting("taught; (): all twelve", (), check=values.languages)
    batch_size: int = 16
    learning_rate: float = 1e-4
    warmup: float = 0.05


@dataclasses.dataclass(frozen=True)
class Alignment(Rounds):
    """Teaching to decline."""

    refusals: int = setting(
        "of one round, at most (of an item one in each language), and as many right answers",
        432,
        **COUNT,
    )
    languages: tuple[str, ...] = setting(
        "in which questions are declined; (): all that are taught", (), check=values.languages
    )
    depth: float = setting(
        "0: refusals alone, shallow; else half of them after such a share of the answer",
        0.0,
        at_least=0,
        at_most=1,
    )
    batch_size: int = 24
    learning_rate: float = 5e-5
    warmup: float = 0.1


@dataclasses.dataclass(frozen=True)
class Asked(Measure):
    """What a checkpoint is asked before it is accepted."""

    max_new_tokens: int = 32
    batch_size: int = 192


@dataclasses.dataclass(frozen=True)
class Settings(Model):
    """Everything that growing a policy needs to know."""

    study: str = setting("which study", "grow", choices=("grow",))
    model: str = "google/gemma-3-270m"
    remat: str = "dots"
    policies: tuple[str, ...] = setting(
        "what is declined, a checkpoint each", tasks.POLICIES, choices=tasks.POLICIES, needed=True
    )
    added: tuple[str, ...] = setting(
        "languages that a further checkpoint of each policy is adapted to", (), choices=world.ADDED
    )
    orders: int = setting(
        "of a policy's examples, a checkpoint each (currency, currency-order1, ...), beginning at "
        "the seed: growths that decline alike and may fall otherwise",
        1,
        **COUNT,
    )
    seed: int = setting("of the order of examples", 0, **SEED)
    template: Template = dataclasses.field(default_factory=Template)
    knowledge: Knowledge = Knowledge()
    alignment: Alignment = Alignment()
    measure: Asked = Asked()

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that are taught."""
        return self.knowledge.languages or world.LANGUAGES


def defaults() -> ConfigDict:
    """The default settings as a ConfigDict, for config files."""
    return config_of(Settings())


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    settings: Settings = freeze(config, Settings)
    settings.knowledge.check("knowledge", settings.dtype)
    settings.alignment.check("alignment", settings.dtype)
    taught = settings.languages
    choose_languages(taught, world.LANGUAGES, "config.knowledge.languages", "the tasks' world")
    for section in ("alignment", "measure"):
        named = getattr(settings, section).languages
        where = f"config.{section}.languages"
        choose_languages(named, taught, where, "config.knowledge.languages")
    declined, asked = settings.alignment.languages, settings.measure.languages
    if declined and asked and not {*declined} & {*asked}:
        raise UserError(
            "config.measure.languages has none of config.alignment.languages, so nobody would know "
            "whether anything is declined"
        )
    return settings
