"""Trackers: what is written can be read by the tools it is for, and what is not there is said."""

import pathlib
import struct
import sys
import types

import pytest

from jaxattack import trackers
from jaxattack.errors import UserError


def curves_of(folder: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name, as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }


@pytest.fixture
def board(tmp_path):
    pytest.importorskip("tensorboard")
    return lambda: trackers.tensorboard(tmp_path, {})


def test_tensorboard_reads_the_curves(board, tmp_path):
    tracker = board()
    for step in (1, 2, 3):
        tracker.point("attack-en", step, {"loss": 1 / step, "mfu": 0.25})
    tracker.point("attack-th", 1, {"loss": 7.0})
    tracker.summary({"claims/A1/verdict": 0.5})
    tracker.close(True)
    found = curves_of(tmp_path / "tensorboard" / "attack-en")
    assert found["loss"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert found["mfu"] == [(1, 0.25), (2, 0.25), (3, 0.25)]
    assert curves_of(tmp_path / "tensorboard" / "attack-th") == {"loss": [(1, 7.0)]}
    assert curves_of(tmp_path / "tensorboard" / "results") == {"claims/A1/verdict": [(0, 0.5)]}


def test_what_goes_on_or_is_done_again_takes_the_place_of_what_was(board, tmp_path, monkeypatch):
    for number, (begin, end) in enumerate(((1, 5), (3, 4), (1, 2))):
        # Files are read in the order of their names.
        monkeypatch.setattr(trackers.time, "time_ns", lambda number=number: number * 10**9)
        tracker = board()
        for step in range(begin, end):
            tracker.point("attack", step, {"loss": 10.0 * number + step})
        tracker.close(True)
        wanted = [
            [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)],
            [(1, 1.0), (2, 2.0), (3, 13.0)],
            [(1, 21.0)],
        ]
        assert curves_of(tmp_path / "tensorboard" / "attack")["loss"] == wanted[number]


def test_of_a_run_that_is_killed_there_is_what_was_told(board, tmp_path):
    tracker = board()
    tracker.point("attack", 1, {"loss": 1.0})
    assert curves_of(tmp_path / "tensorboard" / "attack")["loss"] == [(1, 1.0)]
    [file] = (tmp_path / "tensorboard" / "attack").iterdir()
    with file.open("ab") as torn:
        torn.write(b"\x20\0\0\0")
    assert curves_of(tmp_path / "tensorboard" / "attack")["loss"] == [(1, 1.0)]
    tracker.close(False)


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_link_is_no_folder_of_ours(tmp_path, name):
    pytest.importorskip(name)
    (tmp_path / "theirs").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match=f"{name} is no folder of {name}'s files"):
        trackers.TRACKERS[name](tmp_path, {})


def test_a_link_of_a_training_is_not_followed(board, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "attack").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="attack is no folder of tensorboard's files"):
        board().point("attack", 1, {"loss": 1.0})
    assert not list((tmp_path / "theirs").iterdir())


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_what_is_in_the_way_is_named_before_anything_is_computed(tmp_path, name):
    (tmp_path / name).write_text("theirs")
    with pytest.raises(UserError, match=f"{name} is no folder of {name}'s files"):
        trackers.check([name], tmp_path)


def test_a_mode_of_weights_and_biases_that_there_is_not_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: trackers.re.__spec__)
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(UserError, match="WANDB_MODE=offlin: there are: online, offline"):
        trackers.check(["wandb"], tmp_path)
    trackers.check(["tensorboard"], tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    trackers.check(["wandb"], tmp_path)


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, name):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf'--track={name}: .* pip install "jaxattack\[{name}\]"'):
        trackers.check([name], tmp_path)
    monkeypatch.undo()
    (tmp_path / "nothing_of_theirs").mkdir()  # as a folder wandb/ where a command is started
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="its package is missing"):
        trackers.check(["nothing_of_theirs"], tmp_path / "run")


# --- Weights & Biases ---------------------------------------------------------------------------


def records_of(path: pathlib.Path) -> list:
    """What a run left offline: a log of LevelDB's format, of protocol buffers."""
    from wandb.proto import wandb_internal_pb2

    content, found, parts, at = path.read_bytes(), [], b"", 7
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last part
            found.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return found


def test_a_run_that_is_offline_can_be_read_back(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(sys, "argv", ["a-command-line"])
    tracker = trackers.wandb(tmp_path, {"attack": {"epochs": 5}})
    tracker.point("attack-en", 1, {"loss": 0.5})
    tracker.point("attack-en", 2, {"loss": 0.25})
    print("a line on the terminal")
    tracker.summary({"claims/A1/verdict": 1.0})
    tracker.close(True)
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = records_of(file)
    rows = [
        {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    kept = [{k: float(v) for k, v in row.items() if not k.startswith("_")} for row in rows]
    assert kept == [
        {"attack-en/step": 1.0, "attack-en/loss": 0.5},
        {"attack-en/step": 2.0, "attack-en/loss": 0.25},
    ]
    [run] = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.run_group) == ("jaxattack", tmp_path.name)
    config = {item.key: item.value_json for item in run.config.update}
    assert config["attack"] == '{"epochs":5}'
    said = b"".join(path.read_bytes() for path in tmp_path.rglob("*.wandb"))
    assert b"claims/A1/verdict" in said
    for words in (b"a line on the terminal", b"a-command-line", bytes(pathlib.Path.cwd())):
        assert words not in said
    assert (run.host, run.git.remote_url) == ("", "")


def test_a_run_that_cannot_begin_is_a_line(tmp_path, monkeypatch):
    def init(**_):
        raise RuntimeError("no API key")

    fake = types.SimpleNamespace(init=init, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(UserError, match=r"begun \(no API key\); log in .* WANDB_MODE=offline"):
        trackers.wandb(tmp_path, {})


def test_what_is_sent_is_said_where_something_is(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert trackers.sends(["tensorboard"]) == []
    [line] = trackers.sends(["tensorboard", "wandb"])
    assert line.startswith("sent       settings, names of stages, losses")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert trackers.sends(["wandb"]) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("attack en-s0", "attack-en-s0"),
        ("frozen en+th/sil@0.2", "frozen-en+th-sil@0.2"),
        ("../../outside", "outside"),
        ("..", "-"),
        ("naïve", "naïve"),
    ],
)
def test_names_are_one_part_of_a_path(text, name):
    assert trackers.slug(text) == name
