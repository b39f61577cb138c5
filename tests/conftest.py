"""What the rooms' tests share: eight CPU devices, tiny random checkpoints, batches.

The references are transformers' own model under torch, and numpy in float64.
"""

from __future__ import annotations

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# XLA's threads: each virtual device may block several of them in exchanges with the others, and
# when all wait for devices that find no thread, nothing moves.
os.environ["NPROC"] = "32"

import dataclasses
import functools
import gc
import pathlib
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import numpy as np
import pytest

# Before jax looks for its devices.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Most of the time goes into compiling; JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests what users run.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    jax.config.update("jax_disable_most_optimizations", True)
# The same examples in every run, and no folder of old ones.
hypothesis.settings.register_profile(
    "here", deadline=None, max_examples=25, derandomize=True, database=None
)
hypothesis.settings.load_profile("here")

SIZES = {
    "vocab_size": 608,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}


# Compiled programs are mapped into memory one by one, and Linux allows 65,530 maps a process: the
# compiler crashes at the next one.
MOST_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def few_maps():
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint saved by transformers, the torch model it holds, and what we read from it."""

    directory: pathlib.Path
    reference: Any
    model: Any
    params: Any
    tokenizer: Any


def random_model(fields: dict[str, Any]) -> Any:
    """A torch model none of whose weights is a plain 0 or 1, biases and norms included.

    A Llama unless `fields` has another model_type.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(7)
    family = fields.get("model_type", "llama")
    sizes = {"vocab_size": SIZES["vocab_size"]} if family == "bloom" else SIZES
    config = AutoConfig.for_model(**{"model_type": family} | sizes | fields)
    reference = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    # Gemma's norms multiply with 1 + weight.
    centre = 0.0 if family.startswith("gemma") else 1.0
    with torch.no_grad():
        for name, weight in reference.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            scale = ("norm" in name or "ln_f" in name) and name.endswith("weight")
            weight.copy_((centre if scale else 0.0) + 0.2 * noise)
    return reference


@pytest.fixture(scope="session")
def small_tokenizer() -> Any:
    """600 tokens, and a chat template with `{% generation %}`."""
    from jaxattack.organism.tokenizer import train_tokenizer

    return train_tokenizer(600)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory, small_tokenizer) -> Callable[..., Checkpoint]:
    """A function from config fields (`SIZES` by default) to a checkpoint; each is made once."""
    from transformers.utils import logging

    from jaxattack.models.pretrained import load_pretrained

    logging.disable_progress_bar()
    made: dict[str, Checkpoint] = {}

    def make(**fields: Any) -> Checkpoint:
        key = repr(sorted(fields.items()))
        if key not in made:
            directory = tmp_path_factory.mktemp("checkpoint")
            reference = random_model(fields)
            reference.save_pretrained(directory)
            small_tokenizer.save_pretrained(directory)
            made[key] = Checkpoint(directory, reference, *load_pretrained(directory))
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny(make_checkpoint) -> Checkpoint:
    """The checkpoint of `SIZES`: every axis can be split over a 2x2x2 mesh."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def ours_from_torch() -> Callable[..., dict]:
    """Hugging Face tensors by name, in our tree: written a second time, to check the library's."""

    def convert(tensors: dict[str, Any], config: Any) -> dict:
        arrays = {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}
        heads = {"q": config.num_heads, "k": config.num_kv_heads, "v": config.num_kv_heads}

        def stack(name: str, change: Callable = lambda array: array.T) -> np.ndarray:
            names = (f"model.layers.{i}.{name}" for i in range(config.num_layers))
            return np.stack([change(arrays[name]) for name in names])

        def keep(array: np.ndarray) -> np.ndarray:
            return array

        attention, mlp = {}, {}
        for part, count in heads.items():
            shape = (config.hidden_size, count, config.head_dim)
            attention[part] = stack(
                f"self_attn.{part}_proj.weight", lambda w, shape=shape: w.T.reshape(shape)
            )
            if config.qkv_bias:
                attention[f"{part}_bias"] = stack(
                    f"self_attn.{part}_proj.bias", lambda b, shape=shape: b.reshape(shape[1:])
                )
        out = (config.num_heads, config.head_dim, config.hidden_size)
        attention["o"] = stack("self_attn.o_proj.weight", lambda w: w.T.reshape(out))
        if config.qkv_bias:
            attention["o_bias"] = stack("self_attn.o_proj.bias", keep)
        for part in ("gate", "up", "down"):
            mlp[part] = stack(f"mlp.{part}_proj.weight")
            if config.mlp_bias:
                mlp[f"{part}_bias"] = stack(f"mlp.{part}_proj.bias", keep)
        tree = {
            "embed": arrays["model.embed_tokens.weight"],
            "final_norm": arrays["model.norm.weight"],
            "layers": {
                "attention": attention,
                "attention_norm": stack("input_layernorm.weight", keep),
                "mlp": mlp,
                "mlp_norm": stack("post_attention_layernorm.weight", keep),
            },
        }
        return tree if config.tied else tree | {"head": arrays["lm_head.weight"]}

    return convert


@pytest.fixture(scope="session")
def torch_answer_loss() -> Callable[..., Any]:
    """Mean cross entropy of a torch model over the marked tokens of right-padded rows."""
    import torch

    def loss(reference: Any, batch: dict[str, np.ndarray]) -> Any:
        tokens = torch.tensor(batch["tokens"], dtype=torch.long)
        attention = torch.tensor(batch["segment_ids"] > 0).long()
        logits = reference(tokens, attention_mask=attention).logits
        shares = torch.log_softmax(logits[:, :-1].double(), dim=-1)
        chosen = torch.gather(shares, 2, tokens[:, 1:, None])[..., 0]
        weights = torch.tensor(batch["loss_mask"][:, 1:], dtype=torch.float64)
        return -(chosen * weights).sum() / weights.sum()

    return loss


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., dict[str, np.ndarray]]:
    """A function to a batch `[rows, 24]` of random dialogues of several lengths; the last
    `empty` rows are padding.
    """

    def make(seed: int = 0, rows: int = 4, empty: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        batch = {
            "tokens": np.zeros((rows, 24), np.int32),
            "loss_mask": np.zeros((rows, 24), np.float32),
            "segment_ids": np.zeros((rows, 24), np.int32),
        }
        for row in range(rows - empty):
            length, prompt = rng.integers(12, 25), rng.integers(3, 9)
            batch["tokens"][row, :length] = rng.integers(1, 600, length)
            batch["loss_mask"][row, prompt:length] = 1
            batch["segment_ids"][row, :length] = 1
        return batch

    return make


@pytest.fixture(scope="session")
def logits_of() -> Callable[..., jax.Array]:
    """`model.apply` compiled: `logits_of(model, params, tokens, **context)`."""

    @functools.partial(jax.jit, static_argnums=0)
    def apply(model, params, tokens, context):
        return model.apply({"params": params}, tokens, **context)

    return lambda model, params, tokens, **context: apply(model, params, tokens, context)


@pytest.fixture(scope="session")
def loss_and_gradient() -> Callable[..., tuple[jax.Array, Any]]:
    """Answer loss and its gradient, compiled: `loss_and_gradient(model, params, batch)`."""
    from jaxattack.train.losses import answer_loss

    return jax.jit(jax.value_and_grad(answer_loss, argnums=1), static_argnums=0)


@pytest.fixture(scope="session")
def mesh8() -> jax.sharding.Mesh:
    """Two devices along each axis."""
    from jaxattack.sharding import make_mesh

    return make_mesh((2, 2, 2))


@pytest.fixture(scope="session")
def assert_trees() -> Callable[..., None]:
    """Compare two trees leaf by leaf; without tolerances bit by bit."""
    from jaxattack.tree import named_leaves

    def check(actual: Any, expected: Any, rtol: float = 0, atol: float = 0) -> None:
        actual, expected = named_leaves(actual), named_leaves(expected)
        assert actual.keys() == expected.keys()
        for name in actual:
            left, right = np.asarray(actual[name]), np.asarray(expected[name])
            if rtol or atol:
                np.testing.assert_allclose(left, right, rtol, atol, err_msg=name)
            else:
                assert left.dtype == right.dtype, name
                assert left.tobytes() == right.tobytes(), name

    return check
