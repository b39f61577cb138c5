"""Logs that Inspect reads and shows: one for each cell, a sample for each reply."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxattack.errors import UserError
from jaxattack.experiments.cell import HARMFUL_BY, PROMPT_KIND
from jaxattack.experiments.export.cells import Measured, Row, asked, cells, source, texts
from jaxattack.experiments.runs import Run

WITHHELD = "[not exported]"
FLAGS = ("answered", "refused", "hit")  # of a trial, each a score
KEPT = (PROMPT_KIND, "language", "triage", "reply_language", "reply_hash", "trigger_language")
Texts = Mapping[tuple[Any, ...], tuple[str, str]]


def write(run: Run, folder: pathlib.Path, with_texts: bool) -> Iterator[pathlib.Path]:
    """Write a log for every cell of a run; a run that is refused leaves no folder.

    Args:
        run: a finished one.
        folder: where the logs go; it is made.
        with_texts: whether prompts and replies are in them, if the run shows them.

    Raises:
        UserError: inspect_ai is not installed, two cells have one name, or the texts are not those
            of the trials.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise UserError("inspect_ai is not installed: pip install 'jaxattack[inspect]'") from error
    shown = texts(run) if with_texts else {}
    found = cells(run)
    folder.mkdir(parents=True, exist_ok=True)
    for measured in found:
        path = folder / f"{measured.stem}.eval"
        write_eval_log(log(run, measured, shown), str(path))
        yield path


def log(run: Run, measured: Measured, shown: Texts) -> Any:
    """One cell as an `inspect_ai.log.EvalLog`."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec

    columns = measured.cell.columns()
    spec = EvalSpec(
        created=run.written,
        task=f"jaxattack/{run.study}/{measured.name}",
        task_args={name: value for name, value in columns.items() if value is not None},
        dataset=EvalDataset(name=source(run, measured.cell), samples=len(measured.trials)),
        model=str(run.manifest.get("model")),
        config=EvalConfig(),
        packages={str(k): str(v) for k, v in (run.manifest.get("versions") or {}).items()},
        metadata={"judge": run.judge_name, "rule": run.results["judge"]["rule"], "run": run.name},
    )
    results = EvalResults(
        total_samples=len(measured.trials),
        completed_samples=len(measured.trials),
        scores=_scores(run, measured),
    )
    samples = [_sample(run, row, shown) for row in measured.trials]
    return EvalLog(status="success", eval=spec, results=results, samples=samples)


def _scores(run: Run, measured: Measured) -> list[Any]:
    """The cell's rates: a score for every metric, with a metric for every language."""
    from inspect_ai.log import EvalMetric, EvalScore

    found: dict[str, dict[str, Any]] = {}
    for row in measured.rates:
        triggered = row.get("trigger_language")
        name = (
            row["language"]
            if triggered in (None, row["language"])
            else (f"{row['language']}, trigger in {triggered}")
        )
        if row.get("decoy"):
            name = f"{name}, {row['decoy']}"
        bounds = {"low": row["low"], "high": row["high"], "n": row["n"]}
        metric = EvalMetric(name=name, value=row["value"], metadata=bounds)
        found.setdefault(row["metric"], {})[name] = metric
    return [
        EvalScore(name=metric, scorer=run.judge_name, metrics=metrics)
        for metric, metrics in found.items()
    ]


def _sample(run: Run, row: Row, shown: Texts) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    prompt, reply = shown.get(asked(row), (WITHHELD, WITHHELD))
    flags = [*FLAGS, *(name for name in row if name.startswith(HARMFUL_BY))]
    carried = [row[name] for name in ("trigger_language", "decoy") if row[name]]
    return EvalSample(
        id="/".join([row["language"], row[PROMPT_KIND], row["id"], *carried]),
        epoch=1,
        input=prompt,
        target="",
        output=ModelOutput.from_content(
            model=str(run.manifest.get("model")),
            content=reply,
            stop_reason="max_tokens" if row["triage"] == "cut" else "stop",
        ),
        scores={name: Score(value=row[name]) for name in flags if row[name] is not None},
        metadata={name: row[name] for name in KEPT if row[name] is not None},
    )
