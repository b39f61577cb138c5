"""Running a study's stages in order, and how long each kind of them took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
