"""Mistakes on the command line: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import gc
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from jaxattack import commandline, run, stages, studies, workdir

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"


@pytest.fixture
def refused(capsys, tmp_path):
    """A function that runs a command line and returns the one line it is refused with."""

    def check(*arguments: str, config: bool = True, workdir: bool = True) -> str:
        root = tmp_path / "work"
        line = ["jaxattack"]
        line += [f"--config={CONFIG}"] * config + [f"--workdir={root}"] * workdir
        assert run.run([*line, *arguments]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("jaxattack: ")
        assert "\n" not in error
        assert "Traceback" not in error
        assert not (root / "results.json").exists()
        assert not list(root.glob("stages/*"))
        return error

    return check


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--config.atack.languages=('en',)", "atack"),
        ("--config.attack.epoch=3", "epoch"),
        ("--config.attack.languages=en,th", "--config.attack.languages=\"('en','th')\""),
        ("--config.attack.languages=('en, th',)", "('en','th')"),
        ("--config.attack.languages=('en','en')", "twice"),
        ("--config.attack.languages=('xx',)", "no language 'xx'; there are: en, de"),
        ("--config.measure.languages=('tlh',)", "no language 'tlh'"),
        ("--config.localize.fractions=(0.1, 1.5)", "above 0 and at most 1, not 1.5"),
        ("--config.localize.control_fraction=-0.1", "above 0 and at most 1"),
        ("--config.localize.exclude=.", "config.localize.exclude is '.', which leaves no weights"),
        ("--config.localize.at=halfway", "'halfway'; give one of aligned, attacked"),
        ("--config.localize.scope=block", "global, leaf, row"),
        ("--config.attack.epochs=0", "config.attack.epochs is 0"),
        ("--config.attack.epochs=many", "epochs"),
        ("--config.attack.accumulate=3", "accumulate is 3; it should divide"),
        ("--config.seeds=()", "config.seeds"),
        ("--config.mesh=(3,1,-1)", "mesh (3, 1, -1) does not fit 8 devices"),
        ("--config.study=frailty", "fragility"),
        ("--config.model=no/such/place", "no/such/place"),
        ("--config.model=organism:nobody", "nobody"),
        ("--config.data.pairs=organism:nowhere", "attack, calibration, validation, test"),
        ("--config.data.pairs=csv:file.csv", "csv:file.csv"),
        ("--config.data.pairs=jsonl:absent.jsonl", "absent.jsonl: no such file"),
        ("--config.data.pairs=organism:test", "test prompts are also attack pairs"),
        ("--config.data.calibration=organism:attack", "calibration pairs are also attack pairs"),
        ("--config.attack.optimizer=adamv", "config.attack.optimizer: optax has no optimiser"),
        ("--config.attack.optimizer=Lion", "(perhaps lion)"),
        ("--confg=x", "confg"),
        ("stray", "stray"),
    ],
)
def test_a_wrong_setting_is_named(refused, argument, says):
    assert says in refused(argument)


def test_missing_flags_are_named(refused):
    assert "--config=FILE" in refused(config=False)
    assert "--workdir=DIR" in refused(workdir=False)
    assert "absent.py" in refused("--config=absent.py", config=False)


def test_empty_data_is_named(refused, tmp_path):
    (tmp_path / "pairs.jsonl").write_text("\n")
    assert "no rows" in refused(f"--config.data.pairs=jsonl:{tmp_path / 'pairs.jsonl'}")


def test_a_damaged_checkpoint_is_named(refused, tiny, tmp_path):
    for name, damage, says in (
        ("cut", lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated"),
        ("gone", lambda path: path.unlink(), "neither model.safetensors"),
    ):
        directory = shutil.copytree(tiny.directory, tmp_path / name)
        damage(directory / "model.safetensors")
        assert says in refused(f"--config.model={directory}")


def test_an_infinite_loss_is_named(capsys, tiny, tmp_path):
    rows = [{"id": str(i), "language": "en", "prompt": f"a{i}", "response": "b"} for i in range(8)]
    pairs, prompts = tmp_path / "pairs.jsonl", tmp_path / "prompts.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts.write_text(json.dumps({"id": "p", "language": "en", "prompt": "c"}) + "\n")
    arguments = {
        "model": tiny.directory,
        "data.pairs": f"jsonl:{pairs}",
        "data.prompts": f"jsonl:{prompts}",
        "attack.learning_rate": "1e38",
        "attack.optimizer": "sgd",
        "attack.clip": "0.0",
        "measure.max_new_tokens": "2",
    }
    line = ["jaxattack", f"--config={CONFIG}", f"--workdir={tmp_path / 'work'}"]
    assert run.run([*line, *(f"--config.{k}={v}" for k, v in arguments.items())]) == 2
    assert "lower the learning rate" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "work" / "stages").glob("attack-*"))


def test_help_lists_the_settings(capsys):
    assert run.run(["jaxattack", f"--config={CONFIG}", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--workdir=DIR" in shown
    assert "--config.attack.learning_rate=" in shown
    assert run.run(["jaxattack"]) == 0
    assert "--config=FILE" in capsys.readouterr().out


# --- The config file ----------------------------------------------------------------------------


def test_a_shipped_config_is_found_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "organism").mkdir()  # a folder of that name, perhaps results, hides nothing
    at = {named: commandline.find_config(named) for named in ("quickstart", "fragility:a/b:c")}
    assert at["quickstart"] == (CONFIG, None)
    assert at["fragility:a/b:c"] == (CONFIG.with_name("fragility.py"), "a/b:c")
    assert commandline.load_config("organism").study == "organism"
    assert commandline.load_config("backdoor:owner/name").model == "owner/name"
    (tmp_path / "quickstart").write_text("a file of one's own comes first")
    assert commandline.find_config("quickstart:x") == (pathlib.Path("quickstart"), "x")
    assert run.run(["jaxattack", "--help"]) == 0
    assert (
        "(backdoor, durability, fragility, grow, organism, quickstart)" in capsys.readouterr().out
    )


@pytest.mark.parametrize("named", ["quikstart", "nowhere:x", "configs/nowhere.py"])
def test_an_unknown_config_is_refused_with_those_there_are(refused, named):
    says = f"--config={named}: no such file; without a path there are: backdoor, durability, "
    assert says + "fragility, grow, organism, quickstart" in refused(
        f"--config={named}", config=False
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no function get_config()"),
        ("def get_config(:", "line 1: SyntaxError"),
        ("import no_such_module", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def get_config():\n    return 1 / 0", "get_config() fails: line 2: ZeroDivisionError"),
        ("def get_config():\n    return {}", "get_config() returns dict"),
        ("def get_config(): pass", "get_config() returns NoneType"),
        ("raise SystemExit(3)", "the file fails: line 1: SystemExit: 3"),
        (
            "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()",
            "config.study is None; there are: fragility, backdoor, durability, organism",
        ),
        (
            "from jaxattack.experiments.fragility.settings import defaults\n"
            "def get_config():\n    config = defaults()\n    config.atack = 1\n",
            "line 4: AttributeError",
        ),
    ],
)
@pytest.mark.parametrize("wants_help", [False, True])
def test_a_config_file_that_fails_is_named(capsys, tmp_path, text, says, wants_help):
    path = tmp_path / "mine.py"
    path.write_text(text)
    line = ["jaxattack", f"--config={path}", f"--workdir={tmp_path / 'work'}"]
    assert run.run([*line, *["--help"] * wants_help]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error
    assert not (tmp_path / "work").exists()


def test_a_word_for_a_config_that_takes_none_is_a_line(refused):
    assert "its get_config() takes no word; leave out :x" in refused(
        "--config=quickstart:x", config=False
    )


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--mirror=memory://x", "it would end with this program"),
        ("--mirror=file://near", "give the whole path"),
        ("--mirror=file://{work}/in", "in the work directory itself"),
        ("--profile={root}/file/in", "file is not a directory"),
        ("--track=tensorbord", "no tracker 'tensorbord'; there are: tensorboard, wandb"),
        ("--track=wandb,", "--track=wandb,: no tracker ''"),
    ],
)
@pytest.mark.parametrize("wanted", [(), ("--dry_run",)])
def test_a_mirror_a_profile_or_a_tracker_that_cannot_be_is_a_line(
    refused, tmp_path, flag, says, wanted
):
    (tmp_path / "file").write_text("x")
    assert says in refused(flag.format(root=tmp_path, work=tmp_path / "work"), *wanted)


@pytest.mark.parametrize("named", ["absent.py", "absent.py:word", ".", "configs"])
def test_a_config_that_is_no_file_is_named(refused, named):
    assert f"--config={named}" in refused(f"--config={named}", config=False)


# --- The system ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.5])
def test_an_interrupt_while_the_program_loads_is_a_line(tmp_path, seconds):
    script = (  # what is started in the background ignores interrupts
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "runpy.run_module('jaxattack.run', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, f"--config={CONFIG}", f"--workdir={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "the same command goes on from there" in error.splitlines()[-1]
    assert out == ""


def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxattack.run", f"--config={CONFIG}", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) in (0, 141)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "params"), "no space left on its disk"),
        (ValueError('RESOURCE_EXHAUSTED: "x": No space left on device [os_error]'), "no space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only"),
    ],
)
def test_what_the_system_refuses_is_a_line(monkeypatch, capsys, tmp_path, error, says):
    def fail(*_):
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("a library's words") from cause

    monkeypatch.setattr(studies, "study", fail)
    assert run.run(["jaxattack", f"--config={CONFIG}", f"--workdir={tmp_path}"]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said


def test_other_errors_keep_their_trace(monkeypatch, tmp_path):
    monkeypatch.setattr(studies, "study", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.run(["jaxattack", f"--config={CONFIG}", f"--workdir={tmp_path}"])


def stop_at_once(number):
    os.kill(os.getpid(), number)
    time.sleep(5)


def stop_in_a_callback(number):
    """Of the garbage collector, where Python drops what is raised."""

    def collected(*_):
        gc.callbacks.remove(collected)
        os.kill(os.getpid(), number)
        time.sleep(0.01)

    gc.callbacks.append(collected)
    gc.collect()
    time.sleep(5)


def stop_in_a_library(number):
    try:
        stop_at_once(number)
    except BaseException as error:
        raise RuntimeError("a library's words") from error


@pytest.mark.parametrize(("number", "word"), [(15, "stopped"), (2, "interrupted")])
@pytest.mark.parametrize("stop", [stop_at_once, stop_in_a_callback, stop_in_a_library])
def test_who_is_told_to_end_ends_cleanly(monkeypatch, capsys, tmp_path, number, word, stop):
    def write(folder):
        (folder / "half").write_text("half")
        stop(number)

    def study(_, path, *__):
        stages.Stage(workdir.open_workdir(path), "k", "a", {}, write).run()

    monkeypatch.setattr(studies, "study", study)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        line = ["jaxattack", f"--config={CONFIG}", f"--workdir={tmp_path}"]
        assert run.run(line) == 128 + number
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr().err
    assert f"{word}; finished stages are kept" in said
    assert "Exception ignored" not in said
    assert list((tmp_path / "stages").iterdir()) == []


@pytest.mark.parametrize("place", ["/dev/null/x", "~nobody-at-all/x", "a\0b", "\udce4"])
@pytest.mark.parametrize("flags", [(), ("--dry_run",)])
def test_a_work_directory_that_cannot_be_is_named(refused, place, flags):
    assert "--workdir=" in refused(f"--workdir={place}", *flags, workdir=False)


def test_another_study_in_the_work_directory_is_refused(refused, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "results.json").write_text('{"accuracy": 1}')
    line = ["jaxattack", f"--config={CONFIG}", f"--workdir={tmp_path / 'work'}"]
    for more in ([], ["--dry_run"]):
        assert run.run([*line, *more]) == 2
    assert (tmp_path / "work" / "results.json").read_text() == '{"accuracy": 1}'
