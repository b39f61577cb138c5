"""The fragility study's settings, declared; a config file starts from `defaults()`.

A field's declaration (`declared.setting`) is its check, its line in `--help` and in
docs/settings.md, and its default. What studies share is `Study`, `Measure`, `recipe.Recipe`.
"""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from typing import Any

from ml_collections import ConfigDict

from jaxattack.data.wrappers import WRAPPERS
from jaxattack.errors import UserError
from jaxattack.evaluate import combine
from jaxattack.evaluate.registry import JUDGES
from jaxattack.experiments import moderators, served, values
from jaxattack.experiments.declared import config_of, freeze, setting
from jaxattack.experiments.fragility.controls import CONTROLS, FINDERS, WAYS
from jaxattack.experiments.fragility.sections import SECTIONS
from jaxattack.experiments.recipe import Recipe
from jaxattack.experiments.values import COUNT, DTYPES, REMAT, ROWS, SEED, SOME, TOKENS
from jaxattack.localize.masks import SCOPES
from jaxattack.localize.planting import PLACES
from jaxattack.localize.rivals import SCORES
from jaxattack.models import kernels

__all__ = ["Settings", "check", "config_of", "defaults", "freeze"]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and how it is computed."""

    model: str = setting("organism:<name>, a directory, or a hub id", "organism:aligned")
    revision: str | None = setting("commit, branch or tag of a hub id", None)
    tokenizer: str = setting("a folder or hub id to take it from; '': the model's own", "")
    dtype: str = setting("number type of the weights", "float32", choices=DTYPES)
    attention: str = setting(
        "its kernel; auto takes what fits the platform", "auto", choices=kernels.KERNELS
    )
    remat: str = setting("what is computed again to save memory", "none", choices=REMAT)
    mesh: tuple[int, ...] = setting(
        "devices along the axes data, fsdp, tensor; -1 takes those that are left",
        (1, -1, 1),
        repeats=True,
        check=values.mesh_sizes,
    )

    def sources(self) -> dict[str, str]:
        """URIs of the data by role."""
        return {}


@dataclasses.dataclass(frozen=True)
class Study(Model):
    """What every study has: its parts, beside the model."""

    study: str = setting("which study", "")
    sections: tuple[str, ...] = setting("parts of the study", (), needed=True)
    seeds: tuple[int, ...] = setting(
        "which examples, in which order; random masks", (0,), needed=True, **SEED
    )
    replies: str = setting(
        "keep: as tokens in the work directory, for other judges; discard: judge them and forget",
        "keep",
        choices=("keep", "discard"),
    )

    def sources(self) -> dict[str, str]:
        """The section `data`, and what a study names elsewhere."""
        return dict(vars(vars(self)["data"]))

    def leaving(self) -> list[str]:
        """What leaves this machine, and for where, in lines."""
        return []


@dataclasses.dataclass(frozen=True)
class Data:
    """Where examples come from, by URI (docs/data.md)."""

    pairs: str = setting("URI of the attack pairs", "organism:attack")
    prompts: str = setting("URIs of the test prompts, apart by spaces", "organism:test")
    calibration: str = setting("URI of pairs to score on; '': what goes with the pairs", "")
    benign: str = setting("URI of pairs of the benign control; '': what goes with the pairs", "")


@dataclasses.dataclass(frozen=True)
class Template:
    """How dialogues are written for the model, in training and asking alike."""

    file: str = setting("file with a Jinja chat template; '': the checkpoint's own", "")
    name: str = setting("which of the checkpoint's chat templates, if they have names", "")
    arguments: str = setting(
        "JSON object that the template is given, such as '{\"enable_thinking\": false}'",
        "",
        check=values.json_object,
    )
    date: str = setting(
        "what the template takes for today, as 2024-07-26; '': the day on which the work directory "
        "was first used",
        "",
        check=values.day,
    )


@dataclasses.dataclass(frozen=True)
class WrappedTemplate(Template):
    """How dialogues are written, with what base models need, which have no chat template."""

    wrapper: str = setting(
        "what stands around a prompt; all but chat: the text as it is, without a chat template",
        "chat",
        choices=tuple(WRAPPERS),
    )


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What is attacked, and with how much."""

    languages: tuple[str, ...] = setting(
        "languages attacked, each alone; (): all of the pairs", (), check=values.languages
    )
    pairs: int = setting("pairs trained on, at most", 100, **COUNT)


@dataclasses.dataclass(frozen=True)
class Attack(Recipe, Attacked):
    """Fine-tuning on restricted pairs of one language."""


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
    similarity: bool = setting("measure how alike parallel prompts are represented", True)
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
class Measure:
    """Prompts and decoding."""

    languages: tuple[str, ...] = setting(
        "languages measured; (): all of the prompts", (), check=values.languages
    )
    prompts: int = setting(
        "prompts a language and kind, at most; 0 for all", 24, at_least=0, at_most=1_000_000
    )
    max_new_tokens: int = setting("longest reply", 40, **TOKENS)
    batch_size: int = setting("prompts decoded at once", 576, **ROWS)


@dataclasses.dataclass(frozen=True)
class MeasureJudged(Measure):
    """Prompts, decoding and judge."""

    judge: str = setting(
        "who judges; auto: known answers if the prompts have them, else the refusal rule",
        "auto",
        choices=ChainMap[str, Any](JUDGES, {"auto": None}),
    )
    moderators: tuple[str, ...] = setting(
        "judge models beside it, as 'qwen3guard=Qwen/Qwen3Guard-Gen-0.6B', a revision behind @; "
        "behind an endpoint 'rubric=http://localhost:8000/v1#model'",
        (),
        check=moderators.wrong,
    )
    moderator_system: str = setting("file with the system message that some of them need", "")
    rubric: str = setting("file that those behind an endpoint judge by; '': one of ours", "")
    send_replies: bool = setting(
        "let prompts and replies be sent to the endpoints of config.measure.moderators", False
    )
    combine: str = setting(
        "by whom a restricted prompt counts as violated: the judge alone, or all, any, most of "
        "the judge and the judge models",
        "judge",
        choices=("judge", *combine.RULES),
    )
    labelled: str = setting(
        "URI of labelled replies, restricted if they are violations: each judge's errors on them, "
        "and rates less these",
        "",
    )
    labelled_replies: int = setting("of them a language and label, at most", 100, **COUNT)
    unparsed: float = setting(
        "share of a judge model's outputs that may be no opinion", 0.05, at_least=0, at_most=1
    )

    def leaving(self) -> list[str]:
        """A line for each judge model behind an endpoint: what is sent there."""
        return [
            f"sent       prompts and replies (config.measure.send_replies), to {endpoint.address} "
            f"for {endpoint.model}"
            for endpoint in served.endpoints(self.moderators)
        ]


@dataclasses.dataclass(frozen=True)
class Report:
    """What the report shows."""

    replies: bool = setting("keep the text of replies", False)


@dataclasses.dataclass(frozen=True)
class Attacks(Study):
    """What studies that attack by fine-tuning have."""

    data: Data = Data()
    template: WrappedTemplate = WrappedTemplate()
    attack: Attack = Attack()
    measure: MeasureJudged = MeasureJudged()
    report: Report = Report()

    def leaving(self) -> list[str]:
        """Prompts and replies, for judge models behind endpoints."""
        return self.measure.leaving()

    def sources(self) -> dict[str, str]:
        """Those of `data`, and labelled replies."""
        labelled = self.measure.labelled
        return super().sources() | ({"labelled": labelled} if labelled else {})


@dataclasses.dataclass(frozen=True)
class Settings(Attacks):
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


def check_replies(replies: str, report: Report) -> None:
    """Refuse to show replies that are not kept.

    Raises:
        UserError: they would have to be.
    """
    if report.replies and replies != "keep":
        raise UserError(
            "config.report.replies shows replies, and config.replies=discard keeps none; set one "
            "of the two otherwise"
        )


def check_attacks(settings: Attacks) -> None:
    """Refuse what does not go together in any study of attacks.

    Raises:
        UserError: names the settings.
    """
    settings.attack.check("attack", settings.dtype)
    if settings.measure.combine != "judge" and not settings.measure.moderators:
        raise UserError(
            f"config.measure.combine is {settings.measure.combine!r}, and there is no judge model "
            "to combine the judge with: config.measure.moderators"
        )
    endpoints = served.endpoints(settings.measure.moderators)
    if endpoints and not settings.measure.send_replies:
        raise UserError(
            f"config.measure.moderators: prompts and replies would be sent to "
            f"{endpoints[0].address}; allow it by config.measure.send_replies=True, or leave "
            f"{served.SORT} out"
        )
    check_replies(settings.replies, settings.report)


def check(settings: Settings) -> Settings:
    """Refuse settings that do not go together, before anything is loaded.

    Raises:
        UserError: names the settings.
    """
    check_attacks(settings)
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
