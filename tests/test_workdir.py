"""Stages that are done once, and files that appear whole or not at all."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxattack import workdir
from jaxattack.errors import UserError


@pytest.fixture
def root(tmp_path):
    return workdir.open_workdir(tmp_path / "run")


def writer(text, calls):
    def write(folder):
        calls.append(text)
        (folder / "out.txt").write_text(text)

    return write


def run(root, label, inputs, write):
    return workdir.Stage(root, "kind", label, inputs, write).run()


def contents(root):
    return sorted(path.name for path in (root / "stages").iterdir())


# --- Stages -------------------------------------------------------------------------------------


def test_a_stage_is_done_once(root):
    calls = []
    first = run(root, "attack/en", {"rate": 0.1}, writer("first", calls))
    second = run(root, "attack/en", {"rate": 0.1}, writer("second", calls))
    assert first == second
    assert calls == ["first"]
    assert (first / "out.txt").read_text() == "first"
    written = json.loads((first / "stage.json").read_text())
    assert written.pop("seconds") >= 0
    assert written == {
        "kind": "kind", "label": "attack/en", "inputs": {"rate": 0.1}, "code": workdir.code_hash()
    }  # fmt: skip
    assert contents(root) == [first.name]
    assert first.name.startswith("kind-attack-en-")


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("attack/de", {"rate": 0.1, "data": ["a", "b"]}),
        ("attack/en", {"rate": 0.2, "data": ["a", "b"]}),
        ("attack/en", {"rate": 0.1, "data": ["b", "a"]}),
        ("attack/en", {"rate": 0.1, "data": ["a", "b"], "seed": 0}),
    ],
)
def test_other_inputs_are_another_stage(root, name, inputs):
    calls = []
    first = run(root, "attack/en", {"rate": 0.1, "data": ["a", "b"]}, writer("1", calls))
    second = run(root, name, inputs, writer("2", calls))
    assert first != second
    assert calls == ["1", "2"]


def test_changed_code_is_another_stage(root, monkeypatch):
    calls = []
    run(root, "a", {}, writer("1", calls))
    monkeypatch.setattr(workdir, "code_hash", lambda: "other")
    run(root, "a", {}, writer("2", calls))
    assert calls == ["1", "2"]


def test_the_order_of_inputs_does_not_matter(root):
    calls = []
    run(root, "a", {"x": 1, "y": 2}, writer("1", calls))
    run(root, "a", {"y": 2, "x": 1}, writer("2", calls))
    assert calls == ["1"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_stage_that_fails_leaves_nothing_and_is_done_again(root, error):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise error

    with pytest.raises(error):
        run(root, "a", {}, fail)
    assert contents(root) == []
    folder = run(root, "a", {}, writer("whole", []))
    assert [path.name for path in sorted(folder.iterdir())] == ["out.txt", "stage.json"]


def test_a_stage_is_not_there_before_it_is_whole(root):
    seen = []

    def write(folder):
        seen.extend(path for path in contents(root) if not path.startswith("."))
        (folder / "out.txt").write_text("x")

    run(root, "a", {}, write)
    assert seen == []
    assert len(contents(root)) == 1


def test_two_processes_at_the_same_stage_leave_one(root):
    def write(folder):
        (folder / "out.txt").write_text("mine")
        run(root, "a", {}, writer("theirs", []))  # the other is done first

    folder = run(root, "a", {}, write)
    assert (folder / "out.txt").read_text() == "theirs"
    assert contents(root) == [folder.name]


def test_others_may_read_a_stage(root):
    folder = run(root, "a", {}, writer("x", []))
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_stage_has_its_name_before_it_is_computed(root):
    stage = workdir.Stage(root, "attack", "en", {}, writer("x", []))
    assert not stage.folder.exists()
    assert stage.run() == stage.folder
    assert 0 <= stage.seconds() < 60


def test_stages_come_once_and_after_what_they_need(root):
    def stage(label, *needs):
        return workdir.Stage(root, "k", label, {}, writer(label, []), needs)

    data = stage("data")
    left, right = stage("left", data), stage("right", stage("data"))
    last = stage("last", right, left)
    ordered = [found.label for found in workdir.in_order([last, left])]
    assert sorted(ordered) == ["data", "last", "left", "right"]
    assert ordered[0] == "data"
    assert ordered[-1] == "last"


# --- The directory ------------------------------------------------------------------------------


def test_rubbish_of_dead_processes_goes_and_that_of_live_ones_stays(root):
    stages = root / "stages"
    finished = run(root, "a", {}, writer("x", []))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = stages / f".b-0123456789ab-{gone.pid}-abcdefgh"
    alive = stages / f".c-0123456789ab-{os.getpid()}-abcdefgh"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "half").write_text("half")
    workdir.open_workdir(root)
    assert contents(root) == sorted([alive.name, finished.name])


@pytest.mark.parametrize("name", [".DS_Store", ".nfs0000", ".a-b"])
def test_hidden_files_of_other_programs_are_no_matter(root, name):
    (root / "stages" / name).write_text("")
    assert workdir.open_workdir(root) == root


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir=.*file/run"):
        workdir.open_workdir(tmp_path / "file" / "run")


# --- Files --------------------------------------------------------------------------------------


def test_equal_values_give_equal_bytes(tmp_path):
    for name, value in (("a", {"x": 1, "y": "泰"}), ("b", {"y": "泰", "x": 1})):
        workdir.write_json(tmp_path / name, value)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {"x": 1, "y": "泰"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("broken", ["value", "disk"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "results.json"
    workdir.write_json(path, {"old": True})
    if broken == "disk":
        whole = pathlib.Path.write_text

        def half(self, text, **kwargs):
            whole(self, text[: len(text) // 2], **kwargs)
            raise OSError("disk full")

        monkeypatch.setattr(pathlib.Path, "write_text", half)
    with pytest.raises((TypeError, OSError)):
        workdir.write_json(path, {"new": object() if broken == "value" else True})
    assert json.loads(path.read_text()) == {"old": True}


def test_a_digest_is_of_the_value():
    assert workdir.digest({"a": 1, "b": [1]}) == workdir.digest({"b": [1], "a": 1})
    assert workdir.digest({"a": 1}) != workdir.digest({"a": "1"})
    assert workdir.digest([1, 2]) != workdir.digest([2, 1])
