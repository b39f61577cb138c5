"""Stages that are done once, and files that appear whole or not at all."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from jaxattack import leases, ours, owner, provenance, stages, workdir
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
    return stages.Stage(root, "kind", label, inputs, write).run()


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
    assert written["seconds"] >= 0
    assert written["computed_by"] == provenance.identity()
    assert written["environment"]["devices"] == 8
    assert set(written["environment"]["versions"]) >= {"jax", "jaxlib", "transformers"}
    assert written["inputs"] == {"rate": 0.1}
    assert written["files"]["out.txt"]["bytes"] == 5
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


@pytest.mark.parametrize("part", ["code", "device", "devices", "versions", "xla_flags"])
def test_changed_code_libraries_or_devices_are_another_stage(root, monkeypatch, part):
    calls = []
    run(root, "a", {}, writer("1", calls))
    changed = {**provenance.identity(), part: "other"}
    monkeypatch.setattr(provenance, "identity", lambda: changed)
    run(root, "a", {}, writer("2", calls))
    assert calls == ["1", "2"]


# --- Damage -------------------------------------------------------------------------------------


@pytest.fixture
def three(root):
    """Three stages, each resting on the one before, and a function that makes them sound."""

    def write(label):
        def fill(folder):
            (folder / "deep").mkdir()
            (folder / "deep" / "weights").write_bytes(bytes(range(256)) * 20)
            (folder / "verdicts.json").write_text(f'["{label}"]')

        return fill

    def make():
        first = stages.Stage(root, "k", "first", {}, write("first"))
        second = stages.Stage(root, "k", "second", {}, write("second"), (first,))
        third = stages.Stage(root, "k", "third", {}, write("third"), (second,))
        other = stages.Stage(root, "k", "other", {}, write("other"))
        return [stage.run() for stage in (first, second, third, other)]

    return make


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


DAMAGE = {
    "verdicts": lambda stage: (stage / "verdicts.json").write_text("[]"),
    "half": lambda stage: (stage / "verdicts.json").write_text('["s'),
    "empty record": lambda stage: (stage / "stage.json").write_text(""),
    "no record": lambda stage: (stage / "stage.json").unlink(),
    "deep record": lambda stage: (stage / "stage.json").write_text("[" * 100_000),
    "gone": lambda stage: (stage / "deep" / "weights").unlink(),
    "cut": lambda stage: os.truncate(stage / "deep" / "weights", 100),
    "more": lambda stage: (stage / "deep" / "more").write_text("x"),
    "link": lambda stage: (
        (stage / "deep" / "weights").rename(stage.parent.parent / "moved"),
        (stage / "deep" / "weights").symlink_to(stage.parent.parent / "moved"),
    ),
    "empty": lambda stage: [path.unlink() for path in stage.rglob("*") if path.is_file()],
    **{
        f"bit {bit} of {name}": lambda stage, name=name, bit=bit: flip(stage / name, bit)
        for name in ("stage.json", "deep/weights", "verdicts.json")
        for bit in (0, 7, 77, 1234, 4321, 9999)
    },
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_done_again_with_what_rests_on_it(root, three, capsys, damage):
    folders = three()
    times = [(folder / "stage.json").stat().st_mtime_ns for folder in folders]
    sound = {p: p.read_bytes() for p in root.rglob("*.json") if p.name != "stage.json"}
    DAMAGE[damage](folders[1])
    assert three() == folders
    said = capsys.readouterr().err
    assert said.startswith(f"jaxattack: {folders[1]}: ")
    assert said.count("\n") == 1
    assert said.endswith("done again, with 1 that rest on it\n")
    again = [(folder / "stage.json").stat().st_mtime_ns for folder in folders]
    assert [a == b for a, b in zip(times, again, strict=True)] == [True, False, False, True]
    assert {p: p.read_bytes() for p in sound} == sound
    assert all(not path.startswith(".") for path in contents(root))
    three()
    assert capsys.readouterr().err == ""


def test_a_stage_under_another_ones_name_is_not_taken(root, three, capsys):
    import shutil

    folders = three()
    shutil.rmtree(folders[3])
    shutil.copytree(folders[0], folders[3])
    three()
    assert "stage.json is that of another step" in capsys.readouterr().err
    assert (folders[3] / "verdicts.json").read_text() == '["other"]'


def test_of_a_linked_stage_only_the_link_goes(root, three, tmp_path):
    folders = three()
    elsewhere = tmp_path / "elsewhere"
    folders[0].rename(elsewhere)
    folders[0].symlink_to(elsewhere)
    three()
    assert folders[0].is_symlink()  # sound stages may lie elsewhere
    (elsewhere / "verdicts.json").write_text("[]")
    three()
    assert not folders[0].is_symlink()
    assert (elsewhere / "verdicts.json").read_text() == "[]"


# --- More on stages -----------------------------------------------------------------------------


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


def test_two_processes_at_the_same_stage_leave_one(root, monkeypatch):
    """Where no lease can be trusted, or one ran out under a run that was only stopped."""
    monkeypatch.setattr(leases, "held", lambda _: contextlib.nullcontext(True))

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
    stage = stages.Stage(root, "attack", "en", {}, writer("x", []))
    assert not stage.folder.exists()
    assert stage.run() == stage.folder
    assert 0 <= stage.seconds() < 60


def test_stages_come_once_and_after_what_they_need(root):
    def stage(label, *needs):
        return stages.Stage(root, "k", label, {}, writer(label, []), needs)

    data = stage("data")
    left, right = stage("left", data), stage("right", stage("data"))
    last = stage("last", right, left)
    ordered = [found.label for found in stages.in_order([last, left])]
    assert sorted(ordered) == ["data", "last", "left", "right"]
    assert ordered[0] == "data"
    assert ordered[-1] == "last"


# --- The directory ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["stages", ".", "figures"])
def test_rubbish_goes_when_who_wrote_it_is_gone(root, place):
    (root / "figures").mkdir()
    script = "from jaxattack import owner; print(owner.mark())"
    command = [sys.executable, "-c", script]
    dead = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    mine = owner.mark()
    host, pid, born = mine.strip("~").split("-")
    other_host = f"~{int(host, 16) ^ 1:08x}-{pid}-{born}~"
    reused = f"~{host}-{pid}-{int(born, 16) ^ 1:08x}~"  # our number, but another process
    for tag, days, stays in (
        (dead, 0, False),
        (mine, 9, True),
        (reused, 0, False),
        (other_host, 0, True),
        (other_host, 0.9, True),
        (other_host, 2, False),
    ):
        left = root / place / f".results.json{tag}"
        left.write_text("half")
        os.utime(left, (time.time() - days * 86400,) * 2)
        workdir.open_workdir(root)
        assert left.exists() == stays, (tag, days)
        left.unlink(missing_ok=True)


def test_what_is_written_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "BEAT", 0.01)
    os.utime(tmp_path, (0, 0))
    with owner.alive(tmp_path):
        time.sleep(0.2)
    assert tmp_path.stat().st_mtime > 0


@pytest.mark.parametrize("name", [".DS_Store", ".nfs0000", ".a-b", ".a~b", ".a~1-2-3~"])
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
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, broken):
    path = tmp_path / "results.json"
    workdir.write_json(path, {"old": True})
    if broken == "disk":
        whole = pathlib.Path.write_bytes

        def half(self, content):
            whole(self, content[: len(content) // 2])
            raise OSError("disk full")

        monkeypatch.setattr(pathlib.Path, "write_bytes", half)
    with pytest.raises((TypeError, OSError)):
        workdir.write_json(path, {"new": object() if broken == "value" else True})
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def put(path, kind, target):
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_ordinary_file_is_not_replaced(root, tmp_path, kind):
    target = tmp_path / "target"
    target.write_text("theirs")
    for name in ("results.json", "report.html"):
        put(root / name, kind, target)
        before = os.lstat(root / name)
        with pytest.raises(UserError, match=f"{name} is .*not replaced"):
            workdir.write_text(root / name, "ours")
        with pytest.raises(UserError, match=f"{name} is .*not replaced"):
            ours.claim(root, "fragility")
        assert os.lstat(root / name) == before
        (root / name).rmdir() if kind == "directory" else (root / name).unlink()
    assert target.read_text() == "theirs"


OURS = {"versions": {}, "study": "fragility"}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"results.json": {"accuracy": 0.5}}, "results.json is not of a study of jaxattack"),
        ({"results.json": [1]}, "results.json is not of a study of jaxattack"),
        ({"report.html": "theirs"}, "report.html is not of a study of jaxattack"),
        ({"manifest.json": {"name": "web app"}}, "manifest.json is not of a study of jaxattack"),
        ({"manifest.json": {**OURS, "study": "backdoor"}}, "it holds the study 'backdoor'"),
        ({"manifest.json": {"versions": {}}, "results.json": {"study": "hosted"}}, "'hosted'"),
    ],
)
def test_a_directory_with_other_results_is_refused(root, files, says):
    for name, value in files.items():
        (root / name).write_text(json.dumps(value))
    with pytest.raises(UserError, match=says):
        ours.claim(root, "fragility")


def page(*figures):
    return f"<head>{ours.listing(figures)}</head>".encode()


def test_only_figures_of_our_own_are_replaced_or_deleted(root):
    ours.publish(root, page("a.png", "b.png"), {"a.png": b"1", "b.png": b"1"})
    (root / "figures" / "theirs.png").write_bytes(b"theirs")
    ours.publish(root, page("a.png"), {"a.png": b"2"})
    there = {path.name: path.read_bytes() for path in (root / "figures").iterdir()}
    assert there == {"a.png": b"2", "theirs.png": b"theirs"}
    with pytest.raises(UserError, match=r"theirs.png is of no earlier report"):
        ours.publish(root, page("theirs.png"), {"theirs.png": b"3"})
    assert (root / "figures" / "theirs.png").read_bytes() == b"theirs"
    assert (root / "report.html").read_bytes() == page("a.png")


@pytest.mark.parametrize("writes", range(5))
def test_a_report_that_was_stopped_is_written_anew(root, monkeypatch, writes):
    """Killed before any of its writes, the next run knows its figures."""
    whole, left = ours.write_bytes, [writes]

    def stopped(path, content, private=False):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        whole(path, content, private)

    ours.publish(root, page("a.png", "old.png"), {"a.png": b"1", "old.png": b"1"})
    with monkeypatch.context() as patch:
        patch.setattr(ours, "write_bytes", stopped)
        with contextlib.suppress(KeyboardInterrupt):
            ours.publish(root, page("a.png", "b.png"), {"a.png": b"2", "b.png": b"2"})
    ours.publish(root, page("b.png"), {"b.png": b"3"})
    assert {p.name: p.read_bytes() for p in (root / "figures").iterdir()} == {"b.png": b"3"}
    assert (root / "report.html").read_bytes() == page("b.png")


def test_a_linked_folder_of_figures_is_refused(root, tmp_path):
    (tmp_path / "pictures").mkdir()
    (root / "figures").symlink_to(tmp_path / "pictures")
    with pytest.raises(UserError, match="figures is a link"):
        ours.claim(root, "fragility")


def test_a_digest_is_of_the_value():
    assert workdir.digest({"a": 1, "b": [1]}) == workdir.digest({"b": [1], "a": 1})
    assert workdir.digest({"a": 1}) != workdir.digest({"a": "1"})
    assert workdir.digest([1, 2]) != workdir.digest([2, 1])
