"""The fragility study's settings, declared; a config file starts from `defaults()`.

A field's declaration (`declared.setting`) is its check, its line in `--help` and its default.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import json
import re
from typing import Any

from ml_collections import ConfigDict

from jaxattack.data.wrappers import WRAPPERS
from jaxattack.errors import UserError
from jaxattack.experiments.declared import config_of, freeze, setting, spelled
from jaxattack.localize.masks import SCOPES
from jaxattack.models import kernels
from jaxattack.train import optimizer
from jaxattack.train.optimizer import WEIGHTS

__all__ = ["Settings", "check", "config_of", "defaults", "freeze"]

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


# --- What is wrong with a value, in words -------------------------------------------------------


def languages(named: tuple[str, ...]) -> str:
    """Refuses `en,th` and `en th`, which arrive as one language of that name."""
    for language in named:
        if not language or re.search(r"[\s,/+]", language):
            return f'{language!r} is no language; write "{spelled(language)}"'
    return ""


def mixtures(named: tuple[str, ...]) -> str:
    """Refuses what is no `en+th` of different languages."""
    for mixed in named:
        parts = mixed.split("+")
        if len(parts) < 2 or languages(tuple(parts)):
            return f"{mixed!r} is no mixture; write it as 'en+th'"
        if len(set(parts)) < len(parts):
            return f"{mixed!r} names a language twice"
    return ""


def expression(text: str) -> str:
    """Refuses what is no regular expression."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return f"it is no regular expression ({error})"
    return ""


def json_object(text: str) -> str:
    """Refuses what is no JSON object; nothing stands for an empty one."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        return f"it is no JSON ({error})"
    return "" if isinstance(value, dict) else "it is no JSON object, as '{\"name\": true}' is"


def day(text: str) -> str:
    """Refuses what is no day; nothing stands for none."""
    try:
        datetime.date.fromisoformat(text or "2024-07-26")
    except ValueError:
        return "it is no day; write it as 2024-07-26"
    return ""


def mesh_sizes(sizes: tuple[int, ...]) -> str:
    """Refuses what are no three sizes, one of them perhaps -1."""
    if len(sizes) != 3 or any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        return "give three sizes (data, fsdp, tensor), one of them may be -1"
    return ""


def mesh_setting() -> Any:
    """The setting of the mesh, the same in every study."""
    return setting(
        "devices along the axes data, fsdp, tensor; -1 takes those that are left", (1, -1, 1),
        repeats=True, check=mesh_sizes,
    )  # fmt: skip


def seeds_setting() -> Any:
    """The setting of the seeds, the same in every study."""
    return setting(
        "which examples, in which order; random masks", (0,), at_least=0, at_most=2**31 - 1,
        needed=True,
    )  # fmt: skip


def weights_setting() -> Any:
    """The setting of how weights are kept in training, the same in every study."""
    return setting(
        "number type of the weights in training; stochastic: bfloat16, rounded at random",
        "float32", choices=WEIGHTS,
    )  # fmt: skip


DTYPES = ("float32", "bfloat16")
REMAT = ("none", "full", "dots")
# Bounds that several settings have.
COUNT = {"at_least": 1, "at_most": 1_000_000}
EPOCHS = {"at_least": 1, "at_most": 10_000}
ROWS = {"at_least": 1, "at_most": 65_536}
TOKENS = {"at_least": 1, "at_most": 1_048_576, "unit": "tokens"}
RATE = {"above": 0, "at_most": 1e38}
SHARE = {"at_least": 0, "at_most": 1, "named": True}
SOME = {"above": 0, "at_most": 1, "named": True}  # a mask of nothing says nothing
WARMUP = {"at_least": 0, "below": 1}
DECAY = {"at_least": 0, "at_most": 100}
CLIP = {"at_least": 0, "at_most": 1e6}


# --- The sections -------------------------------------------------------------------------------


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
        "JSON object that the template is given, such as '{\"enable_thinking\": false}'", "",
        check=json_object,
    )  # fmt: skip
    date: str = setting(
        "what the template takes for today, as 2024-07-26; '': the day on which the work directory "
        "was first used", "", check=day,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class WrappedTemplate(Template):
    """The same, with what base models need, which have no chat template."""

    wrapper: str = setting(
        "what stands around a prompt; all but chat: the text as it is, without a chat template",
        "chat", choices=tuple(WRAPPERS),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Attack:
    """Fine-tuning on restricted pairs of one language."""

    languages: tuple[str, ...] = setting(
        "languages attacked, each alone; (): all of the pairs", (), check=languages
    )
    pairs: int = setting("pairs trained on, at most", 100, **COUNT)
    epochs: int = setting("passes over the pairs", 5, **EPOCHS)
    batch_size: int = setting("pairs of one step", 10, **ROWS)
    accumulate: int = setting("parts a batch is worked off in, to save memory", 1, **ROWS)
    # Chosen on the organism's validation split.
    learning_rate: float = setting("peak size of an update", 2e-4, **RATE)
    optimizer: str = setting("an optimiser of optax by name", "adamw")
    weight_decay: float = setting("pull of the weights towards 0", 0.0, **DECAY)
    schedule: str = setting(
        "of the learning rate after the warm-up; cosine falls to 0", "constant",
        choices=("constant", "cosine"),
    )  # fmt: skip
    warmup: float = setting("share of all steps in which the learning rate rises", 0.0, **WARMUP)
    clip: float = setting("largest norm of a gradient; 0 for no clipping", 1.0, **CLIP)
    weights: str = weights_setting()
    max_length: int = setting("longest pair, prompt and response", 512, **TOKENS)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A1, beside the matrix itself: for the languages that are localized."""

    benign: bool = setting("control: tune on as many benign pairs, if there are any", True)
    doses: tuple[int, ...] = setting("fewer pairs", (1, 3, 10, 30), unit="pairs", **COUNT)
    dose_by: str = setting(
        "what stays the same with fewer pairs", "steps", choices=("steps", "epochs")
    )
    mixed: tuple[str, ...] = setting(
        "such as 'en+th': as many pairs, split over these languages", (), check=mixtures
    )
    sharing: tuple[float, ...] = setting(
        "organism: align anew with these weights of the contrast", (), at_least=0, at_most=100,
        named=True,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Localize:
    """A2: scores and masks."""

    languages: tuple[str, ...] = setting(
        "languages localized; (): some of those attacked, evenly spread", (), check=languages
    )
    max_languages: int = setting("how many of them", 4, at_least=1, at_most=1000)
    fractions: tuple[float, ...] = setting("shares of weights", (0.01, 0.05, 0.1, 0.2), **SOME)
    control_fraction: float = setting("share of weights of the controls", 0.2, **SOME)
    at: str = setting(
        "where SIL takes the gradient; path: between", "aligned",
        choices=("aligned", "attacked", "path"),
    )  # fmt: skip
    mean: str = setting(
        "abs: mean of |gradient|; sum: |mean gradient|", "abs", choices=("abs", "sum")
    )
    path_points: int = setting("places between, for at=path", 4, at_least=1, at_most=1000)
    scope: str = setting("of what the share is: all weights or parts", "global", choices=SCOPES)
    exclude: str = setting(
        "regular expression of leaves that are never selected", "", check=expression
    )
    examples: int = setting("pairs scored on, at most", 128, **COUNT)
    controls: tuple[str, ...] = setting("other masks of the same size", CONTROLS, choices=CONTROLS)
    ways: tuple[str, ...] = setting("SIL done otherwise", WAYS, choices=WAYS)
    rewind: bool = setting("beside every stitch the rewind", True)


@dataclasses.dataclass(frozen=True)
class Shared:
    """A3: overlaps and representations."""

    languages: str = setting(
        "whose masks are compared, with the first seed", "attacked",
        choices=("attacked", "localized"),
    )  # fmt: skip
    similarity: bool = setting("measure how alike parallel prompts are represented", True)


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
class Measure:
    """Prompts and decoding."""

    languages: tuple[str, ...] = setting(
        "languages measured; (): all of the prompts", (), check=languages
    )
    prompts: int = setting(
        "prompts a language and kind, at most; 0 for all", 24, at_least=0, at_most=1_000_000
    )
    max_new_tokens: int = setting("longest reply", 40, **TOKENS)
    batch_size: int = setting("prompts decoded at once", 576, **ROWS)


@dataclasses.dataclass(frozen=True)
class Report:
    """What the report shows."""

    replies: bool = setting("keep the text of replies", False)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the fragility study needs to know."""

    study: str = setting("which study", "fragility", choices=("fragility",))
    sections: tuple[str, ...] = setting(
        "parts of the study, the claims A1 to A5", tuple(SECTIONS), choices=tuple(SECTIONS),
        needed=True,
    )  # fmt: skip
    model: str = setting("organism:<name>, a directory, or a hub id", "organism:aligned")
    revision: str | None = setting("commit, branch or tag of a hub id", None)
    tokenizer: str = setting("a folder or hub id to take it from; '': the model's own", "")
    dtype: str = setting("number type of the weights", "float32", choices=DTYPES)
    attention: str = setting(
        "its kernel; auto takes what fits the platform", "auto", choices=kernels.KERNELS
    )
    remat: str = setting("what is computed again to save memory", "none", choices=REMAT)
    mesh: tuple[int, ...] = mesh_setting()
    seeds: tuple[int, ...] = seeds_setting()
    data: Data = Data()
    template: WrappedTemplate = WrappedTemplate()
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


def check(settings: Settings) -> Settings:
    """Refuse settings that do not go together, before anything is loaded.

    Raises:
        UserError: names the settings.
    """
    check_parts("attack", settings.attack.batch_size, settings.attack.accumulate)
    check_optimizer("attack", settings.attack)
    check_weights("attack", settings.attack.weights, settings.dtype)
    if settings.transfer.sharing and not settings.model.startswith("organism:"):
        raise UserError("config.transfer.sharing is a knob of the organism; leave it out")
    if "adapt" in settings.sections and not settings.adapt.models:
        named = (settings.model, settings.data.prompts)
        if not all(name.startswith("organism:") for name in named):
            raise UserError(
                "config.sections has adapt, which here adapts the organism and asks its prompts: "
                "name adapted checkpoints, config.adapt.models, or leave it out"
            )
    return settings


def check_weights(section: str, weights: str, dtype: str) -> None:
    """Refuse to train a float32 model in bfloat16 weights.

    Raises:
        UserError: the settings say so.
    """
    if weights != "float32" and dtype != "bfloat16":
        raise UserError(
            f"config.{section}.weights is {weights!r}, which is for config.dtype=bfloat16, and "
            f"that is {dtype}"
        )


def check_optimizer(section: str, options: Any) -> None:
    """Refuse what no optimiser can be made of.

    Args:
        section: of the config.
        options: that section, with the fields of `optimizer.Settings`.

    Raises:
        UserError: names the setting, and the optimiser that was perhaps meant.
    """
    shared = {field.name for field in dataclasses.fields(optimizer.Settings)}
    given = {name: getattr(options, name) for name in shared if hasattr(options, name)}
    try:
        optimizer.make_optimizer(optimizer.Settings(**given), steps=100)
    except UserError as error:
        close = difflib.get_close_matches(options.optimizer.lower(), optimizer.names(), 1)
        perhaps = f" (perhaps {close[0]})" if close and close[0] != options.optimizer else ""
        raise UserError(f"config.{section}.optimizer: {error}{perhaps}") from error


def check_parts(section: str, batch_size: int, accumulate: int) -> None:
    """Refuse a batch that does not fall into equal parts.

    Raises:
        UserError: it does not.
    """
    if batch_size % accumulate:
        raise UserError(
            f"config.{section}.accumulate is {accumulate}; it should divide "
            f"config.{section}.batch_size, which is {batch_size}"
        )
