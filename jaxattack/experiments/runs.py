"""Running a study's stages in order, and how long each kind of them took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxattack import workdir
from jaxattack.progress import Steps
from jaxattack.workdir import Stage


def run_all(ordered: Sequence[Stage]) -> None:
    """Run every stage that is not there yet."""
    steps = Steps(len(ordered))
    for stage in ordered:
        with steps.step(f"{stage.kind} {stage.label}"):
            stage.run()
    steps.close()


def profile(ordered: Sequence[Stage]) -> list[dict[str, Any]]:
    """How many stages of each kind there are and how long they took, whenever that was."""
    kinds = dict.fromkeys(stage.kind for stage in ordered)
    return [
        {"kind": kind, "count": sum(stage.kind == kind for stage in ordered),
         "seconds": round(sum(stage.seconds() for stage in ordered if stage.kind == kind), 1)}
        for kind in kinds
    ]  # fmt: skip


def environments(ordered: Sequence[Stage]) -> list[dict[str, Any]]:
    """What computed the stages, whenever that was: each environment once, with their number."""
    found: dict[str, dict[str, Any]] = {}
    for stage in ordered:
        one = stage.record()["environment"]
        known = found.setdefault(workdir.digest(one), {"stages": 0, **one})
        known["stages"] += 1
    return list(found.values())
