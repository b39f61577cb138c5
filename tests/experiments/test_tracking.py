"""What trackers hear of a study: its curves and findings, no text, and never at its expense."""

import importlib.machinery
import json
import sys
import types

import jax
import numpy as np
import pytest

from jaxattack import meter, run, signals, trackers
from jaxattack.experiments import logbook, tracking
from jaxattack.meter import Stride
from jaxattack.train import loop

SMALL = {"attack__languages": "('en',)", "localize__fractions": "()", "attack__schedule": "cosine"}
RESULTS = ("results.json", "results.parquet", "trials.parquet")


class Heard:
    """A tracker that remembers what it is told."""

    def __init__(self):
        self.points, self.found, self.ends, self.config = [], [], [], None

    def tracker(self, root, config):
        self.config = config
        return trackers.Tracker(
            "heard",
            lambda *point: self.points.append(point),
            self.found.append,
            self.ends.append,
        )


@pytest.fixture
def heard(monkeypatch):
    one = Heard()
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", one.tracker)
    monkeypatch.setattr(trackers, "check", lambda *_: None)
    return one


def test_a_study_is_told_and_its_results_are_the_same_bytes(tmp_path, study, heard):
    command = [*study(tmp_path / "told", **SMALL), "--track=tensorboard"]
    assert run.run(command) == 0
    assert run.run(study(tmp_path / "silent", **SMALL)) == 0
    for name in RESULTS:
        told, silent = (tmp_path / place / name for place in ("told", "silent"))
        assert told.read_bytes() == silent.read_bytes(), name
    results = json.loads((tmp_path / "told" / "results.json").read_text())
    [losses] = [row["loss"] for row in results["attack_loss"] if row["kind"] == "attacked"]
    assert {group for group, *_ in heard.points} == {"attack-en-s0", "frozen-en-s0"}
    attack = [(at, values) for group, at, values in heard.points if group == "attack-en-s0"]
    curve = [(step, values["loss"]) for step, values in attack]
    assert [step for step, _ in curve] == [1, 2]
    assert [loss for _, loss in curve] == pytest.approx(losses)
    assert "tokens_per_second" in attack[1][1]
    assert attack[0][1]["host_bytes"] > 1e6
    assert attack[0][1]["learning_rate"] > attack[1][1]["learning_rate"] > 0
    [found] = heard.found
    rates = {
        f"rates/{row['metric']}/{trackers.slug(row['variant'])}/{row['language']}": row["value"]
        for row in results["rows"]
        if row["metric"] == "violation_rate" and "method" not in row
    }
    assert {name: found[name] for name in rates} == rates
    assert heard.ends == [True]
    heard.points.clear()
    assert run.run(command) == 0
    assert heard.points == []  # nothing was trained
    assert heard.found == [found, found]


def test_no_text_of_the_data_is_told(tmp_path, study, heard, own_data):
    assert run.run([*study(tmp_path / "told", **SMALL), "--track=tensorboard"]) == 0
    texts = {
        json.loads(line)[column]
        for path in own_data.values()
        for line in path.read_text().splitlines()
        for column in ("prompt", "response")
        if column in json.loads(line)
    }
    names = [
        heard.config,
        heard.found,
        [(group, list(values)) for group, _, values in heard.points],
    ]
    said = json.dumps(names, ensure_ascii=False)
    assert not [text for text in texts if text in said]
    values = [value for *_, values in heard.points for value in values.values()]
    assert all(isinstance(value, float | int) for found in heard.found for value in found.values())
    assert all(isinstance(value, float | int) for value in values)


@pytest.mark.parametrize("fails", ["point", "summary", "close"])
def test_a_tracker_that_fails_costs_a_line(tmp_path, study, monkeypatch, capsys, fails):
    calls = []

    def fail(*_):
        calls.append(0)
        raise ConnectionError("the network is down")

    def tracker(root, config):
        acts = {name: lambda *_: None for name in ("point", "summary", "close")}
        return trackers.Tracker(name="tensorboard", **{**acts, fails: fail})

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", tracker)
    monkeypatch.setattr(trackers, "check", lambda *_: None)
    options = {**SMALL, "sections": "('transfer',)"}
    assert run.run([*study(tmp_path / "run", **options), "--track=tensorboard"]) == 0
    said = capsys.readouterr().err
    assert said.count("--track=tensorboard: the network is down; it is told no more") == 1
    assert calls == [0]


def test_a_study_that_fails_ends_badly_and_trackers_are_closed(tmp_path, heard):
    with pytest.raises(KeyboardInterrupt), tracking.opened(["tensorboard"], tmp_path, {}):
        raise KeyboardInterrupt
    assert heard.ends == [False]
    tracking.finish({"claims": [], "rows": []})
    assert heard.found == []


def test_one_that_cannot_begin_closes_the_others(tmp_path, heard, monkeypatch):
    def refuse(*_):
        raise trackers.UserError("--track=wandb: no")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", refuse)
    with (
        pytest.raises(trackers.UserError, match="--track=wandb: no"),
        tracking.opened(["tensorboard", "wandb"], tmp_path, {}),
    ):
        pytest.fail("it began")
    assert heard.ends == [False]


def test_processes_but_the_first_tell_nothing(tmp_path, heard, monkeypatch):
    monkeypatch.setattr(tracking.distributed, "is_first", lambda: False)
    with tracking.opened(["tensorboard"], tmp_path, {}):
        assert meter._watcher.get() is None
    assert heard.config is None


def stride(label, step, begins=False, **about):
    known = {"loss": 2.0, "rate": None, "seconds": 0.5, "tokens": 100, "weights": 10, "devices": 2}
    return Stride(label, step, begins, **{**known, **about})


def test_a_second_training_of_a_name_has_another(heard, tmp_path):
    with tracking.opened(["tensorboard"], tmp_path, {}):
        watch = meter._watcher.get()
        for step, begins in ((1, True), (2, False), (1, True)):
            watch(stride("attack en", step, begins))
    assert [point[:2] for point in heard.points] == [
        ("attack-en", 1),
        ("attack-en", 2),
        ("attack-en-2", 1),
    ]


def test_the_last_step_before_the_end_that_was_asked_for_is_told(heard, tmp_path):
    """What goes on from a saving point begins behind it."""
    losses, batch = [], {"tokens": np.zeros((1, 2), np.int32)}

    def train():
        with (
            tracking.opened(["tensorboard"], tmp_path, {}),
            meter.training("attack", losses, [batch] * 4, 10, 1) as measure,
        ):
            for step in range(3):
                losses.append(jax.numpy.float32(step))
                measure()
            raise signals.Terminated

    with pytest.raises(signals.Terminated):
        train()
    assert [(at, values["loss"]) for _, at, values in heard.points] == [(1, 0), (2, 1), (3, 2)]
    assert heard.ends == [False]


def test_a_dry_run_says_what_would_be_sent(tmp_path, study, heard, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "sends", lambda names: [f"sent       {' and '.join(names)}"])
    command = study(tmp_path / "run", **SMALL)
    assert run.run([*command, "--track=tensorboard", "--dry_run", "--save_minutes=0"]) == 0
    said = capsys.readouterr()
    assert "sent       tensorboard" in said.err
    assert "saved " not in said.out
    assert run.run([*command, "--dry_run", "--save_minutes=2.5"]) == 0
    assert "takes more than 2.5 minutes" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_numbers_of_a_step(monkeypatch):
    device = types.SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3", memory_stats=lambda: None)
    monkeypatch.setattr(logbook.jax, "devices", lambda: [device])
    found = tracking.numbers(stride("a", 2, rate=1e-4, weights=7_000_000_000, devices=2))
    assert found.pop("host_bytes") > 1e6
    mfu = 6 * 7e9 * (100 / 0.5) / (2 * 989e12)  # by hand 0.0042
    assert found == {
        "loss": 2.0,
        "learning_rate": 1e-4,
        "tokens_per_second": 200.0,
        "mfu": round(mfu, 4),
    }
    assert set(tracking.numbers(stride("a", 1, seconds=None))) == {"loss", "host_bytes"}


def test_findings_are_numbers_by_name():
    figures = [
        {"what": "violations added, all languages", "value": 0.25},
        {"what": "share of nothing", "value": None},
    ]
    row = {"metric": "violation_rate", "variant": "attacked/en", "kind": "attacked"}
    rows = [
        {**row, "language": "th", "value": value, "seed": seed}
        for seed, value in enumerate((0.5, 1.0, None))
    ]
    others = [
        {**row, "language": "th", "value": 0.1, "metric": "cut_rate"},
        {**row, "language": "th", "value": 0.1, "kind": "stitched", "method": "sil"},
    ]
    swept = {**row, "kind": "worst", "method": "lox", "variant": "worst/en/lox", "language": "en"}
    claims = [
        {"id": "A1", "verdict": "does not hold", "evidence": figures},
        {"id": "A5", "verdict": "not run", "evidence": []},
    ]
    results = {"claims": claims, "rows": [*rows, *others, {**swept, "value": 0.75}]}
    assert tracking.found(results) == {
        "claims/A1/verdict": 0.0,
        "claims/A1/violations-added-all-languages": 0.25,
        "rates/violation_rate/attacked-en/th": 0.75,
        "rates/violation_rate/worst-en-lox/en": 0.75,
    }


def test_settings_are_shown_without_keys_logins_and_texts():
    config = {
        "attack": {"epochs": 5, "languages": ("en", "th"), "learning_rate": 1e-4},
        "api_key": "abc",
        "hub": {"token": "xyz", "tokenizer": "owner/name", "tokens": 7},
        "moderators": ["rubric=https://me:pass@host/v1?sig=s3cret&x=1#model", "hf_abcdefghijkl"],
        "system": "Answer in one word.",
        "word": "สี",
        "revision": None,
    }
    assert tracking.safe(config) == {
        "attack": {"epochs": 5, "languages": ["en", "th"], "learning_rate": 1e-4},
        "api_key": "(not shown)",
        "hub": {"token": "(not shown)", "tokenizer": "owner/name", "tokens": 7},
        "moderators": [
            "rubric=https://(not shown)host/v1?(not shown)&(not shown)#model",
            "(not shown)",
        ],
        "system": "(a text of 19 letters)",
        "word": "(a text of 2 letters)",
        "revision": None,
    }


def test_weights_and_biases_is_begun_logged_to_and_finished(tmp_path, study, monkeypatch, capsys):
    """A module in its place, which keeps what it is called with."""
    calls = []
    begun = types.SimpleNamespace(
        define_metric=lambda *a, **k: calls.append(("define", a)),
        log=lambda row: calls.append(("log", row)),
        summary=types.SimpleNamespace(update=lambda found: calls.append(("summary", found))),
        finish=lambda exit_code: calls.append(("finish", exit_code)),
    )
    fake = types.ModuleType("wandb")
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None, origin="here")
    fake.Settings = dict
    fake.init = lambda **told: calls.append(("init", told)) or begun
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_GROUP", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    options = {**SMALL, "sections": "('transfer',)"}
    assert run.run([*study(tmp_path / "run", **options), "--track=wandb"]) == 0
    assert "to Weights & Biases" in capsys.readouterr().err
    kinds = [kind for kind, _ in calls]
    assert kinds == ["init", "define", "define", "log", "log", "summary", "finish"]
    told = calls[0][1]
    assert (told["project"], told["group"], told["dir"]) == (
        "jaxattack",
        "run",
        str(tmp_path / "run"),
    )
    assert told["config"]["attack"]["schedule"] == "cosine"
    assert told["settings"]["console"] == "off"
    rows = [row for kind, row in calls if kind == "log"]
    assert [row["attack-en-s0/step"] for row in rows] == [1, 2]
    assert calls[-1] == ("finish", 0)


def test_what_is_told_of_a_training_that_goes_on_begins_there(tiny, heard, tmp_path, make_batch):
    """The learning rate is that of the step in the whole training."""
    settings = loop.Settings(1e-3, schedule="cosine")
    with tracking.opened(["tensorboard"], tmp_path, {}):
        with meter.training("a", [1.0, 2.0], [{}] * 4, 1, 1, lambda: [4.0, 3.0, 2.0, 1.0]) as step:
            pass
        assert heard.points == []
        loop.finetune(tiny.model, tiny.params, [make_batch()] * 3, settings, label="b")
        history = [1.0, 2.0]
        with meter.training("a", history, [{}] * 4, 1, 1, lambda: [4.0, 3.0, 2.0, 1.0]) as step:
            for loss in (3.0, 5.0):
                history.append(loss)
                step()
    found = [(group, at, values["learning_rate"]) for group, at, values in heard.points]
    assert [rate for group, _, rate in found if group == "b"] == pytest.approx(
        [1e-3, 0.75e-3, 0.25e-3]  # half of 1 + cos of 0, 60 and 120 degrees
    )
    assert [point for point in found if point[0] == "a"] == [("a", 3, 2.0), ("a", 4, 1.0)]
    assert [v["loss"] for g, _, v in heard.points if g == "a"] == [3.0, 5.0]
