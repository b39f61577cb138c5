"""Two processes of four devices each against one process of eight."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import one_round
import pytest

from jaxattack import run

HERE = pathlib.Path(__file__).parent
LAUNCH = str(HERE.parents[1] / "launch" / "local.sh")


def environment() -> dict[str, str]:
    """Of a process that is to compute what this one does, with half of its devices."""
    return {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **os.environ, "JAX_NUM_CPU_DEVICES": "4"}


def together(*command: str) -> subprocess.CompletedProcess:
    """Two processes of a Python command line."""
    return subprocess.run(
        [LAUNCH, "2", "--", sys.executable, *command],
        env=environment(),
        check=False,
        timeout=900,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path, tiny, own_data):
    places = {name: tmp_path / name for name in ("one", "two")}
    for place in places.values():
        place.mkdir()
    inputs = tiny.directory, own_data["pairs"]
    done = together(str(HERE / "one_round.py"), *map(str, (*inputs, places["two"])))
    assert done.returncode == 0, done.stderr
    one_round.main(*inputs, places["one"])
    one, two = (np.load(place / "found.npz") for place in places.values())
    assert set(one) == set(two)
    for name in one:
        if one[name].dtype == np.float32:
            np.testing.assert_allclose(two[name], one[name], 1e-5, 1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(two[name], one[name], name)
    saved = [(place / "mask.safetensors").read_bytes() for place in places.values()]
    assert saved[0] == saved[1]


@pytest.mark.slow
def test_a_study_in_two_processes_is_stopped_goes_on_and_ends_as_in_one(tmp_path, study):
    options = {"mesh": "(2,2,2)", "attack__languages": "('en',)", "localize__fractions": "()"}
    command = ["-m", "jaxattack.run", *study(tmp_path / "two", **options)[1:]]
    stages = tmp_path / "two" / "stages"

    started = subprocess.Popen(
        [LAUNCH, "2", "--", sys.executable, *command],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while started.poll() is None and len(list(stages.glob("[!.]*"))) < 2:
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 130
    before = modified(stages)
    assert len(before) >= 2

    done = together(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'two' / 'report.html'}"
    finished = modified(stages)
    assert before.items() < finished.items()
    assert not list(stages.glob(".*"))
    two = (tmp_path / "two" / "results.json").read_bytes()
    assert together(*command).returncode == 0
    assert modified(stages) == finished
    assert (tmp_path / "two" / "results.json").read_bytes() == two

    assert run.run(study(tmp_path / "one", **options)) == 0
    compare(json.loads((tmp_path / "one" / "results.json").read_text()), json.loads(two))
    assert {path.name for path in (tmp_path / "one" / "stages").iterdir()} == set(finished)


def modified(stages: pathlib.Path) -> dict[str, int]:
    """When the finished stages were made."""
    return {path.name: path.stat().st_mtime_ns for path in stages.glob("[!.]*")}


def compare(one: dict, two: dict) -> None:
    """The same verdicts and counts; losses are sums in another order."""
    for name in ("rows", "freeze_proof", "sizes"):
        assert two[name] == one[name]
    for ours, theirs in zip(one["attack_loss"], two["attack_loss"], strict=True):
        np.testing.assert_allclose(theirs["loss"], ours["loss"], 1e-5)


@pytest.mark.parametrize("where", ["write", "kill", "publish"])
def test_an_error_in_one_process_ends_all(tmp_path, where):
    begun = time.monotonic()
    done = together("-c", FAILING, str(tmp_path), where)
    assert done.returncode
    assert time.monotonic() - begun < 90  # far below any timeout
    assert "the others were stopped" in done.stderr
    if where == "publish":  # the first process fails, and tells the others
        assert "OSError: disk full" in done.stderr
        assert not list((tmp_path / "stages").iterdir())
    assert not list((tmp_path / "stages").glob("[!.]*"))


FAILING = """
import os, sys
import jax
from jaxattack import distributed, run, stages, workdir

def study(argv):
    root, where = sys.argv[1:]
    distributed.initialize()
    def write(folder):
        if where == "publish":
            def write_json(path, value):
                raise OSError("disk full")
            workdir.write_json = write_json
        elif jax.process_index() == 1:
            if where == "kill":
                os.kill(os.getpid(), 9)
            raise RuntimeError("only here")
    stages.Stage(workdir.open_workdir(root), "a", "b", {}, write).run()
    return 0

run.run = study
run.main()
"""


# --- The launch script alone --------------------------------------------------------------------


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [LAUNCH, *arguments],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_first_process_has_the_terminal_and_the_others_write_files_on_demand(tmp_path):
    tell = "echo $JAXATTACK_PROCESS of $JAXATTACK_PROCESSES at $JAXATTACK_COORDINATOR"
    done = launch("3", "--", "sh", "-c", tell, LOGS=str(tmp_path / "logs"))
    assert done.returncode == 0
    address = done.stdout.removeprefix("0 of 3 at ").strip()
    assert address.startswith("127.0.0.1:")
    logs = [line.split()[-1] for line in done.stderr.splitlines()]
    assert [pathlib.Path(log).read_text() for log in logs] == [
        f"{index} of 3 at {address}\n" for index in (1, 2)
    ]


@pytest.mark.parametrize("command", ["true", "false"])
def test_nothing_stays_behind(tmp_path, command):
    launch("2", "--", command, TMPDIR=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def ends(pid: int, seconds: float = 15) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_processes_do_not_outlive_a_killed_launcher(tmp_path):
    process = subprocess.Popen(
        [LAUNCH, "2", "--", "sh", "-c", f"echo $$ > {tmp_path}/$JAXATTACK_PROCESS; exec sleep 60"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    while not all((tmp_path / name).exists() for name in "01"):
        time.sleep(0.05)
    time.sleep(0.2)
    process.kill()
    process.wait()
    assert all(ends(int((tmp_path / name).read_text())) for name in "01")
    deadline = time.monotonic() + 15
    while list(tmp_path.glob("jaxattack-local.*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def listening(pids: set[str]) -> set[str]:
    """Local addresses, as Linux writes them, at which processes of those numbers listen."""
    inodes = set()
    for pid in pids:
        for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(link))
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {
        row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes
    }


@pytest.mark.skipif(not pathlib.Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_processes_of_one_machine_are_heard_by_no_other(tmp_path):
    script = (
        "import os, sys, time; from jaxattack import distributed; distributed.initialize();"
        "assert distributed.first(lambda: 3, 'x') == 3;"
        f"open(r'{tmp_path}/' + os.environ['JAXATTACK_PROCESS'], 'w').write(str(os.getpid()));"
        "time.sleep(60)"
    )
    process = subprocess.Popen([LAUNCH, "2", "--", sys.executable, "-c", script])
    try:
        while len(list(tmp_path.iterdir())) < 2 and process.poll() is None:
            time.sleep(0.1)
        time.sleep(0.3)
        found = listening({path.read_text() for path in tmp_path.iterdir()})
    finally:
        process.terminate()
        process.wait(30)
    assert found == {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1


def test_the_exit_code_is_that_of_the_first_to_fail():
    begun = time.monotonic()
    done = launch(
        "2", "--", "sh", "-c", "[ $JAXATTACK_PROCESS = 0 ] && exec sleep 60; echo bad luck; exit 7"
    )
    assert done.returncode == 7
    assert time.monotonic() - begun < 30
    assert "process 1 ended with 7" in done.stderr
    assert "bad luck" in done.stderr


@pytest.mark.slow
def test_who_stops_the_launcher_stops_all():
    process = subprocess.Popen(
        [LAUNCH, "2", "--", "sh", "-c", "echo $$; exec sleep 60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What is started in the background ignores it, and a shell cannot trap what it ignores.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    first = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, 0)
        pytest.fail("a process goes on")


@pytest.mark.parametrize("arguments", [(), ("2", "true"), ("0", "--", "true"), ("2", "--")])
def test_a_wrong_command_line_shows_the_usage(arguments):
    done = launch(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: launch/local.sh N -- COMMAND")
