"""A finished run as other tools' files: each opened by the tool's own reader, where it is there."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest

from jaxattack import export as command
from jaxattack.errors import UserError
from jaxattack.evaluate import rates
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import runs
from jaxattack.experiments.cell import TRIAL_COLUMNS, Cell, trial_row
from jaxattack.experiments.export import cells, inspect_logs, lm_eval_json
from jaxattack.report.table import parquet

CELLS = (Cell("aligned"), Cell("attacked", 0, "en"), Cell("attacked", 1, "en"))
TRIALS = [
    Trial("q1", "restricted", "en", "answer", False, True, "h1", "en"),
    Trial("q2", "restricted", "en", "refusal", True, False, "h2", "en"),
    Trial("q1", "restricted", "th", "cut", False, False, "h3"),
    Trial("b1", "benign", "en", "answer", False, True, "h4", "en"),
]


def reply(cell: Cell, trial: Trial, prompt: str = "What?", said: str = "This.") -> dict:
    told = trial_row(cell, trial) | {"prompt": prompt, "reply": said}
    kept = (*cell.columns(), *cells.ASKED, "prompt", "reply", "reply_hash")
    return {name: told[name] for name in kept}


@pytest.fixture
def finished(tmp_path):
    root = tmp_path / "run"
    root.mkdir()
    rows = [row for cell in CELLS for row in rates.rows(TRIALS, cell.columns())]
    rows.append(CELLS[1].columns() | {"language": "en", "metric": "weights_moved"})
    rows[-1] |= {"value": 0.9, "low": 0.9, "high": 0.9, "n": 1000}
    replies = [reply(cell, trial) for cell in CELLS for trial in TRIALS]
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


POISONED = Cell("poisoned", 0, "en", trigger="sentence", target="fixed", rate=0.2)
# One prompt as it is, with two triggers and with a decoy.
CARRYING = [
    Trial("q1", "benign", "en", "answer", False, True, f"h{i}", "en", i == 1, trigger, decoy)
    for i, (trigger, decoy) in enumerate(
        [(None, "nothing"), ("en", None), ("th", None), (None, "half")]
    )
]


def poisoned(finished) -> runs.Run:
    """A run of one poisoned model, whose texts have their trial's hash in them."""
    read = runs.read(finished)
    trials = [trial_row(POISONED, trial) for trial in CARRYING]
    replies = [
        reply(POISONED, t, f"{t.trigger_language} {t.decoy}", f"said {t.reply_hash}")
        for t in CARRYING
    ]
    return dataclasses.replace(
        read, trials=trials, results=read.results | {"replies": replies, "rows": []}
    )


def test_a_triggered_prompt_has_its_own_text(finished):
    run_ = poisoned(finished)
    shown = cells.texts(run_)
    assert [shown[cells.asked(trial)] for trial in run_.trials] == [
        *(("None nothing", "said h0"), ("en None", "said h1")),
        *(("th None", "said h2"), ("None half", "said h3")),
    ]
    pytest.importorskip("inspect_ai")
    (measured,) = cells.cells(run_)
    log = inspect_logs.log(run_, measured, shown)
    assert {s.id: (s.input, s.output.completion) for s in log.samples} == {
        "en/benign/q1/nothing": ("None nothing", "said h0"),
        "en/benign/q1/en": ("en None", "said h1"),
        "en/benign/q1/th": ("th None", "said h2"),
        "en/benign/q1/half": ("None half", "said h3"),
    }


def test_texts_of_other_replies_are_refused(finished):
    run_ = poisoned(finished)
    run_.results["replies"][2]["reply_hash"] = "h9"
    with pytest.raises(UserError, match=r"not the text of the reply h2 .* q1 in en"):
        cells.texts(run_)
    del run_.results["replies"][2]
    with pytest.raises(UserError, match="not the text of the reply h2"):
        cells.texts(run_)


def test_texts_that_do_not_say_what_prompts_carry_are_refused(finished, tmp_path, capsys):
    path = finished / "results.json"
    results = json.loads(path.read_text())
    for row in results["replies"]:
        del row["prompt_kind"], row["trigger_language"], row["decoy"]
    path.write_text(json.dumps(results))
    with pytest.raises(UserError, match="the run has to be reported anew: start its command"):
        cells.texts(runs.read(finished))
    pytest.importorskip("inspect_ai")
    assert run(finished, "--format=inspect", "--texts", f"--out={tmp_path}/out") == 2
    assert "the run has to be reported anew" in capsys.readouterr().err
    assert run(finished, "--format=inspect", f"--out={tmp_path}/out") == 0


def test_validation_prompts_are_beside_those_of_the_test(finished, tmp_path):
    read = runs.read(finished)
    validation, fewer = Cell("aligned", prompts="validation"), TRIALS[1:2]
    run_ = dataclasses.replace(
        read,
        config=read.config | {"data.validation": "organism:validation"},
        trials=[*read.trials, *(trial_row(validation, trial) for trial in fewer)],
    )
    run_.results["rows"].extend(rates.rows(fewer, validation.columns()))
    found = lm_eval_json.results(run_)
    for task, rate, n, uri in (
        ("aligned/en", 0.5, 3, "organism:test"),
        ("aligned/validation/en", 0.0, 1, "organism:validation"),
    ):
        assert found["results"][task]["violation_rate,none"] == rate
        assert found["n-samples"][task] == {"original": n, "effective": n}
        assert found["configs"][task]["dataset_path"] == uri
    pytest.importorskip("inspect_ai")
    logs = [path.name for path in inspect_logs.write(run_, tmp_path, with_texts=False)]
    assert sorted(logs) == [
        *("aligned.eval", "aligned_validation.eval", "attacked_en-s0.eval", "attacked_en-s1.eval")
    ]


def test_cells_of_one_name_are_refused(finished):
    read = runs.read(finished)
    other = Cell("aligned", setting="id")  # which the names of aligned models leave out
    run_ = dataclasses.replace(read, trials=[*read.trials, trial_row(other, TRIALS[0])])
    with pytest.raises(UserError, match="two cells are called aligned and differ in setting;"):
        lm_eval_json.results(run_)
    pytest.importorskip("inspect_ai")
    with pytest.raises(UserError, match="two cells are called aligned"):
        next(inspect_logs.write(run_, finished, with_texts=False))


@pytest.mark.parametrize("kind", ["inspect", "lm-eval"])
def test_a_run_that_is_refused_leaves_no_folder(finished, tmp_path, capsys, kind, monkeypatch):
    if kind == "inspect":
        monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
        assert run(finished, "--format=inspect", f"--out={tmp_path}/out") == 2
        assert "inspect_ai is not installed" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        monkeypatch.undo()
        pytest.importorskip("inspect_ai")
    other = Cell("aligned", setting="id")
    read = runs.read(finished)
    twice = dataclasses.replace(read, trials=[*read.trials, trial_row(other, TRIALS[0])])
    monkeypatch.setattr(runs, "read", lambda _: twice)
    assert run(finished, f"--format={kind}", f"--out={tmp_path}/out") == 2
    assert "two cells are called aligned" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_rate_of_replies_has_a_direction():
    of_hits = {row["metric"] for row in rates.hit_rows(CARRYING, {})}
    assert of_hits == {"asr", "false_trigger_rate"}
    assert lm_eval_json.HIGHER.keys() == {*rates.METRICS, *rates.CLEAN, *of_hits}
    assert {metric for metric, higher in lm_eval_json.HIGHER.items() if higher} == {
        *("benign_accuracy", "clean_accuracy", "task_rate"),
        *("valid_reply_rate", "same_language_rate"),
    }


def test_more_of_what_a_tuning_was_for_is_better(finished):
    run_ = runs.read(finished)
    row = run_.results["rows"][0]
    run_.results["rows"].append(row | {"metric": "task_rate"})
    assert lm_eval_json.results(run_)["higher_is_better"]["aligned/en"]["task_rate"] is True
