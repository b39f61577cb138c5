"""Settings of the defences against backdoors, and of looking for one."""

from __future__ import annotations

import dataclasses

from jaxattack.defend.beear import PLACES
from jaxattack.experiments.backdoor.defences import KNOWS, LANGUAGES, REFERENCES
from jaxattack.experiments.declared import as_in, setting
from jaxattack.experiments.recipe import Recipe
from jaxattack.experiments.values import COUNT, EPOCHS, RATE, SHARE, TOKENS

REPAIRS = ("rewind", "scale")


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
