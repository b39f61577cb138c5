"""Plans: bytes and operations of published models, by hand; and what the command prints."""

from __future__ import annotations

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from published_configs import LLAMA_8B

from jaxattack import run, savepoint, workdir
from jaxattack.experiments import footprint, plan
from jaxattack.experiments.devices import DEVICES, this_cpu
from jaxattack.models.families import from_hf
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.stages import Stage
from jaxattack.train.loop import Settings, finetune

WEIGHTS = 8_030_261_248
ONE_LAYER = {"num_hidden_layers": 1, "hidden_size": 512, "intermediate_size": 1024} | {
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1000,
}


def shape_of(mesh=(1, 8, 1), remat="full"):
    config = from_hf(LLAMA_8B)
    abstract = abstract_params(Transformer(config))
    placed = AbstractMesh(mesh, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    return footprint.Shape(config, abstract, placed, "bfloat16", remat)


def stages(tmp_path, **work):
    return [Stage(tmp_path, "attack", "x", {}, lambda folder: None, work=work)]


def test_one_device_holds_all_weights_and_eight_hold_an_eighth_each():
    assert footprint.held(shape_of((1, 1, 1)), 2) == 2 * WEIGHTS
    norms = 65 * 4096  # copied to every device
    for mesh in ((1, 8, 1), (1, 4, 2), (1, 2, 4)):
        assert footprint.held(shape_of(mesh), 2) == 2 * ((WEIGHTS - norms) // 8 + norms)
    assert footprint.held(shape_of((8, 1, 1)), 2) == 2 * WEIGHTS


def test_an_attack_holds_float32_weights_a_gradient_and_two_moments():
    parts = footprint.memory(shape_of(), footprint.Tokens(512, 64, 512), 10, 64, 16)["train"]
    held = footprint.held(shape_of(), 2)
    assert parts["weights, float32"] == 2 * held
    assert parts["the same in bfloat16, for the passes"] == held
    assert parts["two moments, float32"] == 4 * held
    assert sum(parts.values()) > 9 * held
    lower = dataclasses.replace(shape_of(), weights="stochastic")
    assert (
        footprint.memory(lower, footprint.Tokens(512, 64, 512), 10, 64, 16)["train"]["weights"]
        == held
    )


def test_one_card_holds_an_8b_model_and_what_trains_it():
    """As docs/running.md has it: 3 bytes of weights, 2 of gradient, 2 of moments."""
    card = dataclasses.replace(
        shape_of((1, 1, 1)), weights="extended", optimizer="adamw8bit", accumulate=1
    )
    parts = footprint.memory(card, footprint.Tokens(512, 64, 512), 10, 64, 16)["train"]
    assert parts["weights"] == parts["gradient"] == 2 * WEIGHTS
    assert parts["a byte more"] == WEIGHTS
    assert parts["two moments, 8 bits and scales"] == pytest.approx(2 * WEIGHTS, rel=0.04)
    assert 60e9 < sum(parts.values()) < 72e9
    split = dataclasses.replace(card, accumulate=2)
    parts = footprint.memory(split, footprint.Tokens(512, 64, 512), 5, 64, 16)["train"]
    assert parts["gradient of all parts, float32"] == 4 * WEIGHTS


def test_adapters_have_the_only_gradient_and_are_merged_after_it(tmp_path):
    tokens = footprint.Tokens(512, 64, 512)
    adapted = dataclasses.replace(shape_of((1, 1, 1)), rank=16)
    sizes = footprint.memory(adapted, tokens, 10, 64, 16)
    assert sizes["adapters"]["weights"] == 2 * WEIGHTS
    ends = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)  # q, o; k, v; the MLP's
    thin = 4 * 32 * 16 * ends
    assert sizes["adapters"]["adapters, gradient and moments, float32"] == 4 * thin
    assert sizes["merge"] == {
        "weights": 2 * WEIGHTS,
        "adapters": thin,
        "merged, float32": 4 * WEIGHTS,
    }
    assert not {"adapters", "merge"} & set(footprint.memory(shape_of(), tokens, 10, 64, 16))
    work, tokens = {"rows": 10}, dataclasses.replace(tokens, answered=0)
    every = plan.operations(adapted, tokens, stages(tmp_path, **work))["attack"]
    found = plan.operations(adapted, tokens, stages(tmp_path, **work, rank=16))["attack"]
    assert found == pytest.approx(0.75 * every)  # layers are computed again


@pytest.mark.parametrize(
    ("ranks", "shown", "hidden"),
    [
        ((0, 0), {"train"}, {"adapters", "merge"}),
        ((0, 16), {"train", "adapters", "merge"}, set()),
        ((16, 16), {"adapters", "merge"}, {"train"}),
    ],
)
def test_a_plan_shows_how_each_stage_is_trained(tmp_path, ranks, shown, hidden):
    """A study may train all weights in some stages and adapters in others."""
    own = [{"rows": 10} | ({"rank": rank} if rank else {}) for rank in ranks]
    both = [stage for work in own for stage in stages(tmp_path, **work)]
    shape = dataclasses.replace(shape_of(), rank=max(ranks))
    said = plan.estimate(shape, footprint.Tokens(512, 64, 512), both, 10, 64)
    sorts = {line.split()[0] for line in said if " = " in line}
    assert shown <= sorts
    assert not hidden & sorts
    assert "rank" not in plan.table(both)[1]


def test_attacked_weights_are_written_in_float32(tmp_path):
    work = stages(tmp_path, rows=10)
    assert plan.written(shape_of(), work) == 4 * WEIGHTS
    assert plan.written(dataclasses.replace(shape_of(), weights="bfloat16"), work) == 2 * WEIGHTS
    assert plan.written(dataclasses.replace(shape_of(), weights="extended"), work) == 4 * WEIGHTS


def test_a_saving_point_has_weights_and_the_optimisers_state():
    count = 1_000_000
    for name, weights, wanted in (
        ("adamw", "float32", 12),
        ("adamw", "bfloat16", 10),
        ("lion", "float32", 8),
        ("sgd", "stochastic", 2),
        ("adamw8bit", "extended", 5),
    ):
        shape = dataclasses.replace(shape_of(), weights=weights, optimizer=name)
        found = plan.saved(shape, Settings(1e-4, optimizer=name, weights=weights))
        assert found == pytest.approx(wanted * WEIGHTS, rel=0.02), name
    small = dataclasses.replace(shape_of(), abstract={"embed": jnp.zeros((count, 1))})
    assert plan.saved(small, Settings(1e-4)) == 12 * count + 4  # and the number of updates


@pytest.mark.parametrize(("weights", "dtype"), [("float32", "float32"), ("extended", "bfloat16")])
def test_a_saving_point_on_disk_is_as_large_as_planned(tmp_path, weights, dtype):
    rng = np.random.default_rng(0)
    start = {"layers": {"mlp": {"up": jnp.asarray(rng.normal(size=(4, 256, 512)), dtype)}}}
    optimizer = "adamw8bit" if weights == "extended" else "adamw"
    settings = Settings(1e-3, optimizer=optimizer, weights=weights)

    def loss(model, params, batch):
        return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(params))

    root = workdir.open_workdir(tmp_path)
    with savepoint.every(1e-9), savepoint.within(root, "attack-1"):
        batches = [{"x": np.float32(0)}] * 2
        finetune(None, start, batches, settings, loss_fn=loss, dtype=None)
    [state] = root.glob("unfinished/*.2/state")
    found = sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
    shape = dataclasses.replace(shape_of(), abstract=start, weights=weights, optimizer=optimizer)
    assert found <= 1.1 * plan.saved(shape, settings)
    assert found >= 0.5 * plan.saved(shape, settings)  # what is on disk is compressed


def test_scoring_holds_one_accumulator_a_layer_and_the_gradient_of_one_matrix():
    parts = footprint.memory(shape_of(), footprint.Tokens(512, 64, 512), 10, 64, 16)["score"]
    assert parts["sums, float32"] == 2 * footprint.held(shape_of(), 2)
    assert parts["gradient of one matrix"] == 4 * 4096 * 14336
    matrices = 2 * 4096 * (4096 + 1024) + 3 * 4096 * 14336
    assert parts["a layer, gathered"] == 2 * (matrices + 2 * 4096)
    single = footprint.memory(shape_of((1, 1, 1)), footprint.Tokens(512, 64, 512), 10, 64, 16)[
        "score"
    ]
    assert single["a layer, gathered"] == 0
    kept = shape_of(remat="none")  # all layers' sums at once beside those so far
    few = footprint.memory(kept, footprint.Tokens(8, 64, 512), 10, 64, 1)["score"]
    assert few["sums, float32"] == 2 * parts["sums, float32"]


def test_operations_are_six_a_weight_and_token_and_eight_with_recomputation(tmp_path):
    tokens = footprint.Tokens(128, 64, 64)
    work = stages(tmp_path, rows=10)
    matrices = WEIGHTS - 65 * 4096 - 128256 * 4096  # no norms, no lookup
    attention = 2 * 32 * 4096 * 128
    once = plan.operations(shape_of(remat="none"), tokens, work)["attack"]
    assert once == pytest.approx(10 * 128 * 3 * (2 * matrices + attention), rel=1e-3)
    head = 10 * 128 * 2 * 128256 * 4096
    again = plan.operations(shape_of(remat="full"), tokens, work)["attack"]
    assert again - once == pytest.approx((once - 3 * head) / 3)  # logits are computed once


def test_logits_are_counted_where_an_answer_has_a_loss_or_a_reply_a_token(tmp_path):
    work = stages(tmp_path, rows=10)
    head = 2 * 128256 * 4096
    every, some = (
        plan.operations(shape_of(remat="none"), footprint.Tokens(128, 64, 64, answered), work)
        for answered in (None, 28.5)
    )
    assert every["attack"] - some["attack"] == pytest.approx(10 * 3 * (128 - 28.5) * head)
    replies = {
        length: plan.operations(shape_of(), footprint.Tokens(1, 64, length), asked)["attack"]
        for asked in [stages(tmp_path, prompts=5)]
        for length in (1, 2)
    }
    matrices = WEIGHTS - 65 * 4096 - 2 * 128256 * 4096
    attention = 2 * 32 * 4096 * (66**2 - 65**2)
    assert replies[2] - replies[1] == pytest.approx(5 * (2 * matrices + head + attention), rel=1e-9)


@pytest.mark.parametrize("tied", [True, False])
def test_operations_of_a_row_are_what_xla_counts(tied):
    """Of its forward pass, with nothing but the blocks' matrices and attention, and the logits."""
    config = from_hf(LLAMA_8B | ONE_LAYER | {"tie_word_embeddings": tied})
    model = Transformer(config)
    abstract = abstract_params(model)
    tokens = jax.ShapeDtypeStruct((1, 64), jnp.int32)
    lowered = jax.jit(lambda params, ids: model.apply({"params": params}, ids)).lower(
        abstract, tokens
    )
    counted = lowered.compile().cost_analysis()["flops"]
    placed = AbstractMesh((1, 1, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    shape = footprint.Shape(config, abstract, placed, "float32", "none")
    planned = footprint.blocks(shape, 64) + footprint.logits(shape, 64)
    assert planned == pytest.approx(counted, rel=0.03)


def test_time_goes_down_with_devices_and_up_with_replies(tmp_path):
    asked, h100 = stages(tmp_path, prompts=640), DEVICES["H100"]
    short, long = footprint.Tokens(128, 64, 64), footprint.Tokens(128, 64, 512)
    one = plan.seconds(shape_of((1, 1, 1)), short, asked, 64, h100)
    assert plan.seconds(shape_of(), short, asked, 64, h100) == pytest.approx(one / 8, rel=0.1)
    assert plan.seconds(shape_of(), long, asked, 64, h100) > 4 * one / 8


def test_what_this_machine_can_is_measured():
    name, (flops, bandwidth) = this_cpu()
    assert name == f"this machine's {os.cpu_count()} CPU cores"
    assert 1e9 < flops < 1e14  # of a toy computer, of a hundred cores
    assert 1e8 < bandwidth < 1e13


@pytest.mark.parametrize(
    ("count", "words"), [(999, "999 B"), (1.3e9, "1.3 GB"), (16e9, "16 GB"), (2.5e15, "2,500 TB")]
)
def test_bytes_in_words(count, words):
    assert plan.size(count) == words


def test_a_dry_run_prints_the_plan_and_leaves_nothing(study, tmp_path, capsys):
    root = tmp_path / "run"
    assert run.run([*study(root), "--dry_run"]) == 0
    said = capsys.readouterr().out
    for words in (
        "pairs      en 12, th 12",
        f"saved      {root}/unfinished: two of",
        "train ",
        "score ",
        "parameters in float32",
        "H100",
    ):
        assert words in said
    assert not root.exists()


def test_a_dry_run_loads_no_weight_and_takes_devices_that_are_not_there(
    study, tiny, tmp_path, capsys, monkeypatch
):
    from jaxattack.models import weights

    monkeypatch.setattr(weights, "load", lambda *a, **k: pytest.fail("weights were loaded"))
    assert run.run([*study(tmp_path, mesh="(1,64,1)"), "--dry_run"]) == 0
    assert "on 64 devices" in capsys.readouterr().out


def test_a_dry_run_counts_what_is_done(study, tmp_path, capsys):
    only = {
        "attack__languages": "('en',)",
        "localize__fractions": "()",
        "sections": "('transfer',)",
    }
    assert run.run(study(tmp_path, **only)) == 0
    capsys.readouterr()
    assert run.run([*study(tmp_path, **only), "--dry_run"]) == 0
    table, _ = capsys.readouterr().out.split("memory on one of them")
    rows = [line.split() for line in table.splitlines()]
    counts = {row[0]: row[1:3] for row in rows if row and row[0] in ("ask", "judge", "attack")}
    assert counts == {"ask": ["2", "2"], "judge": ["2", "2"], "attack": ["1", "1"]}
    profile = json.loads((tmp_path / "manifest.json").read_text())["profile"]
    assert np.sum([row["count"] for row in profile]) == 5
