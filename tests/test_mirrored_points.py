"""Saving points in a mirror: a fresh disk goes on from the last whole one, to the same bits."""

import itertools
import os
import signal
import threading
import time

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack import mirror, savepoint, signals, stages, store, workdir
from jaxattack.errors import UserError
from jaxattack.train import loop
from jaxattack.train.loop import Settings, finetune

STEPS = 8
RNG = np.random.default_rng(0)
START = {"embed": RNG.normal(size=(8, 8)).astype(np.float32)}
BATCHES = [{"target": np.float32(target)} for target in RNG.normal(size=STEPS)]
ADAM = Settings(0.05, weight_decay=0.1)


def quadratic(model, params, batch):
    return 0.5 * jnp.sum((params["embed"] - batch["target"]) ** 2)


def train():
    return finetune(None, START, BATCHES, ADAM, loss_fn=quadratic, label="attack")


class Stopped(Exception):
    """What a test stops a program with."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(store, "WAITS", (0.0, 0.0, 0.0))


@pytest.fixture(params=[pytest.param("memory", marks=pytest.mark.slow), "file"])
def url(request, tmp_path):
    place = f"memory://{tmp_path.name}/run" if request.param == "memory" else f"file://{tmp_path}/m"
    yield place
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def disk(tmp_path):
    numbers = itertools.count()
    return lambda: workdir.open_workdir(tmp_path / f"disk{next(numbers)}")


@pytest.fixture
def patient(monkeypatch):
    """Every saving point is copied before the next step, so that it is known which there are."""
    whole = savepoint._Saver.look

    def look(self, losses):
        whole(self, losses)
        self.settle()

    monkeypatch.setattr(savepoint._Saver, "look", look)


@pytest.fixture
def taken(monkeypatch):
    """Numbers of the steps that are taken; the program is stopped before that of `at`."""
    whole, seen = loop.train_step, []

    def train_step(*arguments, **options):
        if len(seen) == getattr(train_step, "at", -1):
            raise Stopped
        seen.append(0)
        return whole(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", train_step)

    def arrange(at=-1):
        seen.clear()
        train_step.at = at
        return seen

    return arrange


def stage_of(root):
    def write(folder):
        tuned, losses = train()
        np.savez(folder / "found.npz", losses=losses, **jax.tree.map(np.asarray, tuned))

    return stages.Stage(root, "attack", "en", {}, write)


def run(root, url):
    with mirror.opened(url, "fragility"), savepoint.every(1e-9):
        folder = stage_of(root).run()
    with np.load(folder / "found.npz") as found:
        return {name: found[name].tobytes() for name in found}


@pytest.fixture
def wanted(disk):
    return run(disk(), None)


def points(url):
    place = store.find(url, "--mirror")
    found = place.matching("unfinished/*/stage.json")
    return sorted(int(name.split("/")[1].rpartition(".")[2]) for name in found)


def rest(url):
    return store.find(url, "--mirror").matching("unfinished/*")


@pytest.mark.parametrize("at", [1, 5, STEPS - 1])
def test_a_fresh_disk_goes_on_from_the_last_one(url, disk, wanted, patient, taken, capsys, at):
    taken(at)
    with pytest.raises(Stopped):
        run(disk(), url)
    assert points(url) == [at]
    assert len(rest(url)) == 1  # the others went
    seen = taken()
    assert run(disk(), url) == wanted
    assert len(seen) == STEPS - at
    assert f"attack: goes on after step {at} of {STEPS}" in capsys.readouterr().err
    assert rest(url) == []  # the stage is there


def test_of_disk_and_mirror_the_one_that_is_further_is_taken(url, disk, wanted, patient, taken):
    one, two = disk(), disk()
    for root, at in ((one, 2), (two, 3)):
        taken(at)
        with pytest.raises(Stopped):
            run(root, url)
    seen = taken()
    assert run(one, url) == wanted  # its own is after 2
    assert len(seen) == STEPS - 5
    taken(4)
    three = disk()
    with pytest.raises(Stopped), mirror.opened(None, "fragility"), savepoint.every(1e-9):
        stage_of(three).run()
    seen = taken()
    mirror_url = f"{url}/other"
    assert run(three, mirror_url) == wanted
    assert len(seen) == STEPS - 4


@pytest.fixture
def killed_at(monkeypatch):
    """A function: the program is stopped before so many files more are put, or within that."""

    def arrange(patch, count, within):
        left, whole = [count], store.Store.put

        def put(self, name, path):
            if not name.startswith("unfinished/"):
                return whole(self, name, path)
            left[0] -= 1
            if left[0] >= 0:
                return whole(self, name, path)
            if within:  # object stores show nothing of it, a disk shows a part
                self.files.pipe_file(f"{self.root}/{name}", path.read_bytes()[:within])
            raise KeyboardInterrupt

        patch.setattr(store.Store, "put", put)
        patch.setattr(mirror, "AT_ONCE", 1)

    return arrange


@pytest.mark.parametrize("within", [0, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_between_any_two_files_only_a_whole_one_is_taken(
    url, disk, wanted, patient, taken, monkeypatch, killed_at, within
):
    """At every file of the first two saving points."""
    steps = []
    for count in itertools.count():
        place = f"{url}/{count}"
        taken()
        with monkeypatch.context() as patch:
            killed_at(patch, count, within)
            with pytest.raises(KeyboardInterrupt):
                run(disk(), place)
        there = points(place)
        # A cut record is there on a disk, and not believed.
        whole = [step for step in there if is_whole(place, step)]
        seen = taken()
        assert run(disk(), place) == wanted
        assert len(seen) == STEPS - max(whole, default=0)
        assert rest(place) == []
        steps.append(STEPS - len(seen))
        if steps[-1] == 2:
            break
    assert sorted(steps) == steps
    assert {0, 1} <= set(steps)
    assert len(steps) > 6


def is_whole(url, step):
    place = store.find(url, "--mirror")
    [name] = place.matching(f"unfinished/*.{step}/stage.json")
    return (place.read(name) or b"").endswith(b"}\n")


@pytest.mark.parametrize("call", ["_forget", "remove"])
def test_killed_while_earlier_ones_are_taken_away_the_last_is_taken(
    url, disk, wanted, patient, taken, monkeypatch, call
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        whole = store.Store.remove

        def remove(self, name, whole_folder=False, **options):
            if (whole_folder or options) and name.endswith(".1"):
                raise KeyboardInterrupt
            return whole(self, name, whole_folder, **options)

        if call == "remove":
            patch.setattr(store.Store, call, remove)
        else:
            patch.setattr(mirror, call, killed)
        with pytest.raises(KeyboardInterrupt):
            run(disk(), url)
    seen = taken()
    assert run(disk(), url) == wanted
    assert len(seen) == STEPS - (2 if call == "remove" else 1)
    assert rest(url) == []


def test_a_damaged_copy_is_named_and_not_used(url, disk, wanted, patient, taken, capsys):
    taken(4)
    with pytest.raises(Stopped):
        run(disk(), url)
    place = store.find(url, "--mirror")
    files = [path for path in place.files.find(f"{place.root}/unfinished") if "/state/" in path]
    largest = max(files, key=place.files.size)
    content = bytearray(place.files.cat_file(largest))
    content[len(content) // 2] ^= 1
    place.files.pipe_file(largest, bytes(content))
    seen = taken()
    assert run(disk(), url) == wanted
    assert len(seen) == STEPS
    assert ".0.4: " in (said := capsys.readouterr().err)
    assert "is not as it was written; not used" in said


def test_a_store_that_fails_costs_the_copies_and_no_more(
    url, disk, wanted, patient, taken, monkeypatch, capsys
):
    whole = store.Store.put

    def put(self, name, path):
        if name.startswith("unfinished/"):
            raise UserError("the network is down")
        return whole(self, name, path)

    monkeypatch.setattr(store.Store, "put", put)
    root = disk()
    taken(4)
    with pytest.raises(Stopped):
        run(root, url)
    said = capsys.readouterr().err
    assert said.count("attack: no copies of saving points (the network is down)") == 1
    assert [path.name[-4:] for path in (root / "unfinished").iterdir()] == [".0.4"]
    seen = taken()
    assert run(root, url) == wanted
    assert len(seen) == STEPS - 4


def test_what_a_killed_run_left_of_a_finished_stage_goes(url, disk, patient, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_forget", lambda *_: None)
        run(disk(), url)
    assert points(url) == list(range(1, STEPS + 1))
    run(disk(), url)
    assert rest(url) == []


def test_sigterm_does_not_wait_for_a_copy_and_leaves_the_last_one(
    url, disk, wanted, taken, monkeypatch
):
    """The first point is long in coming when SIGTERM does, within the second step."""
    whole, begun, second = store.Store.put, [], threading.Event()

    def put(self, name, path):
        if ".0.1/" in name and not begun:
            begun.append(name)
            assert second.wait(60)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return whole(self, name, path)

    monkeypatch.setattr(store.Store, "put", put)
    monkeypatch.setattr(mirror, "AT_ONCE", 1)
    step = loop.train_step

    def slow(*arguments, **options):
        if begun:
            second.set()
        time.sleep(0.1)
        return step(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", slow)
    with signals.stopped_by_sigterm(lambda: False), pytest.raises(signals.Terminated):
        run(disk(), url)
    [last] = points(url)
    assert last > 1  # of the first there is no whole copy
    assert len(rest(url)) == 1
    seen = taken()
    assert run(disk(), url) == wanted
    assert len(seen) == STEPS - last


def test_sigterm_while_a_point_is_saved_leaves_its_copy(url, disk, wanted, taken, monkeypatch):
    """No step comes after it that would save a later one."""
    put, save, begun = store.Store.put, savepoint._Saver._save, []

    def killing(self, name, path):
        if not begun:
            begun.append(name)
            os.kill(os.getpid(), signal.SIGTERM)
        return put(self, name, path)

    def until_it_came(self, losses):
        save(self, losses)
        while not self.stopped:
            time.sleep(0.01)

    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "put", killing)
        patch.setattr(savepoint._Saver, "_save", until_it_came)
        with signals.stopped_by_sigterm(lambda: False), pytest.raises(signals.Terminated):
            run(disk(), url)
    assert points(url) == [1]
    seen = taken()
    assert run(disk(), url) == wanted
    assert len(seen) == STEPS - 1
