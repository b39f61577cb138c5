"""What a study measures and finds: cells and tables of steps, run in order, each once."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from jaxattack import leases, workdir
from jaxattack.evaluate import rates
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import judging, moderating, tuning
from jaxattack.experiments.cell import PROMPT_KIND, Cell, trial_row
from jaxattack.experiments.step import Step
from jaxattack.progress import Steps
from jaxattack.stages import Stage, in_order

Share = tuple[int, int]  # which of several runs this is, from 0, and how many there are
S = TypeVar("S")  # what the sections of a study share


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        results: what goes into results.json.
        trials: rows of trials.parquet.
        times: what took how long, for the manifest.
    """

    results: dict[str, Any]
    trials: list[dict[str, Any]]
    times: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """The steps behind a cell.

    Attributes:
        weights: what is asked.
        replies: what it says.
        trials: what judges make of it.
    """

    weights: Step
    replies: Step
    trials: Step


@dataclasses.dataclass
class Agenda:
    """Cells to be measured and tables to be found; nothing is computed by being here.

    Cells whose weights and prompts are equal share their replies, and are asked once.

    Attributes:
        cells, tables: what is measured and found.
        skipped: setting -> what it asks for that there cannot be -> 1.
    """

    cells: dict[Cell, Measured] = dataclasses.field(default_factory=dict)
    tables: dict[str, list[Step]] = dataclasses.field(default_factory=dict)
    skipped: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    _replies: dict[str, Step] = dataclasses.field(default_factory=dict)
    _trials: dict[str, Step] = dataclasses.field(default_factory=dict)

    def measure(
        self, cell: Cell, weights: Step, replies: Step, judge: Callable[[Step], Step]
    ) -> None:
        """Ask for a cell; one that is there already stays as it is."""
        if cell in self.cells:
            return
        replies = self._replies.setdefault(workdir.digest(replies.named), replies)
        trials = judge(replies)
        trials = self._trials.setdefault(workdir.digest(trials.named), trials)
        self.cells[cell] = Measured(weights, replies, trials)

    def find(self, table: str, rows: Step) -> None:
        """Ask for rows of a table."""
        self.tables.setdefault(table, []).append(rows)

    def skip(self, setting: str, why: str) -> None:
        """Note that there cannot be a part of what a setting asks for."""
        self.skipped.setdefault(setting, {})[why] = 1

    @property
    def stages(self) -> list[Stage]:
        """Every stage on disk, each once, each after those it needs.

        Where there are judge models all that judges comes last: two models are not read in turn.
        """
        steps = [measured.trials for measured in self.cells.values()]
        found = in_order(
            stage for step in itertools.chain(steps, *self.tables.values()) for stage in step.needs
        )
        late = (moderating.KIND, moderating.WEIGHED)
        return sorted(found, key=lambda stage: stage.kind in late)

    def trials(self) -> dict[Cell, list[Trial]]:
        """What was found of every cell."""
        return {cell: measured.trials.read() for cell, measured in self.cells.items()}

    def trial_rows(self) -> list[dict[str, Any]]:
        """The same as rows of one table."""
        return [trial_row(cell, trial) for cell, own in self.trials().items() for trial in own]

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """What was found of every table."""
        return {
            name: [row for step in steps for row in step.read()]
            for name, steps in self.tables.items()
        }

    def replies(self, word: Callable[[Trial], str]) -> list[dict[str, Any]]:
        """The texts of replies that were kept, with what was found of each in a `word`.

        A prompt as it is, with a trigger and with each decoy has one id, so rows say which it is.
        """
        rows = []
        for cell, measured in self.cells.items():
            trials, judged = measured.trials.read(), measured.trials.arguments
            given = judged["trials"].arguments if "trials" in judged else judged  # beside a panel
            asked = given["asked"].read() if isinstance(given["asked"], Step) else given["asked"]
            replies = measured.replies.read()
            said = judging.texts(given["decoder"], asked, replies, given["decoding"])
            rows += [
                {
                    **cell.columns(),
                    "language": example.language,
                    PROMPT_KIND: trial.kind,
                    "id": example.id,
                    "trigger_language": trial.trigger_language,
                    "decoy": trial.decoy,
                    "prompt": example.prompt,
                    "reply": reply.text,
                    "reply_hash": trial.reply_hash,
                    "verdict": word(trial),
                }
                for example, reply, trial in zip(given["prompts"], said, trials, strict=True)
            ]
        return rows

    def moved(self) -> list[dict[str, Any]]:
        """Rows on how many weights each training moved; none of weights that nobody trained."""
        rows = []
        for cell, measured in self.cells.items():
            found = tuning.moved_of(measured.weights) or {"languages": ()}
            rows += [
                {
                    **cell.columns(),
                    "language": language,
                    "metric": metric,
                    "value": found[metric],
                    "low": found[metric],
                    "high": found[metric],
                    "n": found["trained"],  # counted, not estimated
                }
                for language in found["languages"]
                for metric in rates.OF_WEIGHTS
            ]
        return rows


def collect(sections: Iterable[Callable[[Agenda, S], None]], setup: S) -> Agenda:
    """What sections of a study measure and find, those before others first; nothing is computed."""
    found = Agenda()
    for section in sections:
        section(found, setup)
    return found


def run(stages: Sequence[Stage], share: Share | None = None) -> dict[str, Any]:
    """Run every stage that is not there yet; returns what took how long, whenever that was.

    Stages that another run computes, and those that rest on them, are passed over and come later.

    Args:
        stages: each after those it needs.
        share: of these alone any is computed, and the others are waited for; None: each by
            whichever run takes its lease.
    """
    steps, left = Steps(len(stages)), list(stages)
    there: set[str] = set()
    looks = None
    ours = None if share is None else shared(stages, share)
    while left:
        before, busy = len(there), 0
        for stage in left:
            if there.issuperset(need.id for need in stage.needs):
                steps.begin(f"{stage.kind} {stage.label}")
                if _done(stage, ours):
                    steps.end(f"{stage.kind} {stage.label}")
                    there.add(stage.id)
                else:
                    busy += 1
        left = [stage for stage in left if stage.id not in there]
        if left and len(there) == before:
            steps.wait(f"waiting for {busy} steps of other runs; {len(left)} are not there")
            looks = looks or leases.pauses()
            next(looks)
        else:
            looks = None
    steps.close()
    return {"profile": profile(stages), "computed_by": environments(stages)}


def shared(stages: Sequence[Stage], share: Share) -> set[str]:
    """Names of a share's stages: of every kind in turn, so that all have as much to do."""
    index, count = share
    numbers: collections.Counter[str] = collections.Counter()
    found = set()
    for stage in stages:
        if numbers[stage.kind] % count == index:
            found.add(stage.id)
        numbers[stage.kind] += 1
    return found


def _done(stage: Stage, ours: set[str] | None) -> bool:
    """Compute a stage, if it is for this run to do; whether it is there."""
    if ours is None:
        return stage.attempt()
    if stage.id in ours:
        stage.compute()
    return stage.is_sound()


def profile(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """How many stages of each kind there are and how long they took, whenever that was."""
    found: dict[str, list[float]] = {}
    for stage in stages:
        found.setdefault(stage.kind, []).append(stage.seconds())
    return [
        {"kind": kind, "count": len(own), "seconds": round(sum(own), 1)}
        for kind, own in found.items()
    ]


def environments(stages: Sequence[Stage]) -> list[Mapping[str, Any]]:
    """What computed the stages, whenever that was: each environment once, with their number."""
    found: dict[str, dict[str, Any]] = {}
    for stage in stages:
        one = stage.record()["environment"]
        known = found.setdefault(workdir.digest(one), {"stages": 0, **one})
        known["stages"] += 1
    return list(found.values())
