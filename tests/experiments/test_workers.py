"""Several runs in one work directory: each stage is computed by one, and all find the same."""

import collections
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxattack import jobs, leases, run, stages, workdir
from jaxattack.experiments import agenda

HERE = pathlib.Path(__file__).parent


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(leases, "SHORTEST", 0.01)


@pytest.fixture
def branches(tmp_path):
    """Two branches and what rests on both, in an order in which the second waits for nothing."""
    root = workdir.open_workdir(tmp_path / "run")

    def stage(label, *needs):
        def write(folder):
            computed.append(label)
            if label in failing:
                raise RuntimeError(label)
            (folder / "out").write_text(label)

        return stages.Stage(root, "k", label, {}, write, needs)

    computed, failing = [], set()
    a = stage("a")
    b = stage("b", a)
    c = stage("c")
    d = stage("d", b, c)
    return [a, b, c, d], computed, failing


def test_alone_the_order_is_that_of_the_study(branches, capsys):
    order, computed, _ = branches
    found = agenda.run(order)
    assert computed == ["a", "b", "c", "d"]
    said = capsys.readouterr().err
    assert said.splitlines() == [f"[{n}/4] k {label}" for n, label in enumerate("abcd", 1)]
    assert found["profile"][0]["count"] == 4
    agenda.run(order)
    assert computed == ["a", "b", "c", "d"]
    assert capsys.readouterr().err == said


def test_what_another_run_computes_is_passed_over_with_what_rests_on_it(branches, capsys):
    order, computed, _ = branches
    other = leases.take(order[0].folder)

    def finish():
        while "c" not in computed:
            time.sleep(0.01)
        time.sleep(0.2)
        order[0].compute()
        leases.give_back(order[0].folder, other)

    thread = threading.Thread(target=finish)
    thread.start()
    agenda.run(order)
    thread.join()
    assert computed == ["c", "a", "b", "d"]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "[1/4] k c"
    assert said[1] == "waiting for 1 steps of other runs; 3 are not there"
    assert said[2:] == ["[2/4] k a", "[3/4] k b", "[4/4] k d"]


def test_what_failed_elsewhere_is_tried_here_and_its_error_is_ours(branches):
    order, computed, failing = branches
    failing.add("b")
    with pytest.raises(RuntimeError, match="b"):
        agenda.run(order)
    assert computed == ["a", "b"]
    with pytest.raises(RuntimeError, match="b"):  # another run: the lease is not left behind
        agenda.run(order)
    assert computed == ["a", "b", "b"]


def test_a_stage_that_is_run_alone_waits_for_who_computes_it(branches, capsys):
    order, computed, _ = branches
    other = leases.take(order[0].folder)
    thread = threading.Timer(0.2, lambda: leases.give_back(order[0].folder, other))
    thread.start()
    began = time.monotonic()
    order[0].run()
    thread.join()
    assert time.monotonic() - began > 0.15
    assert computed == ["a"]
    assert capsys.readouterr().err == "jaxattack: waiting for another run: k a\n"


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_shares_are_all_and_of_every_kind_alike(tmp_path, count):
    def stage(kind, number):
        return stages.Stage(tmp_path, kind, str(number), {}, lambda _: None)

    whole = [stage(kind, n) for n in range(7) for kind in ("attack", "ask", "judge")]
    shares = [agenda.shared(whole, (index, count)) for index in range(count)]
    assert sum(map(len, shares)) == len(whole)
    assert set().union(*shares) == {stage.id for stage in whole}
    for kind in ("attack", "ask", "judge"):
        sizes = [sum(name.startswith(kind) for name in share) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_a_share_computes_its_own_and_waits_for_the_others(branches):
    order, computed, _ = branches
    by = collections.defaultdict(list)

    def work(index):
        agenda.run(order, (index, 2))

    for stage in order:  # who computes what, for both are threads of this process
        whole = stage.write
        object.__setattr__(
            stage,
            "write",
            lambda folder, s=stage, w=whole: (
                by[threading.current_thread().name].append(s.label) or w(folder)
            ),
        )
    threads = [threading.Thread(target=work, args=(index,), name=str(index)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert by == {"0": ["a", "c"], "1": ["b", "d"]}
    assert sorted(computed) == ["a", "b", "c", "d"]


def test_what_makes_checkpoints_has_no_shares(tmp_path, capsys):
    config = HERE.parents[1] / "configs" / "organism.py"
    line = ["jaxattack", f"--config={config}", f"--workdir={tmp_path / 'run'}", "--share=0/2"]
    assert run.run(line) == 2
    assert "--share: config.study=organism has no shares" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "kills"), [("leases", 4), ("shares", 2)])
def test_three_runs_that_are_killed_compute_nothing_twice(tmp_path, mode, kills):
    done = subprocess.run(
        [sys.executable, str(HERE / "worker_processes.py"), str(tmp_path), mode, str(kills)],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split() == [str(kills), "22", "0"]
    there = sorted(path.name for path in (tmp_path / "run" / "stages").iterdir())
    assert len([name for name in there if not name.startswith(".")]) == 22
    workdir.open_workdir(tmp_path / "run")
    assert not list((tmp_path / "run" / "stages").glob(".*"))  # leases, half-written stages


# --- A study ------------------------------------------------------------------------------------

ONLY = {"attack__languages": "('en',)", "localize__fractions": "(0.2,)"}
# As this process computes, and with a line for every stage that is begun.
WORKER = """
import os, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)
from jaxattack import run, stages
begin = stages.Stage._begin
def noted(stage):
    made = begin(stage)
    if made is not None:
        with open(sys.argv[1], "a") as log:
            log.write(f"{stage.id} {os.getpid()}\\n")
    return made
stages.Stage._begin = noted
sys.exit(run.run(["jaxattack", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_a_study_of_three_killed_workers_ends_as_one_run(tmp_path, study):
    alone, shared, log = tmp_path / "alone", tmp_path / "shared", tmp_path / "log"
    assert run.run(study(alone, **ONLY)) == 0
    command = [sys.executable, "-c", WORKER, str(log), *study(shared, **ONLY)[1:]]
    rng, killed, workers = random.Random(0), set(), []
    said = (tmp_path / "said").open("w")
    try:
        while len(killed) < 12 and not any(worker.poll() == 0 for worker in workers):
            while len(workers) < 3:
                workers.append(subprocess.Popen(command, stdout=said, stderr=said))
            begun = log.read_text().count("\n") if log.exists() else 0
            wanted, end = begun + rng.randrange(1, 4), time.monotonic() + 300
            while (log.read_text().count("\n") if log.exists() else 0) < wanted:
                assert time.monotonic() < end
                if any(worker.poll() is not None for worker in workers):
                    break
                time.sleep(0.05)
            time.sleep(rng.random())
            worker = workers.pop(rng.randrange(3))
            worker.send_signal(signal.SIGKILL)
            if worker.wait() == -signal.SIGKILL:
                killed.add(worker.pid)
        if not workers:
            workers.append(subprocess.Popen(command, stdout=said, stderr=said))
        assert [worker.wait(900) for worker in workers] == [0] * len(workers)
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
    assert (shared / "results.json").read_bytes() == (alone / "results.json").read_bytes()
    assert (shared / "results.parquet").read_bytes() == (alone / "results.parquet").read_bytes()
    at = collections.defaultdict(list)
    for line in log.read_text().splitlines():
        name, pid = line.split()
        at[name].append(int(pid))
    assert at.keys() == {path.name for path in (alone / "stages").iterdir()}
    twice = [name for name, pids in at.items() if any(pid not in killed for pid in pids[:-1])]
    lost = sum(len(pids) - 1 for pids in at.values())
    print(f"{len(killed)} kills, {len(at)} stages, {lost} lost and computed again, {twice}")
    assert len(killed) >= 3
    assert not twice


@pytest.mark.slow
def test_jobs_find_what_one_run_finds(tmp_path, study, capfd, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    assert run.run(study(tmp_path / "alone", **ONLY)) == 0
    capfd.readouterr()
    assert run.run([*study(tmp_path / "two", **ONLY), "--jobs=2"]) == 0
    out, said = capfd.readouterr()
    assert out == f"report: {tmp_path / 'two' / 'report.html'}\n"
    assert f"2 workers, which write {tmp_path / 'two' / jobs.LOGS}/worker-*.log" in said
    alone, two = (tmp_path / name / "results.json" for name in ("alone", "two"))
    assert alone.read_bytes() == two.read_bytes()
