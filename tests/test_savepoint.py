"""Trainings that are stopped and go on: bit by bit where those that were not stopped end."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxattack import checkpoint, savepoint, signals, stages, sums, workdir
from jaxattack.errors import UserError
from jaxattack.sharding import make_mesh, place
from jaxattack.train import loop, lora
from jaxattack.train.loop import Settings, finetune

STEPS = 12
RNG = np.random.default_rng(0)
START = {
    "embed": RNG.normal(size=(8, 8)).astype(np.float32),
    "layers": {"mlp": {"up": RNG.normal(size=(2, 8, 16)).astype(np.float32)}},
}
BATCHES = [
    {"weight": np.float32(weight), "target": np.float32(target)}
    for weight, target in RNG.normal((1.0, 0.0), (0.3, 2.0), (STEPS, 2))
]
ADAM = Settings(0.05, weight_decay=0.1, clip=1.0)


def quadratic(model, params, batch):
    squares = [jnp.sum((leaf - batch["target"]) ** 2) for leaf in jax.tree.leaves(params)]
    return 0.5 * batch["weight"] * sum(squares)


def train(start=START, settings=ADAM, label="attack", **options):
    return finetune(None, start, BATCHES, settings, loss_fn=quadratic, label=label, **options)


class Stopped(Exception):
    """What a test stops a program with."""


@pytest.fixture
def stopped(monkeypatch):
    """A function to be told of every step that is begun; it stops the program at one of them."""

    def arrange(at, act=None):
        whole, seen = loop.train_step, []

        def train_step(*arguments, **options):
            if len(seen) == at:
                if act is None:
                    raise Stopped
                act()
            seen.append(0)
            return whole(*arguments, **options)

        monkeypatch.setattr(loop, "train_step", train_step)
        return seen

    return arrange


@pytest.fixture
def root(tmp_path):
    return workdir.open_workdir(tmp_path / "run")


def often():
    """Saved at every step."""
    return savepoint.every(1e-9)


def points(root):
    return sorted(path.name for path in (root / "unfinished").glob("*"))


def same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)), one, other)


def bits(array):
    return np.asarray(array).view(np.uint8)


MESHES = {"8": (2, 2, 2), "4": (1, 4, 1), "1": (1, 1, 1)}


def on(mesh, dtype=jnp.float32):
    shape = MESHES[mesh]
    placed = place(START, make_mesh(shape, jax.devices()[: int(np.prod(shape))]))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), placed)


def interrupted(root, monkeypatch, stopped, at, **options):
    """A training that is stopped before a step; how many steps the next one would still take."""
    with monkeypatch.context():
        stopped(at)
        with often(), savepoint.within(root, "attack-1"), pytest.raises(Stopped):
            train(**options)
        monkeypatch.undo()


@pytest.mark.parametrize("at", [1, 5, STEPS - 1])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": on("8")},
        {"settings": optax.sgd(0.05, momentum=0.9)},
        {"settings": Settings(0.05, optimizer="lion")},
        {"settings": Settings(0.05, weights="stochastic"), "start": on("4", jnp.bfloat16)},
        {
            "settings": Settings(0.05, optimizer="adamw8bit", weights="extended"),
            "start": on("4", jnp.bfloat16),
        },
        {"trainable": jax.tree.map(lambda leaf: jnp.asarray(leaf > 0), START)},
    ],
    ids=["one device", "eight", "momentum", "lion", "rounded at random", "8 bits", "frozen"],
)
def test_what_goes_on_ends_where_what_was_not_stopped_does(
    root, monkeypatch, stopped, capsys, options, at
):
    wanted = train(**options)
    interrupted(root, monkeypatch, stopped, at, **options)
    assert points(root) == [f"attack-1.0.{at}"]
    taken = stopped(-1)
    with often(), savepoint.within(root, "attack-1"):
        found = train(**options)
    assert len(taken) == STEPS - at
    same(found, wanted)
    assert f"attack: goes on after step {at} of {STEPS}" in capsys.readouterr().err


def test_stopped_again_and_again_it_ends_in_the_same(root, monkeypatch, stopped):
    wanted = train(start=on("8"))
    for _ in range(STEPS - 1):
        interrupted(root, monkeypatch, stopped, 1, start=on("8"))
    assert points(root) == [f"attack-1.0.{STEPS - 1}"]
    with often(), savepoint.within(root, "attack-1"):
        same(train(start=on("8")), wanted)


def test_it_goes_on_on_other_meshes(root, monkeypatch, stopped):
    wanted, losses = train(start=on("8"))
    for mesh in ("8", "4", "1"):
        interrupted(root, monkeypatch, stopped, 3, start=on(mesh))
    with often(), savepoint.within(root, "attack-1"):
        found, history = train(start=on("4"))
    assert points(root)[-1] == f"attack-1.0.{STEPS}"
    np.testing.assert_allclose(history, losses, 1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), found, wanted)


def test_what_is_saved_is_the_state_then_though_steps_take_its_memory(root, monkeypatch):
    """On a CPU because it is written before the next step; none of those is in it."""
    begun, whole = [], checkpoint.ocp.save_async

    def save_async(path, state):
        begun.append(jax.tree.map(np.array, state))  # a copy that nothing writes to
        return whole(path, state)

    monkeypatch.setattr(checkpoint.ocp, "save_async", save_async)
    kept = []
    monkeypatch.setattr(savepoint._Saver, "remove_but", lambda self, path: kept.append(path))
    with often(), savepoint.within(root, "attack-1"):
        train(start=on("8"))
    assert len(begun) == len(kept) == STEPS
    for path, state in zip(kept, begun, strict=True):
        found = checkpoint.load(path / "state", state, make_mesh((1, 1, 1), jax.devices()[:1]))
        jax.tree.map(np.testing.assert_array_equal, found, state)


# Two trainings of an array of 128 MiB, three with its moments; the second is saved at every step.
# Prints the most memory that each took, in KiB.
SAVING = """
import pathlib, sys
import jax, numpy as np, optax
from jaxattack import savepoint
from jaxattack.train.loop import finetune
def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
def loss(model, params, batch):
    return ((params["embed"] - 2) ** 2).mean() * batch["x"].sum()
def train(size):
    params, batches = {"embed": jax.numpy.zeros((size, 4096))}, [{"x": np.ones(8, np.float32)}] * 4
    before = memory("VmRSS")
    finetune(None, params, batches, optax.adamw(1e-3), None, loss, spare=True)
    return memory("VmHWM") - before
train(16)
plain = train(1 << 13)
with savepoint.every(1e-9), savepoint.within(pathlib.Path(sys.argv[1]), "attack-1"):
    train(16)
    print(plain, train(1 << 13))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_on_a_cpu_no_second_state_is_held_while_one_is_saved(root):
    command = [sys.executable, "-c", SAVING, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    plain, saving = map(int, done.stdout.split())
    assert saving < 1.5 * plain


# --- Killed while it saves ----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["save_async", "sealed", "rename", "remove_but"])
def test_killed_while_it_saves_the_last_whole_one_is_taken(
    root, monkeypatch, stopped, capsys, call
):
    """Every call that a saving consists of is the last one once."""
    wanted = train()
    interrupted(root, monkeypatch, stopped, 4)
    place = {"save_async": savepoint.checkpoint, "sealed": sums, "rename": type(root)}
    with monkeypatch.context() as patch:

        def killed(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(place.get(call, savepoint._Saver), call, killed)
        with often(), savepoint.within(root, "attack-1"), pytest.raises(KeyboardInterrupt):
            train()
    with often(), savepoint.within(root, "attack-1"):
        same(train(), wanted)
    after = 5 if call == "remove_but" else 4
    assert f"goes on after step {after} of" in capsys.readouterr().err


DAMAGE = {
    "cut": lambda point: os.truncate(point / "stage.json", 10),
    "no record": lambda point: (point / "stage.json").unlink(),
    "flipped": lambda point: flip(largest(point)),
    "gone": lambda point: largest(point).unlink(),
}


def largest(point):
    return max(point.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_named_and_not_used(root, monkeypatch, stopped, capsys, damage):
    wanted = train()
    interrupted(root, monkeypatch, stopped, 4)
    DAMAGE[damage](root / "unfinished" / "attack-1.0.4")
    taken = stopped(-1)
    with savepoint.within(root, "attack-1"):
        same(train(), wanted)
    assert len(taken) == STEPS
    assert "attack-1.0.4: " in capsys.readouterr().err


class Full:
    """A writing that ends with a full disk."""

    def __init__(self, path, state):
        path.mkdir()
        (path / "part").write_bytes(b"some")

    def result(self):
        raise OSError("No space left on device")


@pytest.mark.parametrize("where", ["written", "sealed"])
def test_a_disk_that_is_full_costs_the_saving_points_and_no_more(root, monkeypatch, capsys, where):
    wanted = train()
    if where == "written":
        monkeypatch.setattr(checkpoint, "save_async", Full)
    else:
        monkeypatch.setattr(sums, "sealed", lambda *_: Full.result(None))
    with often(), savepoint.within(root, "attack-1"):
        same(train(), wanted)
    said = capsys.readouterr().err
    assert said.count("no more saving points (No space left on device)") == 1
    assert not list((root / "unfinished").iterdir())


def test_a_loss_that_is_not_finite_leaves_none(root):
    batches = [*BATCHES[:3], {**BATCHES[3], "target": np.float32(np.inf)}]
    with often(), savepoint.within(root, "attack-1"), pytest.raises(UserError, match="the loss is"):
        finetune(None, START, batches, ADAM, loss_fn=quadratic)
    assert points(root) == []


# --- Stages -------------------------------------------------------------------------------------


def stage(root, label, trainings):
    def write(folder):
        found = [training()[1].tolist() for training in trainings]
        (folder / "losses.json").write_text(json.dumps(found))

    return stages.Stage(root, "attack", label, {}, write)


def test_a_stage_of_two_trainings_goes_on_in_the_second(root, tmp_path, monkeypatch, stopped):
    other = Settings(0.01)
    trainings = [train, lambda: train(settings=other)]
    wanted = stage(workdir.open_workdir(tmp_path / "other"), "x", trainings).run()
    one = stage(root, "x", trainings)
    with monkeypatch.context():
        stopped(STEPS + 4)
        with often(), pytest.raises(Stopped):
            one.run()
        monkeypatch.undo()
    assert points(root) == [f"{one.id}.0.{STEPS}", f"{one.id}.1.4"]
    workdir.open_workdir(root)  # they are nobody's rubbish
    taken = stopped(-1)
    assert (one.run() / "losses.json").read_bytes() == (wanted / "losses.json").read_bytes()
    assert len(taken) == STEPS - 4
    assert points(root) == []


def test_points_of_a_finished_stage_are_cleared_away(root):
    one = stage(root, "a.b", [train])
    one.run()
    for name in (f"{one.id}.0.4", "attack-other-0123456789ab.0.4"):
        (root / "unfinished" / name).mkdir(parents=True)
    workdir.open_workdir(root)
    assert points(root) == ["attack-other-0123456789ab.0.4"]


def test_without_a_stage_or_time_nothing_is_saved(root):
    train()
    with savepoint.every(0), savepoint.within(root, "attack-1"):
        train()
    with savepoint.within(root, "attack-1"):  # ten minutes have not passed
        train()
    assert points(root) == []


def test_adapters_go_on_too(tiny, root, monkeypatch, stopped):
    rows = {
        "tokens": RNG.integers(0, 600, (4, 8)).astype(np.int32),
        "loss_mask": np.ones((4, 8), np.float32),
        "segment_ids": np.ones((4, 8), np.int32),
    }

    def adapted():
        key = jax.random.key(1)
        return lora.finetune(
            tiny.model, tiny.params, [rows] * 4, Settings(1e-3), key, lora.LowRank(2)
        )

    wanted = adapted()
    with monkeypatch.context():
        stopped(2)
        with often(), savepoint.within(root, "lora-1"), pytest.raises(Stopped):
            adapted()
        monkeypatch.undo()
    taken = stopped(-1)
    with often(), savepoint.within(root, "lora-1"):
        same(adapted(), wanted)
    assert len(taken) == 2


# --- SIGTERM ------------------------------------------------------------------------------------


def test_sigterm_saves_after_the_step_and_then_ends_the_program(root, monkeypatch, stopped):
    wanted = train()
    with monkeypatch.context():
        taken = stopped(5, lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(0.05))
        with (
            signals.stopped_by_sigterm(lambda: False),
            savepoint.within(root, "attack-1"),
            pytest.raises(signals.Terminated),
        ):
            train()
        monkeypatch.undo()
    assert len(taken) == 6
    assert points(root) == ["attack-1.0.6"]
    taken = stopped(-1)
    with savepoint.within(root, "attack-1"):
        same(train(), wanted)
    assert len(taken) == STEPS - 6
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_before_the_first_step_there_is_nothing_to_save(root, monkeypatch, stopped):
    stopped(0, lambda: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(0.05))
    with (
        signals.stopped_by_sigterm(lambda: False),
        savepoint.within(root, "attack-1"),
        pytest.raises(signals.Terminated),
    ):
        train()
    assert points(root) == []


# --- Processes ----------------------------------------------------------------------------------

HERE = pathlib.Path(__file__).parent
LAUNCH = HERE.parent / "launch" / "local.sh"


def together(folder, steps):
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [LAUNCH, "2", "--", sys.executable, HERE / "saving_round.py", folder, str(steps)],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        check=False,
        timeout=300,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_that_are_stopped_go_on_together(tmp_path):
    assert together(tmp_path / "whole", -1).returncode == 0
    assert together(tmp_path / "stopped", 7).returncode == 1
    left = (tmp_path / "stopped" / "unfinished").glob("[!.]*")
    after = max(int(point.suffix[1:]) for point in left)
    assert after in (4, 6)  # a process that fails does not wait for what is being saved
    done = together(tmp_path / "stopped", -1)
    assert done.returncode == 0, done.stderr
    assert f"goes on after step {after} of 10" in done.stderr
    found, wanted = (np.load(tmp_path / name / "found.npz") for name in ("stopped", "whole"))
    assert (int(found["steps"]), int(wanted["steps"])) == (10 - after, 10)
    for name in {*wanted} - {"steps"}:
        np.testing.assert_array_equal(bits(found[name]), bits(wanted[name]), name)
