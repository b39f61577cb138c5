"""The scores beside SIL's, against the same formulas in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack.errors import UserError
from jaxattack.localize import importance, scores
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.sharding import make_mesh
from jaxattack.tree import named_leaves


@pytest.fixture
def trees():
    rng = np.random.default_rng(0)

    def draw():
        return {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": {"c": np.float32([1, -2])}}

    return draw(), draw(), draw()


def leaves(tree):
    return {name: np.asarray(leaf, np.float64) for name, leaf in named_leaves(tree).items()}


@pytest.mark.parametrize(
    ("found", "formula"),
    [
        (lambda x, y, g: importance.change(x, y), lambda x, y, g: abs(y - x)),
        (lambda x, y, g: importance.size(x), lambda x, y, g: abs(x)),
        (lambda x, y, g: importance.snip(x, g), lambda x, y, g: abs(x * g)),
        (lambda x, y, g: scores.sil(x, y, g), lambda x, y, g: abs((y - x) * g)),
        (lambda x, y, g: importance.between(x, y, 0.25), lambda x, y, g: 0.75 * x + 0.25 * y),
        (lambda x, y, g: importance.mean(x, y, g), lambda x, y, g: (x + y + g) / 3),
    ],
    ids=["change", "size", "snip", "sil", "between", "mean"],
)
def test_elementwise_scores(found, formula, trees):
    by_name = [leaves(tree) for tree in trees]
    for name, leaf in leaves(found(*trees)).items():
        expected = formula(*(named[name] for named in by_name))
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-7)


def test_points_between_keep_the_type_of_the_weights():
    weights = {"a": jnp.ones(3, jnp.bfloat16)}
    assert importance.between(weights, weights, 0.5)["a"].dtype == weights["a"].dtype
    assert jax.tree.leaves(importance.size(weights))[0].dtype == np.float32


def test_wanda_against_the_inputs_that_torch_sees(tiny, make_batch):
    import torch

    batch = make_batch(rows=3)
    real = torch.tensor(batch["segment_ids"] > 0)
    seen = {}

    def watch(name):
        def hook(module, inputs):
            seen[name] = seen.get(name, 0) + inputs[0].detach().double()[real].square().sum(0)

        return hook

    matrices = {name: module for name, module in tiny.reference.named_modules() if "_proj" in name}
    handles = [m.register_forward_pre_hook(watch(name)) for name, m in matrices.items()]
    tokens = torch.tensor(batch["tokens"], dtype=torch.long)
    with torch.no_grad():
        tiny.reference(tokens, attention_mask=real.long())
    for handle in handles:
        handle.remove()
    parts = [{name: rows[i : i + 1] for name, rows in batch.items()} for i in range(3)]
    found = importance.wanda_scores(tiny.model, tiny.params, parts)
    for name, module in matrices.items():
        _, _, layer, where, matrix = name.split(".")
        ours = found["layers"]["attention" if where == "self_attn" else "mlp"]
        leaf = np.asarray(ours[matrix.removesuffix("_proj")][int(layer)])
        expected = (module.weight.detach().double().abs() * seen[name].sqrt()).numpy().T
        np.testing.assert_allclose(leaf.reshape(expected.shape), expected, rtol=1e-4, err_msg=name)
    assert not np.any(found["embed"])
    assert not np.any(found["layers"]["mlp_norm"])
    assert leaves(found).keys() == leaves(tiny.params).keys()


def test_wanda_is_zero_for_what_nothing_reads(make_checkpoint, make_batch):
    bloom = make_checkpoint(model_type="bloom", n_layer=2, n_head=4, hidden_size=32)
    found = importance.wanda_scores(bloom.model, bloom.params, [make_batch(rows=2)])
    scored = {name for name, leaf in leaves(found).items() if leaf.any()}
    assert scored == {
        f"layers/{name}" for name in ("attention/qkv", "attention/o", "mlp/up", "mlp/down")
    }


def test_the_inputs_of_layers_are_not_kept():
    """Twice the layers take no more memory beside what they are given."""

    def temporary(layers):
        config = ModelConfig(64, 16, layers, 2, 2, 8, 64, 1e-5, Rope(), True)
        model, mesh = Transformer(config), make_mesh((1, 1, 1))
        rows = jax.ShapeDtypeStruct((8, 256), np.int32)
        batch = {"tokens": rows, "segment_ids": rows}
        found = importance._squares.lower(model, mesh, abstract_params(model), batch).compile()
        return found.memory_analysis().temp_size_in_bytes

    inputs = 8 * 256 * (3 * 16 + 64) * 4  # of a layer
    assert temporary(16) - temporary(4) < 6 * inputs


def test_no_batches_are_refused(tiny):
    with pytest.raises(UserError, match="Wanda: no batches"):
        importance.input_norms(tiny.model, tiny.params, [])
