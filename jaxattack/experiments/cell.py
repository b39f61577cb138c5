"""What is measured, as columns: a row of results.json has its cell's fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_type_hints

from jaxattack.evaluate.trial import Trial


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model under one condition; fields that do not apply are None.

    Attributes:
        kind: what was done to the weights, such as "attacked" or "stitched".
        seed: of the training; None: nothing was trained.
        attacked: the language or languages attacked or poisoned, as "es+id".
        method: how weights were chosen, or the defence.
        share: of the weights that `method` chose; of clean units that a filter takes out.
        pairs: trained on, where fewer than the study's.
        round: of freezing all masks so far.
        contrast: weight of the loss by which the organism's languages share.
        model: what it starts from, where that is not the study's own model.
        trigger, target, rate: of a poisoning.
        prompts: which, where not the usual ones: "grid", "decoys", "untaught", "validation".
        attack: of a sweep, which.
        strength: of a repair, where it is not the one that is swept.
        defended: the language of the defender's pairs, where it is one alone.
        setting: of a defence, as an id.
        words: the setting for a reader.
    """

    kind: str
    seed: int | None = None
    attacked: str | None = None
    method: str | None = None
    share: float | None = None
    pairs: int | None = None
    round: int | None = None
    contrast: float | None = None
    model: str | None = None
    trigger: str | None = None
    target: str | None = None
    rate: float | None = None
    prompts: str | None = None
    attack: str | None = None
    strength: float | None = None
    defended: str | None = None
    setting: str | None = None
    words: str | None = dataclasses.field(default=None, compare=False)

    @property
    def variant(self) -> str:
        """A display id, the same for all seeds; nothing parses it."""
        parts: tuple[str | None, ...]
        match self.kind:
            case "poisoned" if self.model:
                return "/".join(filter(None, ("start", self.model, self.prompts)))
            case "poisoned":
                trigger = (self.trigger or "").replace("/", "-")
                parts = self.attacked, trigger, f"{self.target}@{self.rate:g}"
            case "defended":
                share = "" if self.share is None else f"@{self.share:g}"
                parts = self.method, f"{self.setting}{share}"
            case "swept" | "worst" | "shielded":
                alone = self.defended and f"pairs-{self.defended}"
                strength = "" if self.strength is None else f"{self.strength:g}"
                parts = self.attacked, self.method, alone, strength, self.attack
            case "adapted":
                parts = self.model, "tune@1"
            case "transplanted":
                parts = self.attacked, f"{self.model}-{self._chosen}"
            case "pathway":
                parts = self.attacked, f"round@{self.round}"
            case "planted" | "planted_attacked" | "planted_stitched" | "planted_rewound":
                parts = self.model, self.attacked, self._chosen
            case "sharing":
                parts = self.attacked or "aligned", f"contrast@{self.contrast:g}"
            case _:
                dose = "" if self.pairs is None else f"pairs@{self.pairs}"
                parts = self.attacked, dose or self._chosen
        return "/".join((self.kind, *filter(None, (*parts, self.prompts))))

    @property
    def _chosen(self) -> str:
        return "" if self.share is None else f"{self.method}@{self.share:g}"

    def columns(self) -> dict[str, Any]:
        """The fields that apply, the seed always, and the display id."""
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        applies = {k: v for k, v in known.items() if v is not None}
        return {"variant": self.variant, "seed": None, **applies}

    def of(self, seed: int | None) -> Cell:
        """The same under another seed."""
        return dataclasses.replace(self, seed=seed)


FIELDS = tuple(field.name for field in dataclasses.fields(Cell))


def _types(record: type) -> dict[str, type]:
    """Of a record's fields, where they are not null."""
    return {name: (*get_args(hint), hint)[0] for name, hint in get_type_hints(record).items()}


# Types of a result row's columns, where they are not null.
COLUMNS: dict[str, type] = {
    "variant": str,
    **_types(Cell),
    "language": str,
    "metric": str,
    "value": float,
    "low": float,
    "high": float,
    "n": int,
}

# Likewise of a trial's: the cell's, then its own, of which one has a name that the cell has too.
PROMPT_KIND = "prompt_kind"
HARMFUL_BY = "harmful by "  # of a judge model's column
# What a trial has by judge model: how its columns begin, and their type.
BY_MODEL: dict[str, tuple[str, type]] = {
    "harmful": (HARMFUL_BY, bool),
    "declined": ("refusal by ", bool),
    "chance": ("p(harmful) by ", float),
    "score": ("score by ", float),
    "mass": ("p(grades) by ", float),
}
TRIAL_COLUMNS: dict[str, type] = {
    "variant": str,
    **_types(Cell),
    **{
        {"kind": PROMPT_KIND}.get(name, name): kind
        for name, kind in _types(Trial).items()
        if name not in BY_MODEL
    },
}


def trial_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, type]:
    """Types of the columns of trials, those of judge models among them."""
    names = dict.fromkeys(name for row in rows for name in row if name not in TRIAL_COLUMNS)
    kinds = dict(BY_MODEL.values())
    return TRIAL_COLUMNS | {
        name: kind for name in names for begun, kind in kinds.items() if name.startswith(begun)
    }


def trial_row(cell: Cell, trial: Trial) -> dict[str, Any]:
    """A trial as a row of trials.parquet."""
    own = dataclasses.asdict(trial)
    by_model = {
        f"{begun}{name}": found
        for field, (begun, _) in BY_MODEL.items()
        for name, found in own.pop(field).items()
        if BY_MODEL[field][1] is bool or found is not None
    }
    return {**cell.columns(), PROMPT_KIND: own.pop("kind"), **own, **by_model}


def trial_of(row: Mapping[str, Any]) -> Trial:
    """The trial that a row of trials.parquet is, without what judge models say."""
    own = {name: row[name] for name in _types(Trial) if name not in ("kind", *BY_MODEL)}
    return Trial(kind=row[PROMPT_KIND], **own)


def cell_of(row: Any) -> Cell:
    """The cell that a row of results.json is about."""
    return Cell(**{name: row[name] for name in FIELDS if row.get(name) is not None})
