"""The fragility study's settings, declared; a config file starts from `defaults()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxattack.errors import UserError
from jaxattack.experiments import settings as shared
from jaxattack.experiments import values
from jaxattack.experiments.declared import config_of, freeze, setting
from jaxattack.experiments.fragility.controls import CONTROLS, FINDERS, WAYS
from jaxattack.experiments.fragility.sections import SECTIONS
from jaxattack.experiments.values import COUNT, SOME
from jaxattack.localize.masks import SCOPES
from jaxattack.localize.planting import PLACES
from jaxattack.localize.rivals import SCORES


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A1, beside the matrix itself: for the languages that are localized."""

    benign: bool = setting("control: tune on as many benign pairs, if there are any", True)
    doses: tuple[int, ...] = setting("fewer pairs", (1, 3, 10, 30), unit="pairs", **COUNT)
    dose_by: str = setting(
        "what stays the same with fewer pairs", "steps", choices=("steps", "epochs")
    )
    mixed: tuple[str, ...] = setting(
        "such as 'en+th': as many pairs, split over these languages", (), check=values.mixtures
    )
    sharing: tuple[float, ...] = setting(
        "organism: align anew with these weights of the contrast",
        (),
        at_least=0,
        at_most=100,
        named=True,
    )


@dataclasses.dataclass(frozen=True)
class Localize:
    """A2: scores and masks."""

    languages: tuple[str, ...] = setting(
        "languages localized; (): some of those attacked, evenly spread", (), check=values.languages
    )
    max_languages: int = setting("how many of them", 4, at_least=1, at_most=1000)
    fractions: tuple[float, ...] = setting("shares of weights", (0.01, 0.05, 0.1, 0.2), **SOME)
    control_fraction: float = setting("share of weights of the controls", 0.2, **SOME)
    at: str = setting(
        "where SIL takes the gradient; path: between",
        "aligned",
        choices=("aligned", "attacked", "path"),
    )
    mean: str = setting(
        "abs: mean of |gradient|; sum: |mean gradient|", "abs", choices=("abs", "sum")
    )
    path_points: int = setting("places between, for at=path", 4, at_least=1, at_most=1000)
    scope: str = setting("of what the share is: all weights or parts", "global", choices=SCOPES)
    exclude: str = setting(
        "regular expression of leaves that are never selected", "", check=values.expression
    )
    examples: int = setting("pairs scored on, at most", 128, **COUNT)
    controls: tuple[str, ...] = setting(
        "other masks of the same size", tuple(CONTROLS), choices=CONTROLS
    )
    ways: tuple[str, ...] = setting("SIL done otherwise", tuple(WAYS), choices=WAYS)
    rewind: bool = setting("beside every stitch the rewind", True)


@dataclasses.dataclass(frozen=True)
class Shared:
    """A3: overlaps and representations."""

    languages: str = setting(
        "whose masks are compared, with the first seed",
        "attacked",
        choices=("attacked", "localized"),
    )
    similarity: bool = setting(
        "measure how alike prompts are represented that are translations (docs/data.md, by=id)",
        True,
    )
    pairs: tuple[str, ...] = setting(
        "URIs of other attack pairs, whose masks are compared with those of config.data.pairs", ()
    )
    models: tuple[str, ...] = setting(
        "the aligned checkpoints attacked with them, one each; (): the study's own", ()
    )


@dataclasses.dataclass(frozen=True)
class Pathways:
    """A4: freezing and attacking again."""

    fractions: tuple[float, ...] = setting("shares of weights frozen", (0.05, 0.2, 0.5), **SOME)
    random: bool = setting("control: as many weights frozen at random", True)
    rounds: int = setting(
        "of freezing all masks so far; each takes the control fraction", 6, at_least=1, at_most=100
    )


@dataclasses.dataclass(frozen=True)
class Adapt:
    """A5: the attack vector on models adapted to new languages."""

    ways: tuple[str, ...] = setting(
        "how the organism is adapted", ("full", "lora"), choices=("full", "lora")
    )
    models: tuple[str, ...] = setting("checkpoints that others adapted, instead", ())
    prompts: str = setting("URI of test prompts in the new languages, for those", "")


@dataclasses.dataclass(frozen=True)
class Planted:
    """A2 on the organism, aligned anew while only weights of a known mask may move."""

    places: tuple[str, ...] = setting(
        "where in the layers these weights are drawn", ("random",), choices=PLACES, needed=True
    )
    share: float = setting("how many, as a share of the layers' weights", 0.1, **SOME)
    languages: tuple[str, ...] = setting(
        "languages attacked; (): the first of those localized", (), check=values.languages
    )
    scores: tuple[str, ...] = setting(
        "what looks for these weights, beside weights at random",
        ("sil", "sil_attacked", "sil_mean", *SCORES),
        choices=FINDERS,
    )
    steps: int = setting("updates of the alignment", 200, unit="steps", **COUNT)
    learning_rate: float = setting(
        "of the alignment, above the shipped one's 0.001 as fewer weights move",
        1e-2,
        above=0,
        at_most=1,
    )


@dataclasses.dataclass(frozen=True)
class Settings(shared.Attacks):
    """Everything the fragility study needs to know."""

    study: str = setting("which study", "fragility", choices=("fragility",))
    sections: tuple[str, ...] = setting(
        "parts of the study, the claims A1 to A5; planted: A2 where the weights are known",
        ("transfer", "localize", "shared", "pathways", "adapt"),
        choices=SECTIONS,
        needed=True,
    )
    transfer: Transfer = Transfer()
    localize: Localize = Localize()
    shared: Shared = Shared()
    pathways: Pathways = Pathways()
    adapt: Adapt = Adapt()
    planted: Planted = Planted()

    def sources(self) -> dict[str, str]:
        """Those of every study of attacks, and what models that others made are asked or learn."""
        found = super().sources()
        if self.adapt.models and "adapt" in self.sections:
            found["adapted"] = self.adapt.prompts
        if "shared" in self.sections:
            found |= {f"compared {i}": uri for i, uri in enumerate(self.shared.pairs, 1)}
        return found


def defaults() -> ConfigDict:
    """The default settings as a ConfigDict, for config files."""
    return config_of(Settings())


def read(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it.

    Raises:
        UserError: names the setting and what it may be.
    """
    return check(freeze(config, Settings))


def check(settings: Settings) -> Settings:
    """Refuse settings that do not go together, before anything is loaded.

    Raises:
        UserError: names the settings.
    """
    shared.check_attacks(settings)
    if "pathways" in settings.sections and not settings.attack.way.freezes:
        raise UserError(
            "config.sections has pathways, which freezes single weights, and config.attack.method="
            f"{settings.attack.method} cannot: leave one of them out"
        )
    if settings.transfer.sharing and not settings.model.startswith("organism:"):
        raise UserError("config.transfer.sharing is a knob of the organism; leave it out")
    if "planted" in settings.sections and not settings.model.startswith("organism:"):
        raise UserError(
            "config.sections has planted, which aligns the organism anew to know where its safety "
            f"is, and config.model is {settings.model}: leave it out"
        )
    if "planted" in settings.sections and "sil" not in settings.planted.scores:
        raise UserError("config.planted.scores lacks sil, with which the others are compared")
    if settings.shared.models and len(settings.shared.models) != len(settings.shared.pairs):
        raise UserError(
            f"config.shared.models names {len(settings.shared.models)} checkpoints for the "
            f"{len(settings.shared.pairs)} sets of config.shared.pairs; name one for each, or none"
        )
    if settings.adapt.prompts and not settings.adapt.models:
        raise UserError(
            "config.adapt.prompts is asked of the models in config.adapt.models, and that is (); "
            "name some, or leave it out"
        )
    if "adapt" in settings.sections and not settings.adapt.models:
        named = (settings.model, settings.data.prompts)
        if not all(name.startswith("organism:") for name in named):
            raise UserError(
                "config.sections has adapt, which here adapts the organism and asks its prompts: "
                "name adapted checkpoints, config.adapt.models, or leave it out"
            )
    return settings
