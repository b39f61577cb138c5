"""The durability study's settings, declared; a config file starts from `defaults()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxattack.errors import UserError
from jaxattack.experiments import settings as shared
from jaxattack.experiments import values
from jaxattack.experiments.declared import as_in, config_of, freeze, setting
from jaxattack.experiments.durability.attacks import ATTACKS
from jaxattack.experiments.durability.registry import DEFENCES
from jaxattack.experiments.durability.sections import SECTIONS
from jaxattack.experiments.recipe import Recipe, check_updates
from jaxattack.experiments.values import COUNT, EPOCHS, RATE, SHARE, SOME
from jaxattack.train.optimizer import Settings as Updates

ORGANISM = "organism:"


@dataclasses.dataclass(frozen=True)
class Data(shared.Data):
    """Where examples come from, by URI (docs/data.md)."""

    validation: str = setting(
        "URIs of the prompts by which the worst attack is chosen",
        "organism:validation",
        check=values.source,
    )
    refusals: str = setting(
        "URI of restricted prompts with refusals, which the defender has",
        "organism:calibration?reply=refusal",
        check=values.source,
    )


@dataclasses.dataclass(frozen=True)
class Attack(shared.Attack):
    """The attack that the sweep varies."""

    languages: tuple[str, ...] = setting(
        "the language attacked, then others, for the attacks other and mixed",
        ("en", "th"),
        check=values.languages,
        needed=True,
    )


@dataclasses.dataclass(frozen=True)
class Task:
    """What the tuning is for: benign pairs in a house style, mixed into every attack."""

    pairs: int = setting("benign pairs in the style; 0: none", 50, at_least=0, at_most=1_000_000)
    text: str = setting("the style: what ends their responses", "[ok]")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The attacks that every defence has to stand."""

    attacks: tuple[str, ...] = setting(
        "rows of the sweep; the first is the single attack that it is compared with",
        tuple(ATTACKS),
        choices=ATTACKS,
        needed=True,
    )
    bound: float = setting(
        "share of the utility (docs/durability.md) that an attack may cost",
        0.1,
        at_least=0,
        at_most=1,
    )
    prompts: int = setting("validation prompts a language and kind, at most", 6, **COUNT)
    few: int = setting("restricted pairs of the attack few", 10, **COUNT)


@dataclasses.dataclass(frozen=True)
class Defend:
    """The defences, and what the defender has."""

    defences: tuple[str, ...] = setting("which", tuple(DEFENCES), choices=DEFENCES)
    languages: tuple[str, ...] = setting(
        "of the defender's pairs; (): all of them", (), check=values.languages
    )
    alone: tuple[str, ...] = setting(
        "beside that, pairs of one of these languages alone", ("en", "th"), check=values.languages
    )
    pairs: int = setting("pairs a language and kind that the defender has", 12, **COUNT)
    base: str = setting(
        "the model before it was aligned, which some defences need; '': there is none",
        "organism:base",
    )


@dataclasses.dataclass(frozen=True)
class Harden:
    """Tuning on the defender's pairs: Booster, Vaccine, the safety expert of others."""

    learning_rate: float = as_in(Recipe, "learning_rate", 2e-4)
    epochs: int = setting("passes over the defender's pairs", 5, **EPOCHS)
    batch_size: int = as_in(Recipe, "batch_size", 24)
    strength: float = setting(
        "Booster: weight of what a harmful step gains", 5.0, at_least=0, at_most=1e6
    )
    step: float = setting("Booster: norm of that step", 0.1, **RATE)
    radius: float = setting("Vaccine: norm of the shift of states", 2.0, at_least=0, at_most=1e6)

    def updates(self) -> Updates:
        """The optimiser."""
        return Updates(learning_rate=self.learning_rate)


@dataclasses.dataclass(frozen=True)
class During:
    """Defences that whoever tunes for others holds to."""

    rho: float = setting("Lisa: pull to where a turn began", 1.0, at_least=0, at_most=1e9)
    turns: tuple[int, ...] = setting(
        "Lisa: steps of a turn on safe pairs, and on the user's", (1, 9), repeats=True, **COUNT
    )
    penalty: float = setting("AsFT: strength of the penalty", 1.0, at_least=0, at_most=1e9)
    rounds: int = setting(
        "freeze_more: rounds of freezing SIL's masks so far", 3, at_least=1, at_most=100
    )


@dataclasses.dataclass(frozen=True)
class After:
    """Repairs of attacked weights; of each list the first is swept, all are on the frontier."""

    shares: tuple[float, ...] = setting(
        "of weights put back by a score", (0.2, 0.05, 0.1, 0.5), needed=True, **SOME
    )
    scaled: tuple[float, ...] = setting(
        "of the change that is left", (0.5, 0.25, 0.75), needed=True, **SHARE
    )
    least: tuple[int, ...] = setting(
        "SafeLoRA: matrices projected, the least similar", (10, 5, 20), needed=True, **COUNT
    )
    thresholds: tuple[float, ...] = setting(
        "SafeMERGE: cosine below which a matrix is merged",
        (0.35, 0.7, 0.9),
        needed=True,
        at_least=-1,
        at_most=1,
    )
    budgets: tuple[float, ...] = setting(
        "SafeDelta: budget of what is kept", (0.11, 0.011, 1.1), needed=True, **RATE
    )
    removed: tuple[float, ...] = setting(
        "Antidote: share of a matrix put back", (0.1, 0.3, 0.5), needed=True, **SOME
    )
    rolled: tuple[float, ...] = setting(
        "gradient rollback: share of the weights a step", (0.02, 0.005, 0.1), needed=True, **SOME
    )
    steps: int = setting("gradient rollback: steps", 20, **COUNT)
    near: float = setting(
        "swapping: difference of two changes that counts as none", 0.001, at_least=0, at_most=1
    )
    contrasted: tuple[float, ...] = setting(
        "contrast repair: share of weights put back", (0.1, 0.05, 0.2), needed=True, **SOME
    )
    rounds: int = setting("contrast repair: rounds", 5, at_least=1, at_most=1000)
    weight: float = setting("contrast repair: of what is to be kept", 1.0, at_least=0, at_most=1e6)
    spared: float = setting(
        "SIL repair: share that benign pairs need most, left alone", 0.01, **SHARE
    )


@dataclasses.dataclass(frozen=True)
class Measure(shared.MeasureJudged):
    """Prompts, decoding and judge."""

    batch_size: int = as_in(shared.Measure, "batch_size", 576)


@dataclasses.dataclass(frozen=True)
class Settings(shared.Attacks):
    """Everything the durability study needs to know."""

    study: str = setting("which study", "durability", choices=("durability",))
    sections: tuple[str, ...] = setting(
        "parts of the study", tuple(SECTIONS), choices=SECTIONS, needed=True
    )
    data: Data = Data()
    attack: Attack = Attack()
    task: Task = Task()
    sweep: Sweep = Sweep()
    defend: Defend = Defend()
    harden: Harden = Harden()
    during: During = During()
    after: After = After()


def defaults() -> ConfigDict:
    """The default settings as a ConfigDict, for config files."""
    return config_of(Settings())


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    settings = freeze(config, Settings)
    shared.check_attacks(settings)
    check_updates("harden", settings.harden.updates())
    if settings.attack.method != "full":
        raise UserError(
            "config.attack.method: the sweep has its own row for adapters; leave it at full"
        )
    check_during(settings)
    if len(settings.during.turns) != 2:
        raise UserError("config.during.turns are two numbers of steps, as (1, 9)")
    if settings.task.pairs and not settings.task.text.strip():
        raise UserError("config.task.text is empty: a style that nobody sees is none")
    if not settings.defend.base:
        lacking = [name for name in settings.defend.defences if DEFENCES[name].needs_base]
        if lacking:
            raise UserError(
                f"config.defend.defences has {', '.join(lacking)}, which need the model before it "
                "was aligned: name it, config.defend.base, or leave them out"
            )
    return settings


def check_during(settings: Settings) -> None:
    """Refuse trainings that a defence during the tuning cannot take, before any is begun.

    Raises:
        UserError: names the settings.
    """
    during = [name for name in ("lisa", "asft") if name in settings.defend.defences]
    if during and settings.attack.weights == "extended":
        raise UserError(
            f"config.defend.defences has {' and '.join(during)}, which do not train "
            "config.attack.weights=extended: take float32, or leave them out"
        )
    parts, rows = settings.attack.accumulate, settings.harden.batch_size
    if "lisa" in during and rows % parts:
        raise UserError(
            f"config.harden.batch_size is {rows}, which config.attack.accumulate={parts} does not "
            "divide, and Lisa's turns on safe pairs are worked off in as many parts"
        )
