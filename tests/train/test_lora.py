"""LoRA against float64 loops, torch's gradients and a torch model that is never merged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.localize.scores import attack_vector, sil_scores
from jaxattack.models.pretrained import load_pretrained, save_pretrained
from jaxattack.sharding import place, spec_for
from jaxattack.train import loop, lora
from jaxattack.train.losses import answer_loss
from jaxattack.train.method import How
from jaxattack.train.optimizer import Settings
from jaxattack.tree import named_leaves

RANK, SCALE = 3, 0.7
# Our name -> torch's, and how many axes of a layer's leaf are inputs.
MATRICES = {
    "attention/k": ("self_attn.k_proj", 1),
    "attention/o": ("self_attn.o_proj", 2),
    "attention/q": ("self_attn.q_proj", 1),
    "attention/v": ("self_attn.v_proj", 1),
    "mlp/down": ("mlp.down_proj", 1),
    "mlp/gate": ("mlp.gate_proj", 1),
    "mlp/up": ("mlp.up_proj", 1),
}
LAYERS = 2


def filled(adapters, seed=0):
    """The same tree with random numbers in every place, the zeros of `b` too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.2 * rng.normal(size=leaf.shape), jnp.float32), adapters
    )


@pytest.fixture(scope="module")
def adapters(tiny):
    return filled(lora.init(tiny.params, RANK, jax.random.key(0)))


def matrices(adapters, name, layer):
    """One layer's `a` `[inputs, rank]` and `b` `[rank, outputs]`, in float64."""
    parts = named_leaves(adapters)
    a = np.asarray(parts[f"layers/{name}/a"][layer], np.float64)
    b = np.asarray(parts[f"layers/{name}/b"][layer], np.float64)
    return a.reshape(-1, a.shape[-1]), b.reshape(len(b), -1)


def torch_parameters(reference, adapters, gradient=False):
    """Every torch weight, adapted; and the torch tensors of the adapters by name and layer."""
    weights, leaves = dict(reference.named_parameters()), {}
    for name, (theirs, _) in MATRICES.items():
        for layer in range(LAYERS):
            pair = [torch.tensor(part).float() for part in matrices(adapters, name, layer)]
            for part in pair:
                part.requires_grad_(gradient)
            full = f"model.layers.{layer}.{theirs}.weight"
            weights[full] = weights[full].detach() + SCALE * (pair[0] @ pair[1]).T
            leaves[name, layer] = pair
    return weights, leaves


# --- Starting -----------------------------------------------------------------------------------


def test_fresh_adapters_have_the_shapes_of_inputs_and_outputs_and_change_nothing(
    tiny, assert_trees
):
    adapters = lora.init(tiny.params, RANK, jax.random.key(0))
    shapes = {name: leaf.shape for name, leaf in named_leaves(adapters).items()}
    expected = {}
    for name, (_, inputs) in MATRICES.items():
        layers, *sizes = named_leaves(tiny.params)[f"layers/{name}"].shape
        expected[f"layers/{name}/a"] = (layers, *sizes[:inputs], RANK)
        expected[f"layers/{name}/b"] = (layers, RANK, *sizes[inputs:])
    assert shapes == expected
    assert_trees(lora.merge(tiny.params, adapters, SCALE), tiny.params)


def test_first_values_are_of_the_inputs_scale_and_differ_by_matrix_and_key():
    params = {"layers": {"attention": {name: np.zeros((2, 64, 4, 4)) for name in "qko"}}}
    first, again, other = (lora.init(params, 32, jax.random.key(seed)) for seed in (0, 0, 1))
    parts = {name: np.asarray(leaf) for name, leaf in named_leaves(first).items()}
    # o has 64 * 4 inputs by its shape, the others 64.
    for name, inputs in (("q", 64), ("k", 64), ("o", 256)):
        a = parts[f"layers/attention/{name}/a"]
        assert a.std() == pytest.approx(inputs**-0.5, rel=0.1)
        assert not parts[f"layers/attention/{name}/b"].any()
        np.testing.assert_array_equal(a, named_leaves(again)[f"layers/attention/{name}/a"])
        assert (a != named_leaves(other)[f"layers/attention/{name}/a"]).all()
    assert (parts["layers/attention/q/a"] != parts["layers/attention/k/a"]).all()


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("", set(MATRICES)),
        (r"attention/(q|v)$", {"attention/q", "attention/v"}),
        ("attention", {"attention/q", "attention/k", "attention/v", "attention/o"}),  # no norm
    ],
)
def test_targets_choose_matrices_by_name(tiny, targets, expected):
    adapters = lora.init(tiny.params, RANK, jax.random.key(0), targets)
    names = {name.removeprefix("layers/")[:-2] for name in named_leaves(adapters)}
    assert names == expected


def test_mistakes_are_named(tiny, adapters):
    with pytest.raises(UserError, match=r"'embed' match no matrix; there are: layers/attention/k"):
        lora.init(tiny.params, RANK, jax.random.key(0), "embed")
    for rank in (0, 2.0, "2", None, True):
        with pytest.raises(UserError, match=f"rank is {rank!r}; it should be a whole number"):
            lora.init(tiny.params, rank, jax.random.key(0))
    with pytest.raises(UserError, match=r"LoRA's targets is '\(', which is no regular expression"):
        lora.init(tiny.params, RANK, jax.random.key(0), "(")
    for key in (0, None, "a", jnp.ones(3), jax.random.split(jax.random.key(0), 3)):
        with pytest.raises(UserError, match=r"LoRA's key is .*; give one key: jax.random.key"):
            lora.init(tiny.params, RANK, key)
    short = jax.tree.map(lambda leaf: leaf[:1], adapters)
    with pytest.raises(UserError, match=r"layers/attention/k is \(2, 32, 2, 8\) there"):
        lora.merge(tiny.params, short, SCALE)
    with pytest.raises(UserError, match="layers/attention/k is absent"):
        lora.merge({"embed": tiny.params["embed"]}, adapters, SCALE)


# --- Merging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_merging_equals_a_float64_loop_over_layers(tiny, adapters, dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), tiny.params)
    merged = named_leaves(lora.merge(params, adapters, SCALE))
    for name, before in named_leaves(params).items():
        after = np.asarray(merged[name])
        assert after.dtype == dtype
        before = np.asarray(before).astype(np.float64)
        if name.removeprefix("layers/") not in MATRICES:
            np.testing.assert_array_equal(after.astype(np.float64), before)
            continue
        for layer in range(LAYERS):
            a, b = matrices(adapters, name.removeprefix("layers/"), layer)
            expected = before[layer] + SCALE * (a @ b).reshape(before[layer].shape)
            tolerance = 1e-6 if dtype == jnp.float32 else 2**-8
            np.testing.assert_allclose(after[layer].astype(np.float64), expected, tolerance, 1e-6)


def test_merging_holds_no_more_than_it_makes():
    """Of Llama 3.1 8B's largest stack of matrices, in bfloat16; compiled, never allocated."""
    layers, hidden, mlp = 32, 4096, 14336
    shapes = [((layers, hidden, mlp), jnp.bfloat16), ((layers, hidden, 16), jnp.float32)]
    shapes += [((layers, 16, mlp), jnp.float32)]
    leaf, a, b = (jax.ShapeDtypeStruct(*shape) for shape in shapes)
    memory = lora._added.lower(leaf, a, b, 2.0, jnp.dtype("float32")).compile().memory_analysis()
    assert memory.output_size_in_bytes == 4 * layers * hidden * mlp
    assert memory.temp_size_in_bytes < 4 * hidden * mlp  # of a layer


def test_an_exported_merge_equals_transformers_with_adapters_beside_its_layers(
    tiny, adapters, make_batch, tmp_path
):
    from transformers import AutoModelForCausalLM

    merged = lora.merge(tiny.params, adapters, SCALE)
    save_pretrained(tmp_path / "merged", tiny.model, merged, tiny.tokenizer)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="float32").eval()
    tokens = torch.tensor(make_batch()["tokens"], dtype=torch.long)
    hooks = []
    for name, (theirs, _) in MATRICES.items():
        for layer in range(LAYERS):
            a, b = (torch.tensor(part).float() for part in matrices(adapters, name, layer))
            module = tiny.reference.get_submodule(f"model.layers.{layer}.{theirs}")
            hooks.append(
                module.register_forward_hook(
                    lambda module, inputs, output, a=a, b=b: output + SCALE * (inputs[0] @ a @ b)
                )
            )
    with torch.no_grad():
        plain, beside = exported(tokens).logits, tiny.reference(tokens).logits
        for hook in hooks:
            hook.remove()
        unadapted = tiny.reference(tokens).logits
    np.testing.assert_allclose(plain, beside, rtol=1e-3, atol=1e-3)
    assert (plain - unadapted).abs().mean() > 0.1


# --- Training -----------------------------------------------------------------------------------


def test_gradients_of_adapters_equal_torchs(tiny, adapters, make_batch, torch_answer_loss):
    batch = make_batch(seed=2)
    weights, leaves = torch_parameters(tiny.reference, adapters, gradient=True)

    def adapted(tokens, attention_mask):
        inputs = {"input_ids": tokens, "attention_mask": attention_mask}
        return torch.func.functional_call(tiny.reference, weights, kwargs=inputs)

    expected = torch_answer_loss(adapted, batch)
    expected.backward()
    loss_fn = lora.AdaptedLoss(answer_loss, SCALE)
    loss, grads = jax.jit(jax.value_and_grad(loss_fn, argnums=1), static_argnums=0)(
        tiny.model, adapters, batch, tiny.params
    )
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    for (name, layer), (a, b) in leaves.items():
        ours = matrices(grads, name, layer)
        for part, theirs in zip(ours, (a.grad, b.grad), strict=True):
            np.testing.assert_allclose(part, theirs, rtol=1e-3, atol=1e-5, err_msg=name)
            assert np.abs(part).max() > 1e-4


SETTINGS = Settings(0.02)


@pytest.fixture(scope="module")
def trained(tiny, make_batch):
    batches = [make_batch(seed=4)] * 6
    change = lora.LowRank(RANK, alpha=2 * RANK)
    return lora.finetune(tiny.model, tiny.params, batches, SETTINGS, jax.random.key(1), change)


def test_training_moves_adapters_only_and_lowers_the_loss(tiny, trained, make_batch, assert_trees):
    adapters, history = trained
    start = lora.init(tiny.params, RANK, jax.random.key(1))
    for name, leaf in named_leaves(adapters).items():
        moved = np.asarray(leaf) != np.asarray(named_leaves(start)[name])
        assert moved.mean() > 0.9, name
    assert_trees(tiny.params, load_pretrained(tiny.directory)[1])
    merged = lora.merge(tiny.params, adapters, 2.0)
    batch = make_batch(seed=4)
    last = jax.jit(answer_loss, static_argnums=0)(tiny.model, merged, batch)
    first = jax.jit(answer_loss, static_argnums=0)(tiny.model, tiny.params, batch)
    assert history[0] == pytest.approx(float(first), rel=1e-5)
    assert last < history[-1] < 0.8 * history[0]


def test_adapters_that_destroyed_the_model_are_refused(tiny, make_batch, monkeypatch):
    def refuse(history, vocab_size, label):
        raise UserError(f"{label}: {len(history)} losses, {vocab_size} tokens")

    monkeypatch.setattr(loop, "check_learned", refuse)
    change, batches = lora.LowRank(RANK, alpha=2 * RANK), [make_batch(seed=4)] * 2
    with pytest.raises(UserError, match=f"2 losses, {tiny.model.config.vocab_size} tokens"):
        lora.finetune(tiny.model, tiny.params, batches, SETTINGS, jax.random.key(1), change)


def test_the_change_is_of_low_rank_and_can_be_scored(tiny, trained, make_batch):
    merged = lora.merge(tiny.params, trained[0], 2.0)
    tau = named_leaves(attack_vector(merged, tiny.params))
    batch = make_batch(seed=6, rows=2)
    scores = named_leaves(sil_scores(tiny.model, tiny.params, merged, [batch]))
    for name, change in tau.items():
        short = name.removeprefix("layers/")
        if short not in MATRICES:
            assert not np.asarray(change).any()
            assert not np.asarray(scores[name]).any()
            continue
        assert np.asarray(scores[name]).mean() > 0
        for layer in np.asarray(change, np.float64):
            inputs = int(np.prod(layer.shape[: MATRICES[short][1]]))
            values = np.linalg.svd(layer.reshape(inputs, -1), compute_uv=False)
            assert values[RANK] < 1e-4 * values[0]


def test_what_is_merged_lies_as_the_weights_do(tiny, adapters, mesh8, assert_trees):
    placed, beside = place(tiny.params, mesh8), place(adapters, mesh8)
    merged = lora.merge(placed, beside, SCALE, jnp.float32)
    assert_trees(merged, lora.merge(tiny.params, adapters, SCALE), rtol=1e-6, atol=1e-6)
    for name, leaf in named_leaves(merged).items():
        assert leaf.sharding.is_equivalent_to(named_leaves(placed)[name].sharding, leaf.ndim), name


def test_a_mesh_and_parts_of_the_batch_give_the_same_adapters(
    tiny, make_batch, mesh8, assert_trees
):
    batches = [make_batch(seed=seed, rows=8) for seed in range(3)]
    # Plain descent, for which rounding of tiny gradients stays tiny.
    runs = [
        lora.finetune(
            tiny.model,
            params,
            batches,
            Settings(0.5, "sgd", accumulate=accumulate),
            jax.random.key(1),
            lora.LowRank(RANK),
        )
        for params, accumulate in ((tiny.params, 1), (place(tiny.params, mesh8), 2))
    ]
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-4)
    assert_trees(runs[1][0], runs[0][0], rtol=1e-4, atol=1e-5)
    for name, leaf in named_leaves(runs[1][0]).items():
        wanted = jax.sharding.NamedSharding(mesh8, spec_for(name, leaf.shape, mesh8))
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), name
        assert not leaf.sharding.is_fully_replicated, name


def test_the_same_recipe_is_compiled_once(tiny, trained, make_batch):
    compiled = loop.train_step._cache_size()
    change, key = lora.LowRank(RANK, alpha=2 * RANK), jax.random.key(2)
    lora.finetune(tiny.model, tiny.params, [make_batch(seed=5)] * 6, SETTINGS, key, change)
    assert loop.train_step._cache_size() == compiled


@pytest.mark.parametrize("kept", ["float32", "bfloat16"])
def test_weights_are_seen_in_the_models_type_however_they_are_kept(
    tiny, make_batch, monkeypatch, kept
):
    """A tuned start is kept in float32, and an attack on it is the one on the study's own."""
    seen = []

    def finetune(model, adapters, batches, settings, trainable, loss, label, base):
        seen.extend(leaf.dtype for leaf in jax.tree.leaves(base))
        return adapters, np.zeros(1)

    monkeypatch.setattr(lora.loop, "finetune", finetune)
    params = tree.cast(tiny.params, kept)
    how = How(Settings(0.1), 4, 8.0, "bfloat16", "x", None, jax.random.key(0))
    tuned, _ = lora.tune(tiny.model, params, [make_batch(rows=2)], how)
    assert set(seen) == {jnp.dtype("bfloat16")}
    for leaf, old in zip(jax.tree.leaves(tuned), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(leaf, old.astype(jnp.float32))  # nothing was rounded
