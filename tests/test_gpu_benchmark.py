"""The GPU benchmark in miniature, on a CPU: every part's figures, and that they can be wrong."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import aot, bench, decode, parity, sil, train
from jaxattack import tree
from jaxattack.models.transformer import Transformer, abstract_params

SMALL = bench.Bench(True, math.inf, None)
GUESSING = math.log(bench.SMALL["vocab_size"])


def found(case):
    row = command.tried(SMALL, case)
    assert "failed" not in row, row["failed"]
    assert json.loads(json.dumps(row)) == row
    assert command.line(row).startswith(row["part"])
    return row


def named(cases, *words):
    [case] = [case for case in cases if all(word in case.name for word in words)]
    return case


def test_parity():
    cases = parity.cases(SMALL)
    row = found(named(cases, "packed segments", "by a mask"))
    assert row["ok"]
    assert 0 < row["forward off by"] < 0.02  # bfloat16 beside float32
    assert 0 < row["gradient off by"] < 0.02
    assert found(named(cases, "by lengths"))["ok"]
    assert found(named(cases, "padding on the left"))["ok"]


def test_a_kernel_that_is_wrong_is_not_ok():
    def blind(q, k, v, seen, scale):
        everyone = jnp.tril(jnp.ones_like(seen.mask))
        return parity.plain(q, k, v, parity.Seen(everyone, seen.real), scale)

    row = parity.measure("packed segments", (2, 32, 4, 2, 16), blind, "float32")
    assert not row["ok"]
    nothing = {"a": jnp.full(3, jnp.nan)}
    assert parity.furthest(nothing, {"a": jnp.ones(3)}) == math.inf


def test_places_of_parity():
    seen = parity.packed(2, 40)
    segments = [[3] * 8 + [2] * 12 + [1] * 16 + [0] * 4, [3] * 7 + [2] * 12 + [1] * 16 + [0] * 5]
    for row, of_row in enumerate(segments):
        wanted = [[i >= j and of_row[i] == of_row[j] for j in range(40)] for i in range(40)]
        np.testing.assert_array_equal(seen.mask[row], wanted)
        np.testing.assert_array_equal(seen.real[row], np.array(of_row) > 0)
    left = parity.padded_left(2, 8)  # the second row begins in slot 2
    wanted = [[(j >= 2 or i == j) and j <= i for j in range(8)] for i in range(8)]
    np.testing.assert_array_equal(left.mask[1], wanted)


@pytest.mark.parametrize(
    "words",
    [
        ("8B, one card", "length 32"),
        ("8B, LoRA", "length 32"),
        pytest.param(("1B, AdamW", "length 32"), marks=pytest.mark.slow),
    ],
)
def test_a_training_step(words):
    row = found(named([case for some in train.cases(SMALL) for case in some], *words))
    assert row["first loss"] == pytest.approx(GUESSING, abs=0.3)
    assert row["last loss"] < row["first loss"]
    assert row["tokens/s"] == pytest.approx(2 * 32 / row["step s"])
    assert row["MFU, 6N"] is None
    if row["plan GB"] is not None:
        assert 0.5 < row["compiled GB"] / row["plan GB"] < 2


def test_shares_of_the_peak(monkeypatch):
    """Half a second a step on an H100, counted by hand."""
    monkeypatch.setattr(bench, "median_seconds", lambda step, *_: step() is None or 0.5)
    monkeypatch.setattr(train, "WARMUP", 0)
    weights = 512 * 64 * 2 + 64 + 2 * (64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64)
    about = bench.Bench(True, math.inf, "H100")
    row = train.measure(about, "8B", "LoRA", 32, 4)
    assert row["MFU, 6N"] == pytest.approx(6 * weights * 4 * 32 / 0.5 / 989e12)
    assert row["MFU, 4N"] == pytest.approx(row["MFU, 6N"] * 4 / 6)


def test_decoding():
    cases = decode.cases(SMALL)
    row = found(named(cases, "64", "scan"))
    assert row["tokens/s"] == pytest.approx(4 * 1000 / row["token ms"])
    assert row["prefill tokens/s"] == pytest.approx(4 * 16 / row["prefill s"])
    assert row["of the bandwidth"] is None


def test_bytes_that_every_token_reads():
    for shape, table in (("8B", 512 * 64 * 2), ("1B", 0)):
        model = Transformer(SMALL.config(shape))
        params = bench.random_weights(model, bench.mesh_here())
        assert decode.read_bytes(model, params) == tree.size(params) * 2 - table


def test_sil():
    row = found(sil.cases(SMALL)[0])
    assert 0 < row["s for 100 pairs"] < 100
    assert row["product s"] > 0


def test_weights_are_random_and_norms_one():
    model = Transformer(SMALL.config("8B"))
    params = tree.named_leaves(bench.random_weights(model, bench.mesh_here()))
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype("bfloat16")}
    assert np.all(np.asarray(params["final_norm"]) == 1)
    embed = np.asarray(params["embed"], np.float32)
    assert embed.std() == pytest.approx(bench.STD, rel=0.05)
    assert not np.array_equal(embed, np.asarray(params["head"], np.float32))


@pytest.mark.parametrize(("shape", "weights"), [("1B", 1235814400), ("8B", 8030261248)])
def test_the_shapes_are_those_of_llama(shape, weights):
    """As many as the makers' checkpoints have."""
    config = bench.Bench(False, 0.0, None).config(shape)
    assert tree.size(abstract_params(Transformer(config))) == weights


def test_what_no_time_is_left_for_is_left_out():
    about = bench.Bench(False, 0.0, None)
    case = bench.Case("train", "never", 1.0, lambda: pytest.fail("it was run"))
    [words] = command.tried(about, case)["failed"]
    assert words.startswith("left out")


def test_the_next_attempt_follows_one_that_fails():
    def run(rows):
        if rows > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED:  out of\nmemory")
        return {"rows": rows}

    attempts = [{"rows": 4}, {"rows": 2}, {"rows": 1}]
    row = command.tried(SMALL, bench.Case("train", "large", 1.0, run, attempts))
    assert row["rows"] == 2
    assert row["failed"] == ["{'rows': 4}: RuntimeError: RESOURCE_EXHAUSTED: out of memory"]
    row = command.tried(SMALL, bench.Case("train", "large", 1.0, run, attempts[:1]))
    assert len(row["failed"]) == 1


def test_every_case_is_run_once_and_its_row_kept(tmp_path):
    about = bench.Bench(False, 0.0, None)
    cases = command.in_order(about)
    assert len({(case.part, case.name) for case in cases}) == len(cases)
    assert {case.part for case in cases} == set(command.PARTS)
    needs = sum(case.needs for case in cases[:9])
    assert needs < 8 * 60  # what matters most fits into the time
    with command.opened(tmp_path / "rows.jsonl") as write:
        write({"part": "sil"})
        assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"part": "sil"}


@pytest.mark.slow  # half a minute to compile
def test_memory_is_counted_without_any():
    before = {id(array) for array in jax.live_arrays()}
    rows = list(aot.rows(small=True))
    assert [row["part"] for row in rows] == ["train", "train", "sil", "decode", "decode"]
    assert all(row["compiled GB"] > 0 for row in rows)
    assert sum(a.nbytes for a in jax.live_arrays() if id(a) not in before) < 1e5


def test_the_command_line():
    options = command.parsed(["--small", "--only", "train", "--flags", "slices", "cublas"])
    assert options.only == ["train"]
    flags = functools.reduce(lambda text, name: text + command.FLAGS[name], options.flags, "")
    assert flags.count("--xla_gpu") == 2
    with pytest.raises(SystemExit):
        command.parsed(["--only", "everything"])
