"""A finished run as other tools' files: each opened by the tool's own reader, where it is there."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest

from jaxattack import export as command
from jaxattack.evaluate import rates
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import runs
from jaxattack.experiments.cell import TRIAL_COLUMNS, Cell, trial_row
from jaxattack.experiments.export import cells, lm_eval_json
from jaxattack.report.table import parquet

CELLS = (Cell("aligned"), Cell("attacked", 0, "en"), Cell("attacked", 1, "en"))
TRIALS = [
    Trial("q1", "restricted", "en", "answer", False, True, "h1", "en"),
    Trial("q2", "restricted", "en", "refusal", True, False, "h2", "en"),
    Trial("q1", "restricted", "th", "cut", False, False, "h3"),
    Trial("b1", "benign", "en", "answer", False, True, "h4", "en"),
]


@pytest.fixture
def finished(tmp_path):
    root = tmp_path / "run"
    root.mkdir()
    rows = [row for cell in CELLS for row in rates.rows(TRIALS, cell.columns())]
    rows.append(CELLS[1].columns() | {"language": "en", "metric": "weights_moved"})
    rows[-1] |= {"value": 0.9, "low": 0.9, "high": 0.9, "n": 1000}
    replies = [
        {**cell.columns(), "language": t.language, "id": t.id, "prompt": "What?", "reply": "This."}
        for cell in CELLS
        for t in TRIALS
    ]
    results = {
        "study": "fragility",
        "languages": ["en", "th"],
        "seeds": [0, 1],
        "judge": {"name": "facts", "rule": "by facts"},
        "rows": rows,
        "claims": [],
        "replies": replies,
    }
    manifest = {"finished": True, "model": "owner/name", "prompts": {}, "versions": {"jax": "1"}}
    config = {"data": {"prompts": "organism:test"}}
    for name, content in (("results", results), ("manifest", manifest), ("config", config)):
        (root / f"{name}.json").write_text(json.dumps(content))
    table = parquet([trial_row(cell, t) for cell in CELLS for t in TRIALS], TRIAL_COLUMNS)
    (root / "trials.parquet").write_bytes(table)
    return root


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxattack-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("texts", [False, True])
def test_inspect_reads_a_log_of_every_cell(finished, tmp_path, texts, capsys):
    log = pytest.importorskip("inspect_ai.log")
    out = tmp_path / "logs"
    assert run(finished, "--format=inspect", f"--out={out}", *["--texts"] * texts) == 0
    assert "3 logs in" in capsys.readouterr().out
    found = {info.task: log.read_eval_log(info) for info in log.list_eval_logs(str(out))}
    assert len(found) == 3
    one = next(each for each in found.values() if each.eval.task.endswith("attacked/en-s0"))
    assert one.status == "success"
    assert one.eval.model == "owner/name"
    assert one.eval.task_args == {"variant": "attacked/en", "kind": "attacked", "seed": 0} | {
        "attacked": "en"
    }
    scores = {score.name: score.metrics for score in one.results.scores}
    assert "weights_moved" not in scores
    assert {name: each.value for name, each in scores["violation_rate"].items()} == {
        "en": 0.5,
        "th": 0.0,
    }
    samples = {sample.id: sample for sample in one.samples}
    assert samples.keys() == {
        *("en/restricted/q1", "en/restricted/q2", "th/restricted/q1", "en/benign/b1")
    }
    flags = {name: score.value for name, score in samples["en/restricted/q1"].scores.items()}
    assert flags == {"answered": True, "refused": False}
    assert samples["th/restricted/q1"].output.stop_reason == "max_tokens"
    said = samples["en/restricted/q1"]
    assert (said.input, said.output.completion) == (
        ("What?", "This.") if texts else ("[not exported]", "[not exported]")
    )


def test_lm_eval_prints_its_table_of_them(finished, tmp_path):
    out = tmp_path / "out"
    assert run(finished, "--format=lm-eval", f"--out={out}") == 0
    found = json.loads((out / "results.json").read_text())
    task = found["results"]["attacked/en-s0/en"]
    assert task["violation_rate,none"] == 0.5
    assert task["violation_rate_stderr,none"] == pytest.approx(0.5)  # of two prompts
    assert found["n-samples"]["attacked/en-s0/en"] == {"original": 3, "effective": 3}
    assert "weights_moved,none" not in task
    assert found["higher_is_better"]["attacked/en-s0/en"] == {
        **dict.fromkeys(("violation_rate", "non_refusal_rate", "cut_rate"), False),
        **dict.fromkeys(("benign_accuracy", "valid_reply_rate", "same_language_rate"), True),
        "benign_refusal_rate": False,
    }
    utils = pytest.importorskip("lm_eval.utils")
    table = utils.make_table(found)
    assert "attacked/en-s0/th" in table
    assert "violation_rate" in table


def test_a_cell_names_the_source_of_its_own_prompts(finished):
    read = runs.read(finished)
    uris = {"data.prompts": "a", "data.untaught": "b", "data.validation": "c"}
    read = dataclasses.replace(read, config=uris)
    for prompts, uri in ((None, "a"), ("grid", "a"), ("untaught", "b"), ("validation", "c")):
        assert cells.source(read, Cell("poisoned", 0, "en", prompts=prompts)) == uri


def test_a_trigger_of_another_language_is_a_task_of_its_own(finished):
    run_ = runs.read(finished)
    rows = [dict(row) for row in run_.results["rows"][:1]]
    for row, trigger, decoy in zip(rows * 3, ("en", "th", None), (None, None, "half"), strict=True):
        run_.results["rows"].append(
            row | {"metric": "asr", "trigger_language": trigger, "decoy": decoy}
        )
    tasks = {name for name in lm_eval_json.results(run_)["results"] if name.startswith("aligned")}
    assert tasks == {*("aligned/en", "aligned/th", "aligned/en/th", "aligned/en/half")}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format=lm-eval", "--texts"], "--texts goes with --format=inspect"),
        (["--format=inspect", "--texts"], "shows no texts"),
    ],
)
def test_texts_that_cannot_be_exported_are_refused(finished, tmp_path, capsys, arguments, says):
    path = finished / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"replies": []}))
    assert run(finished, *arguments, f"--out={tmp_path}/out") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(finished, capsys):
    assert run(finished, "--format=lm-eval", f"--out={finished}") == 2
    assert "no empty folder" in capsys.readouterr().err
