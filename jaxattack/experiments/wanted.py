"""What a section of the study wants: variants to be measured, and findings about trees.

Nothing is computed by wanting it; the study runs the stages behind what is wanted.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from jaxattack import workdir
from jaxattack.evaluate import measure
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.lazy import Lazy, Memo
from jaxattack.experiments.stages import Setup, Subject, as_asked
from jaxattack.workdir import Stage


@dataclasses.dataclass(frozen=True)
class Variant:
    """Weights to be measured, under a name and a seed."""

    name: str
    seed: int | None
    weights: Lazy
    subject: Subject


def measured(setup: Setup, variant: Variant) -> Stage:
    """Verdicts on one variant, and its replies if the settings keep them."""
    options = setup.settings.measure
    keep = setup.settings.report.replies
    subject = variant.subject

    def write(folder: pathlib.Path) -> None:
        said = measure.ask(
            subject.model, as_asked(setup, variant.weights), subject.tokenizer, subject.prompts,
            options.max_new_tokens, options.batch_size, label=f"measure {variant.name}",
        )  # fmt: skip
        verdicts = measure.judge_all(subject.prompts, said)
        workdir.write_json(folder / "verdicts.json", [dataclasses.asdict(v) for v in verdicts])
        if keep:
            workdir.write_json(folder / "replies.json", [reply.text for reply in said])

    inputs = {
        "weights": variant.weights.lineage, "dtype": setup.settings.dtype,
        "prompts": subject.asked,
        "replies": keep, "max_new_tokens": options.max_new_tokens,
        "batch_size": options.batch_size, "mesh": setup.settings.mesh,
    }  # fmt: skip
    label = variant.name if variant.seed is None else f"{variant.name}-s{variant.seed}"
    work = {"prompts": len(subject.prompts)}
    return Stage(setup.root, "measure", label, inputs, write, variant.weights.needs, work)


def verdicts_of(stage: Stage) -> list[Trial]:
    """What a finished stage of `measured` found."""
    return [Trial(**v) for v in json.loads((stage.folder / "verdicts.json").read_text())]


def replies_of(variant: Variant, stage: Stage) -> list[dict[str, Any]]:
    """The texts of a finished stage that kept them."""
    texts = json.loads((stage.folder / "replies.json").read_text())
    return [
        {"variant": variant.name, "language": v.language, "id": v.id, "prompt": e.prompt,
         "reply": text, "verdict": _word(v)}
        for v, e, text in zip(verdicts_of(stage), variant.subject.prompts, texts, strict=True)
    ]  # fmt: skip


def _word(verdict: Trial) -> str:
    if verdict.answered:
        return "answered"
    return "refused" if verdict.refused else "neither"


def measured_once(setup: Setup, variants: Iterable[Variant]) -> dict[tuple[str, int | None], Stage]:
    """The stage of each variant by name and seed; variants of equal weights share one."""
    by_weights: dict[str, Stage] = {}
    found: dict[tuple[str, int | None], Stage] = {}
    for variant in variants:
        same = workdir.digest([variant.weights.lineage, variant.subject.asked])
        stage = by_weights.setdefault(same, measured(setup, variant))
        found.setdefault((variant.name, variant.seed), stage)
    return found


@dataclasses.dataclass(frozen=True)
class Finding:
    """Rows for one key of results.json, computed by a stage."""

    key: str
    stage: Stage

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the finished stage."""
        return json.loads((self.stage.folder / "rows.json").read_text())


def find(
    root: pathlib.Path,
    memo: Memo,
    key: str,
    label: str,
    rows: Callable[..., list[dict[str, Any]]],
    *parts: Lazy,
    **options: Any,
) -> Finding:
    """`rows` of trees, to be; `label` and `options` have to say all that decides them."""

    def write(folder: pathlib.Path) -> None:
        found = rows(*(memo.load(part) for part in parts), **options)
        workdir.write_json(folder / "rows.json", found)

    inputs = {"of": [part.lineage for part in parts], "rows": rows.__name__, **options}
    needs = tuple(stage for part in parts for stage in part.needs)
    return Finding(key, Stage(root, key, label, inputs, write, needs))


@dataclasses.dataclass
class Section:
    """What one section of the study wants measured and found."""

    variants: list[Variant] = dataclasses.field(default_factory=list)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def measure(self, setup: Setup, name: str, seed: int | None, weights: Lazy) -> None:
        """Ask for the rates of some weights."""
        self.variants.append(Variant(name, seed, weights, setup.subject))

    def find(
        self,
        setup: Setup,
        key: str,
        label: str,
        rows: Callable[..., list[dict[str, Any]]],
        *parts: Lazy,
        **options: Any,
    ) -> None:
        """Ask for rows of trees (see `find`)."""
        self.findings.append(find(setup.root, setup.memo, key, label, rows, *parts, **options))
