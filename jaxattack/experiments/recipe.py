"""How a model is trained, declared once.

A section of a study that trains inherits `Recipe` and says which of its defaults are others; the
same fields of `Documents` and of sections that train with a few of them are declared `as_in` it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping

from jaxattack.errors import UserError
from jaxattack.experiments.declared import as_in, setting
from jaxattack.experiments.values import COUNT, EPOCHS, RATE, ROWS, TOKENS
from jaxattack.train.optimizer import SCHEDULES, WEIGHTS, make_optimizer, names
from jaxattack.train.optimizer import Settings as Updates
from jaxattack.train.registry import METHODS, Row


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Fine-tuning on pairs."""

    method: str = setting(
        "full: all weights; lora: adapters of the matrices, then merged",
        "full",
        choices=METHODS,
    )
    rank: int = setting("of a matrix's change, for method=lora", 16, at_least=1, at_most=4096)
    alpha: float = setting(
        "for method=lora; alpha / rank scales the change", 32.0, above=0, at_most=1e6
    )
    epochs: int = setting("passes over the pairs", 5, **EPOCHS)
    batch_size: int = setting("pairs of one step", 10, **ROWS)
    accumulate: int = setting("parts a batch is worked off in, to save memory", 1, **ROWS)
    learning_rate: float = setting("peak size of an update", 2e-4, **RATE)
    optimizer: str = setting("an optimiser of optax by name, or adamw8bit", "adamw")
    weight_decay: float = setting("pull of the weights towards 0", 0.0, at_least=0, at_most=100)
    schedule: str = setting(
        "of the learning rate after the warm-up; cosine falls to 0",
        "constant",
        choices=SCHEDULES,
    )
    warmup: float = setting(
        "share of all steps in which the learning rate rises", 0.0, at_least=0, below=1
    )
    clip: float = setting(
        "largest norm of a gradient; 0 for no clipping", 1.0, at_least=0, at_most=1e6
    )
    weights: str = setting(
        "number type of the weights in training; extended: bfloat16 and a byte more; "
        "stochastic: bfloat16, rounded at random",
        "float32",
        choices=WEIGHTS,
    )
    max_length: int = setting("longest pair, prompt and response", 512, **TOKENS)
    packing: bool = setting("several pairs in one row where they fit; the loss is the same", False)

    @property
    def way(self) -> Row:
        """How it is trained."""
        return METHODS[self.method]

    def updates(self) -> Updates:
        """The optimiser's part of it."""
        shared = [field.name for field in dataclasses.fields(Updates)]
        return Updates(**{name: getattr(self, name) for name in shared})

    def check(self, section: str, dtype: str) -> None:
        """Refuse what does not go together.

        Args:
            section: of the config, as errors name it.
            dtype: of the model's weights.

        Raises:
            UserError: names the settings.
        """
        if self.batch_size % self.accumulate:
            raise UserError(
                f"config.{section}.accumulate is {self.accumulate}; it should divide "
                f"config.{section}.batch_size, which is {self.batch_size}"
            )
        check_updates(section, self.updates())
        if self.weights != "float32" and not self.way.rounds:
            raise UserError(
                f"config.{section}.weights is {self.weights!r}; config.{section}.method="
                f"{self.method} trains in float32"
            )
        if self.weights != "float32" and dtype != "bfloat16":
            raise UserError(
                f"config.{section}.weights is {self.weights!r}, which is for "
                f"config.dtype=bfloat16, and that is {dtype}"
            )


def check_updates(section: str, updates: Updates) -> None:
    """Refuse what no optimiser can be made of.

    Raises:
        UserError: names the section's setting, and the optimiser that was perhaps meant.
    """
    try:
        make_optimizer(updates, steps=100)
    except UserError as error:
        close = difflib.get_close_matches(updates.optimizer.lower(), names(), 1)
        perhaps = f" (perhaps {close[0]})" if close and close[0] != updates.optimizer else ""
        raise UserError(f"config.{section}.optimizer: {error}{perhaps}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Documents:
    """Training on documents drawn from the organism's world."""

    optimizer: str = as_in(Recipe, "optimizer")
    steps: int = setting("updates", 200, unit="steps", **COUNT)
    rows: int = setting("rows of one step", 40, **ROWS)
    length: int = setting("longest row", 64, **TOKENS)
    learning_rate: float = as_in(Recipe, "learning_rate", 1e-3)
    weight_decay: float = as_in(Recipe, "weight_decay")
    shares: Mapping[str, float] = setting("share of a kind of document", {}, at_least=0, at_most=1)

    def decaying(self, warmup: float) -> Updates:
        """Its optimiser, whose learning rate rises over a share of the steps, then falls to 0."""
        return Updates(
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            schedule="cosine",
            warmup=warmup,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson(Documents):
    """What an organism is taught when it is aligned already."""

    warmup: float = as_in(Recipe, "warmup", 0.1)
    contrast: float = 0.1  # pulls together what states say in all languages; 0 for not
    layer: int = 3  # after this one

    def updates(self) -> Updates:
        """The optimiser's part of it."""
        return self.decaying(self.warmup)
