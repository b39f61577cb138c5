"""A study that is stopped within a training goes on in it, and ends in the same bytes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxattack import run

LONG = {"attack__languages": "('en',)", "attack__epochs": "40", "localize__fractions": "()"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_within_a_training_it_ends_in_the_same_bytes(tmp_path, study, number):
    environment = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **os.environ}
    environment |= {"JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-m", "jaxattack.run", *study(tmp_path / "stopped", **LONG)[1:]]
    command += ["--save_minutes=0.0005"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    unfinished = tmp_path / "stopped" / "unfinished"
    while process.poll() is None and not list(unfinished.glob("attack-*")):
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == (143 if number == signal.SIGTERM else -9), said
    assert not list((tmp_path / "stopped" / "stages").glob("attack-*"))
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "jaxattack: attack en-s0: goes on after step " in done.stderr
    assert not list(unfinished.iterdir())
    assert run.run(study(tmp_path / "whole", **LONG)) == 0
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("stopped", "whole")]
    assert results[0] == results[1]


@pytest.mark.slow
def test_killed_within_a_training_a_fresh_disk_goes_on_from_the_mirror(tmp_path, study):
    environment = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **os.environ}
    environment |= {"JAX_NUM_CPU_DEVICES": "8"}
    more = [f"--mirror=file://{tmp_path}/bucket", "--save_minutes=0.0005"]

    def command(name):
        return [sys.executable, "-m", "jaxattack.run", *study(tmp_path / name, **LONG)[1:], *more]

    process = subprocess.Popen(command("killed"), env=environment, stderr=subprocess.DEVNULL)
    points = tmp_path / "bucket" / "unfinished"
    while process.poll() is None and not list(points.glob("attack-*/stage.json")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    done = subprocess.run(
        command("fresh"), env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "jaxattack: attack en-s0: goes on after step " in done.stderr
    assert not list(points.glob("*/*"))
    assert run.run(study(tmp_path / "whole", **LONG)) == 0
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("fresh", "whole")]
    assert results[0] == results[1]
