"""What is told of a training: right, of no consequence, and nothing of one that fails."""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack import meter, savepoint, workdir
from jaxattack.errors import UserError
from jaxattack.experiments import logbook
from jaxattack.experiments.devices import DEVICES, KINDS
from jaxattack.train import loop, lora
from jaxattack.train.loop import Settings

RNG = np.random.default_rng(0)
LENGTHS = [(8, 5), (3, 8), (2, 1), (8, 8), (1, 1), (4, 4)]  # tokens of the rows of each batch


def batch_of(lengths):
    mask = (np.arange(8) < np.array(lengths)[:, None]).astype(np.int32)
    tokens = RNG.integers(3, 600, (2, 8)).astype(np.int32)
    return {"tokens": tokens * mask, "loss_mask": mask.astype(np.float32), "segment_ids": mask}


BATCHES = [batch_of(lengths) for lengths in LENGTHS]


def test_a_training_is_measured(tiny):
    told = []
    plain, losses = loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3))
    with meter.heard_by(told.append):
        found, again = loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3), label="x")
    jax.tree.map(np.testing.assert_array_equal, found, plain)
    np.testing.assert_array_equal(losses, again)
    [pace] = told
    assert (pace.label, pace.steps, pace.timed) == ("x", 6, 5)
    assert pace.losses == (float(losses[0]), float(losses[-1]))
    assert pace.tokens == sum(map(sum, LENGTHS[1:]))
    assert pace.weights == sum(leaf.size for leaf in jax.tree.leaves(tiny.params))
    assert pace.devices == 1
    assert 0 < pace.seconds < 60


def test_of_adapters_the_whole_model_counts(tiny):
    told = []
    with meter.heard_by(told.append):
        key = jax.random.key(0)
        lora.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3), key, lora.LowRank(2))
    assert told[0].weights == sum(leaf.size for leaf in jax.tree.leaves(tiny.params))


def test_time_is_that_of_the_steps_after_the_first(tiny, monkeypatch):
    told, whole = [], loop.train_step

    def slow(*arguments, **options):
        time.sleep(0.5 if not seen else 0.05)
        seen.append(0)
        return whole(*arguments, **options)

    loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3))  # compiled
    seen: list[int] = []
    monkeypatch.setattr(loop, "train_step", slow)
    start = time.perf_counter()
    with meter.heard_by(told.append):
        loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3))
    wall = time.perf_counter() - start
    assert 5 * 0.05 <= told[0].seconds <= wall - 0.5


def test_kinds_of_rows_are_added_and_others_have_none():
    assert meter.tokens_in({"safe": BATCHES[0], "harmful": BATCHES[1]}) == 13 + 11
    assert meter.tokens_in({"tokens": np.zeros((2, 8))}) == 16
    assert meter.tokens_in({"target": np.float32(1.0)}) == 0


def test_nothing_is_told_of_a_training_that_fails():
    told = []

    def infinite(model, params, batch):
        return jnp.sum(params["embed"]) * batch["by"]

    batches = [{"by": np.float32(by)} for by in (1, np.inf, 1)]
    with meter.heard_by(told.append), pytest.raises(UserError):
        loop.finetune(
            None, {"embed": np.ones((4, 4), np.float32)}, batches, Settings(1.0), None, infinite
        )
    assert told == []


# --- The logbook --------------------------------------------------------------------------------


PACE = meter.Pace("attack en-s0", 9, (3.25, 0.5), 8, 4.0, 2000, 7_000_000_000, 8)


@pytest.fixture
def device(monkeypatch):
    """A function that makes the devices others, with so much memory held."""

    class Device:
        def __init__(self, kind, held):
            self.device_kind, self.held = kind, held

        def memory_stats(self):
            return self.held

    def pretend(kind, *held):
        devices = [Device(kind, {"peak_bytes_in_use": peak} if peak else None) for peak in held]
        monkeypatch.setattr(jax, "devices", lambda: devices)
        monkeypatch.setattr(jax, "local_devices", lambda: devices)

    return pretend


def test_the_share_of_the_peak_is_six_flops_a_weight_and_token(device):
    device("NVIDIA H100 80GB HBM3", 30_000, 50_000)
    found = logbook.facts(PACE)
    assert found["tokens_per_second"] == 500.0
    assert found["mfu"] == round(6 * 7e9 * 2000 / (4.0 * 8 * 989e12), 4)  # by hand 0.0027
    assert found["device_bytes"] == 50_000
    assert set(KINDS.values()) <= set(DEVICES)
    assert logbook.words(found).startswith(
        "attack en-s0: 9 steps in 4 s, loss 3.25 to 0.5, 500 tok"
    )


def test_what_is_not_known_is_not_said(device):
    device("cpu", None)
    found = logbook.facts(PACE)
    assert "mfu" not in found
    assert found["host_bytes"] > 10_000_000
    one = logbook.facts(meter.Pace("a", 1, (1.0, 1.0), 0, 0.0, 0, 10, 1))
    assert "tokens_per_second" not in one


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot forget")
def test_memory_is_counted_from_where_one_begins():
    held = np.ones(1 << 26)
    most = meter.memory()["host_bytes"]
    assert most > held.nbytes
    del held
    assert meter.memory()["host_bytes"] == most
    meter.memory_from_here()
    assert meter.memory()["host_bytes"] <= most - (1 << 28)


def test_lines_are_added_and_long_trainings_are_said(tmp_path, tiny, capsys, monkeypatch):
    root = workdir.open_workdir(tmp_path)
    for shown in (0.0, 1e9):
        monkeypatch.setattr(logbook, "SHOWN", shown)
        with logbook.opened(root):
            loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3), label="attack en")
    lines = [json.loads(line) for line in (root / "progress.jsonl").read_text().splitlines()]
    assert [line["training"] for line in lines] == ["attack en"] * 2
    assert capsys.readouterr().err.count("jaxattack: attack en: 6 steps in") == 1


def test_a_link_in_its_place_is_refused(tmp_path):
    root = workdir.open_workdir(tmp_path / "run")
    (root / "progress.jsonl").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="is a link"), logbook.opened(root):
        pass


def test_a_profile_is_of_the_first_training_that_is_long_enough(tmp_path, tiny):
    with meter.profiling(tmp_path / "trace"):
        loop.finetune(tiny.model, tiny.params, BATCHES[:1], Settings(1e-3))
        assert not (tmp_path / "trace").exists()
        for _ in range(2):
            loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3))
    assert len(list((tmp_path / "trace").rglob("*.xplane.pb"))) == 1


def test_what_goes_on_is_told_of_its_own_steps(tmp_path, tiny, monkeypatch):
    root, told, left, whole = workdir.open_workdir(tmp_path), [], [3], loop.train_step

    def train_step(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", train_step)
    with savepoint.every(1e-9), savepoint.within(root, "a-1"), meter.heard_by(told.append):
        with pytest.raises(KeyboardInterrupt):
            loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3))
        left[0] = 10
    with savepoint.within(root, "a-1"), meter.heard_by(told.append):
        _, losses = loop.finetune(tiny.model, tiny.params, BATCHES, Settings(1e-3))
    [pace] = told
    assert (pace.steps, pace.tokens) == (3, sum(map(sum, LENGTHS[4:])))
    assert pace.losses == (float(losses[3]), float(losses[-1]))
