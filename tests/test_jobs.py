"""`--jobs`: workers get their devices, and none outlives who started it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from jaxattack import commandline, distributed, jobs, run, signals
from jaxattack.errors import UserError
from jaxattack.owner import is_alive

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A function from shell lines to what stands for Python; `$worker` is the worker's number."""

    def stand_in(lines):
        script = tmp_path / "python"
        number = "worker=$(readlink /proc/$$/fd/1 | grep -o '[0-9]*.log$' | cut -d. -f1)\n"
        script.write_text(f"#!/bin/bash\n{number}{lines}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return stand_in


# --- What a worker is given ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "count", "name", "found"),
    [
        ({"CUDA_VISIBLE_DEVICES": "3,1,GPU-a,0"}, 2, "CUDA_VISIBLE_DEVICES", ["3,1", "GPU-a,0"]),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "JAX_PLATFORMS": "cuda"}, 2, "CUDA_VISIBLE_DEVICES", "01"),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "JAX_PLATFORMS": "cpu"}, 3, "CUDA_VISIBLE_DEVICES", None),
        ({"CUDA_VISIBLE_DEVICES": ""}, 3, "CUDA_VISIBLE_DEVICES", None),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 3, "CUDA_VISIBLE_DEVICES", None),
        ({"TPU_VISIBLE_CHIPS": "0,1,2"}, 3, "TPU_VISIBLE_CHIPS", "012"),
    ],
)
def test_devices_are_shared_out(environment, count, name, found):
    shares = jobs.shares(count, environment)
    assert len(shares) == count
    assert [share.get(name) for share in shares] == (list(found) if found else [None] * count)
    if name.startswith("TPU"):
        assert {share["TPU_CHIPS_PER_PROCESS_BOUNDS"] for share in shares} == {"1,1,1"}


@pytest.mark.parametrize(
    ("environment", "count", "says"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 2, "has 3 devices, and each worker has to have"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 3, "has 2 devices"),
        ({"TPU_VISIBLE_CHIPS": "0,1"}, 4, "--jobs=4: take 2, a worker for each TPU chip"),
        ({"TPU_VISIBLE_CHIPS": "0,1,2,3"}, 2, "--jobs=2: take 4, a worker for each TPU chip"),
    ],
)
def test_devices_that_cannot_be_shared_out_are_named(environment, count, says):
    with pytest.raises(UserError, match=says):
        jobs.shares(count, environment)


def test_workers_that_share_a_gpu_share_its_memory():
    found = jobs.shares(6, {"CUDA_VISIBLE_DEVICES": "0,5"})
    assert [share["CUDA_VISIBLE_DEVICES"] for share in found] == list("000555")
    parts = [float(share["XLA_CLIENT_MEM_FRACTION"]) for share in found]
    assert parts == [0.3] * 6  # three on each GPU take 0.9 of it


@pytest.mark.parametrize("name", ["XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"])
def test_a_share_of_memory_that_somebody_chose_stays(name):  # jax refuses both names together
    found = jobs.shares(2, {"CUDA_VISIBLE_DEVICES": "0", name: ".2"})
    assert found == [{"CUDA_VISIBLE_DEVICES": "0"}] * 2


def test_a_worker_alone_on_its_gpu_has_all_its_memory():
    assert jobs.shares(2, {"CUDA_VISIBLE_DEVICES": "0,1"})[0] == {"CUDA_VISIBLE_DEVICES": "0"}


def test_gpus_are_those_that_the_tool_lists(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'; echo 'GPU 1: A (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda name: "cuda" in name or None)
    found = jobs.shares(2, {})
    assert found == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda _: None)
    assert jobs.shares(2, {}) == [{}, {}]  # jax has only the CPU


# --- Flags --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--jobs=0"], "--jobs=0: say how many workers"),
        (["--jobs=two"], "--jobs=two: say how many"),
        (["--jobs"], "--jobs has no value"),
        (["--share=3/3"], "--share=3/3: write I/N"),
        (["--share=1"], "--share=1: write I/N"),
        (["--share=-1/3"], "write I/N"),
        (["--share=0/2", "--jobs=2"], "a share is one worker's"),
    ],
)
def test_what_cannot_be_is_refused(flags, says):
    with pytest.raises(UserError, match=says):
        commandline.read_flags(flags)


@pytest.mark.parametrize("given", [["--jobs=2"], ["--jobs", "2"], ["-jobs=2"]])
def test_workers_get_the_other_arguments(given):
    arguments = ["--config=a", *given, "--workdir", "jobs"]
    assert commandline.read_flags(arguments).jobs == 2
    assert commandline.without(arguments, "jobs") == ["--config=a", "--workdir", "jobs"]


def test_jobs_and_processes_of_one_program_are_two_things(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(distributed.SWITCH, "1")
    place = tmp_path / "run"
    line = ["jaxattack", f"--config={CONFIG}", f"--workdir={place}", "--jobs=2"]
    assert run.run(line) == 2
    said = capsys.readouterr().err
    assert "--jobs=2 and JAXATTACK_DISTRIBUTED=1 are both set" in said
    assert said.count("\n") == 1
    assert not place.exists()


def test_a_mistake_is_found_before_any_worker(tmp_path, capsys):
    place = tmp_path / "run"
    line = ["jaxattack", f"--config={CONFIG}", f"--workdir={place}", "--jobs=2"]
    assert run.run([*line, "--config.attack.epochs=-1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not place.exists()


# --- Workers ------------------------------------------------------------------------------------


def test_one_that_finished_is_enough(tmp_path, python, capfd):
    python(
        "echo \"$@\"; echo '[1/2] ask a'\n"
        "if [ $worker = 0 ]; then echo 'jaxattack: out of memory'; exit 3; fi\n"
        "sleep 0.5; echo '[2/2] judge a'; sleep 0.5; echo 'report: there'"
    )
    assert jobs.run(["--config=x"], 2, tmp_path) == 0
    out, said = capfd.readouterr()
    assert out == "report: there\n"
    assert f"2 workers, which write {tmp_path}/logs/worker-*.log" in said
    assert "jaxattack: worker 0 ended with 3" in said
    assert "  jaxattack: out of memory" in said
    assert "jaxattack: 1 of 2 steps, 1 workers" in said
    log = (tmp_path / "logs" / "worker-1.log").read_text()
    assert log.splitlines()[0].endswith("-m jaxattack.run --config=x")


@pytest.mark.parametrize(("lines", "code"), [("exit 2", 2), ("kill -9 $$", 137)])
def test_if_all_fail_the_code_is_theirs(tmp_path, python, capfd, lines, code):
    python(f"echo no; {lines}")
    assert jobs.run([], 2, tmp_path) == code
    assert capfd.readouterr().err.count("  no\n") == 2


@pytest.mark.parametrize("kind", ["link", "file"])
def test_logs_replace_nothing(tmp_path, python, kind):
    python("true")
    if kind == "link":
        (tmp_path / "logs").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "logs").write_text("theirs")
    with pytest.raises(UserError, match="logs is no folder of logs"):
        jobs.run([], 2, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_none_outlives_who_started_it(tmp_path, number, code):
    """Ended in any way, also killed."""
    script = (
        "import pathlib, signal, sys\n"
        "from jaxattack import jobs, signals\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "sys.executable = str(place / 'python')\n"
        "def work():\n"
        "    with signals.stopped_by_sigterm(lambda: False):\n"
        "        return jobs.run([], 2, place)\n"
        "sys.exit(signals.exit_code('jaxattack', signals.KEPT, work))\n"
    )
    stand_in = tmp_path / "python"
    worker = (
        "import time; from jaxattack import owner, signals; signals.end_with_parent();"
        "print(owner.mark(), flush=True); time.sleep(60)"
    )
    stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{worker}"\n')
    stand_in.chmod(0o755)
    started = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    logs = [tmp_path / "logs" / f"worker-{worker}.log" for worker in (0, 1)]
    while started.poll() is None and not all(log.exists() and log.read_text() for log in logs):
        time.sleep(0.05)
    marks = [log.read_text() for log in logs]
    assert all(map(is_alive, marks))
    started.send_signal(number)
    _, said = started.communicate(timeout=60)
    assert started.returncode == code
    if number != signal.SIGKILL:
        assert "the same command goes on from there" in said.splitlines()[-1]
    end = time.monotonic() + 20
    while any(map(is_alive, marks)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, marks))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children")
def test_a_worker_whose_launcher_is_gone_already_does_nothing():
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = [sys.executable, "-m", "jaxattack.run", "--help"]
    done = subprocess.run(command, env={**os.environ, signals.PARENT: str(gone.pid)}, check=False)
    assert done.returncode == 143
