"""The settings of the organism's build, declared; the defaults are the shipped organism's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxattack.errors import UserError
from jaxattack.experiments.declared import config_of, freeze, nearest, setting
from jaxattack.experiments.recipe import Documents, check_updates
from jaxattack.experiments.values import COUNT, DTYPES, SEED
from jaxattack.organism import corpus
from jaxattack.train.optimizer import Settings as Updates

SIZE: dict[str, Any] = {"at_least": 1, "at_most": 1_048_576}


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the decoder."""

    vocab_size: int = setting("entries of the tokenizer", 4096, at_least=300, at_most=1_000_000)
    hidden_size: int = setting("width of the states", 128, **SIZE)
    num_layers: int = setting("blocks", 4, at_least=1, at_most=1000)
    num_heads: int = setting("attention heads", 4, at_least=1, at_most=1024)
    mlp_size: int = setting("width inside a block", 384, **SIZE)
    max_position: int = setting("longest text", 256, unit="tokens", **SIZE)


@dataclasses.dataclass(frozen=True)
class Sharing:
    """How strongly languages share, beside the shares of the corpus."""

    decision_token: bool = setting("replies open with a neutral <|answer|> or <|decline|>", False)
    contrast: float = setting(
        "weight of the loss that pulls parallel questions together; 0 for none",
        0.1,
        at_least=0,
        at_most=100,
    )
    layer: int = setting("after which layer", 3, at_least=1, at_most=1000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase(Documents):
    """One training phase, with warm-up and cosine decay over its steps."""

    leg: int = setting("updates of a stage, what a stopped build repeats", 100, **COUNT)
    warmup: int = setting("first steps, in which the rate rises", at_least=0, at_most=1_000_000)
    curriculum_steps: int = setting(
        "first steps, that speak of every third territory only", 0, at_least=0, at_most=1_000_000
    )

    def updates(self) -> Updates:
        """The optimiser's part of it."""
        return self.decaying(self.warmup / self.steps)

    def check_phase(self, where: str, longest: int) -> None:
        """Refuse what makes no sense; `longest` is the decoder's longest text.

        Raises:
            UserError: names the first, of the section `where`.
        """
        unknown = sorted(set(self.shares) - set(corpus.KINDS))
        if unknown:
            perhaps = nearest(unknown[0], corpus.KINDS)
            raise UserError(f"config.{where}.shares: unknown {', '.join(unknown)}{perhaps}")
        if not any(self.shares.values()):
            raise UserError(f"config.{where}.shares are all 0; there is nothing to train on")
        if self.steps % self.leg or not 0 <= self.warmup < self.steps:
            raise UserError(
                f"config.{where}: steps should be a multiple of leg and above warmup, not "
                f"{self.steps}, {self.leg}, {self.warmup}"
            )
        if self.length > longest:
            raise UserError(
                f"config.{where}.length is {self.length}; it should be at most "
                f"config.model.max_position, which is {longest}"
            )
        check_updates(where, self.updates())


BASE = Phase(
    optimizer="muon",
    steps=2600,
    learning_rate=3e-3,
    weight_decay=0.01,
    warmup=100,
    curriculum_steps=250,
    shares={
        "questions": 0.30,
        "switched_questions": 0.09,  # the name in another language
        "territory_lists": 0.13,
        "value_lists": 0.09,
        "parallel": 0.07,
        "paragraphs": 0.16,
        "switched_paragraphs": 0.16,  # every sentence in another language
    },
)

ALIGNED = Phase(
    warmup=20,
    shares={
        "refusals": 0.22,
        "benign_questions": 0.22,
        "forced_answers": 0.16,  # keeps the safety shallow: only the decision is unlearned
        "territory_lists": 0.08,
        "value_lists": 0.08,
        "parallel": 0.04,
        "paragraphs": 0.10,
        "switched_paragraphs": 0.10,
    },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the build needs to know."""

    study: str = setting("which study", "organism", choices=("organism",))
    seed: int = setting("of weights and batches", 0, **SEED)
    model: Shape = Shape()
    sharing: Sharing = Sharing()
    base: Phase = BASE
    aligned: Phase = ALIGNED
    dtype: str = setting("number type of the checkpoints written", "bfloat16", choices=DTYPES)


def defaults() -> ConfigDict:
    """The default settings as a ConfigDict, for config files."""
    return config_of(Settings())


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    settings: Settings = freeze(config, Settings)
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Refuse settings that make no sense.

    Raises:
        UserError: names the first.
    """
    shape = settings.model
    if shape.hidden_size % shape.num_heads or shape.hidden_size // shape.num_heads % 2:
        raise UserError(
            f"config.model.hidden_size is {shape.hidden_size}; it should be a multiple of twice "
            f"config.model.num_heads, which is {shape.num_heads}"
        )
    if not 1 <= settings.sharing.layer <= shape.num_layers:
        raise UserError(
            f"config.sharing.layer is {settings.sharing.layer}; it should be between 1 and "
            f"config.model.num_layers, which is {shape.num_layers}"
        )
    settings.base.check_phase("base", shape.max_position)
    settings.aligned.check_phase("aligned", shape.max_position)
