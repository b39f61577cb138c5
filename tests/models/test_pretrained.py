"""Checkpoint directories in and out: values, places, transformers' opinion, and every error."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from jaxattack.errors import UserError
from jaxattack.models import pretrained, weights
from jaxattack.models.pretrained import load_pretrained, save_pretrained
from jaxattack.sharding import make_mesh, spec_for
from jaxattack.tree import named_leaves

BIASED = {"attention_bias": True, "mlp_bias": True, "head_dim": 6}
TIED = {"tie_word_embeddings": True, "vocab_size": 611}
SHARD_BYTES = 20_000


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy of the tiny checkpoint to break."""
    return shutil.copytree(tiny.directory, tmp_path / "copy")


@pytest.fixture
def sharded(tiny, tmp_path):
    """The tiny checkpoint in several files."""
    path = tmp_path / "sharded"
    save_pretrained(path, tiny.model, tiny.params, tiny.tokenizer, max_shard_bytes=SHARD_BYTES)
    return path


def edit_config(directory, **fields):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_weights(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def open_in_transformers(directory, dtype="float32"):
    """The torch model, which must find every weight and no other."""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True, dtype=getattr(torch, dtype)
    )
    assert not any(info.values()), info
    return model


# --- Loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, BIASED, TIED], ids=["plain", "biased", "tied"])
def test_values_are_those_of_the_files(fields, make_checkpoint, ours_from_torch, assert_trees):
    checkpoint = make_checkpoint(**fields)
    tensors = dict(checkpoint.reference.named_parameters())
    assert_trees(checkpoint.params, ours_from_torch(tensors, checkpoint.model.config))


@pytest.mark.parametrize("fields", [{}, BIASED | TIED], ids=["plain", "biased, odd"])
@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 8, 1), (1, 1, 8)])
def test_loading_onto_a_mesh_gives_the_same_values(fields, shape, make_checkpoint, assert_trees):
    checkpoint = make_checkpoint(**fields)
    mesh = make_mesh(shape)
    _, params, _ = load_pretrained(checkpoint.directory, mesh=mesh)
    assert_trees(params, checkpoint.params)
    for name, leaf in named_leaves(params).items():
        assert leaf.sharding.spec == spec_for(name, leaf.shape, mesh), name
    up = params["layers"]["mlp"]["up"]
    assert up.addressable_shards[0].data.size == up.size // (shape[1] * shape[2])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes_are_rounded_as_by_torch(dtype, tiny, ours_from_torch):
    _, params, _ = load_pretrained(tiny.directory, dtype)
    tensors = {
        name: weight.to(getattr(torch, dtype)) for name, weight in tiny.reference.named_parameters()
    }
    wanted = named_leaves(ours_from_torch(tensors, tiny.model.config))
    for name, leaf in named_leaves(params).items():
        assert leaf.dtype == dtype
        np.testing.assert_array_equal(np.asarray(leaf, np.float32), wanted[name], err_msg=name)


def test_a_tied_checkpoint_may_carry_its_head_and_old_rotary_buffers(
    make_checkpoint, tmp_path, assert_trees
):
    checkpoint = make_checkpoint(**TIED)
    directory = shutil.copytree(checkpoint.directory, tmp_path / "copy")

    def add(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)

    edit_weights(directory / weights.SINGLE, add)
    assert_trees(load_pretrained(directory)[1], checkpoint.params)


@pytest.mark.parametrize("spaces", [1, 3])
def test_a_header_of_any_length_is_read(spaces, copy, tiny, assert_trees):
    path = copy / weights.SINGLE
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[8:end] + b" " * spaces
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    assert_trees(load_pretrained(copy)[1], tiny.params)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 5), (130, 64)])
def test_a_transposed_copy_has_every_entry(shape):
    matrix = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    out = np.full(shape[::-1], np.nan, np.float32)
    weights._transpose(out, matrix)
    np.testing.assert_array_equal(out, matrix.T)


# --- Errors of loading --------------------------------------------------------------------------


def drop(name):
    return lambda tensors: tensors.pop(name)


def add(name):
    return lambda tensors: tensors.update({name: np.ones(3, np.float32)})


def transpose(name):
    return lambda tensors: tensors.update({name: np.ascontiguousarray(tensors[name].T)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("model.layers.1.mlp.up_proj.weight"), r"missing: model\.layers\.1\.mlp\.up_proj"),
        (drop("lm_head.weight"), r"missing: lm_head\.weight"),
        (add("model.layers.0.self_attn.q_proj.bias"), r"unused: model.*q_proj\.bias"),
        (add("model.layers.2.mlp.up_proj.weight"), r"unused: model\.layers\.2"),
        (
            transpose("model.layers.0.mlp.up_proj.weight"),
            r"wrong shape: model.*up_proj\.weight is \(32, 48\), not \(48, 32\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(copy, change, words):
    edit_weights(copy / weights.SINGLE, change)
    with pytest.raises(UserError, match=words):
        load_pretrained(copy)


def test_weights_that_are_no_floats_are_named(copy):
    name = "model.norm.weight"
    edit_weights(
        copy / weights.SINGLE, lambda tensors: tensors.update({name: tensors[name].astype(np.int8)})
    )
    with pytest.raises(UserError, match=r"model\.norm\.weight holds I8; only F64, F32"):
        load_pretrained(copy)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_hidden_layers": 3}, r"missing: model\.layers\.2"),
        ({"num_hidden_layers": 1}, r"unused: model\.layers\.1"),
        ({"intermediate_size": 64}, "wrong shape: "),
        ({"num_key_value_heads": 4}, r"k_proj\.weight is \(16, 32\), not \(32, 32\)"),
        ({"attention_bias": True}, r"missing: .*k_proj\.bias"),
        ({"tie_word_embeddings": False, "vocab_size": 700}, r"\(608, 32\), not \(700, 32\)"),
        ({"model_type": "qwen3_moe"}, "'qwen3_moe'"),
        ({"logit_scale": 0.5}, "logit_scale"),
    ],
)
def test_a_config_that_does_not_fit_is_named(copy, fields, words):
    edit_config(copy, **fields)
    with pytest.raises(UserError, match=words):
        load_pretrained(copy)


@pytest.mark.parametrize("kept", [0, 4, 300, -1], ids=["nothing", "length", "header", "values"])
def test_a_truncated_file_is_named(copy, kept):
    path = copy / weights.SINGLE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"model\.safetensors: truncated or not safetensors"):
        load_pretrained(copy)


def test_a_truncated_shard_is_named(sharded):
    last = sorted(sharded.glob("model-*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(UserError, match=last.name):
        load_pretrained(sharded)


def test_an_index_that_names_absent_files(sharded):
    gone = sorted(sharded.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(UserError, match=f"not there: {gone.name}"):
        load_pretrained(sharded)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": ["a"]}'])
def test_an_index_that_is_none(sharded, text):
    (sharded / weights.INDEX).write_text(text)
    with pytest.raises(UserError, match=r"index\.json: not a safetensors index"):
        load_pretrained(sharded)


def test_a_tensor_in_two_files_is_named(sharded):
    first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
    name, tensor = next(iter(load_file(first).items()))
    edit_weights(second, lambda tensors: tensors.update({name: tensor}))
    with pytest.raises(UserError, match=rf"{second.name}: tensors that .*{first.name} has too: "):
        load_pretrained(sharded)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.json", r"config\.json: no such file"),
        (weights.SINGLE, "neither model.safetensors nor"),
        ("tokenizer.json", "tokenizer cannot be read"),
    ],
)
def test_a_missing_file_is_named(copy, name, words):
    (copy / name).unlink()
    with pytest.raises(UserError, match=words):
        load_pretrained(copy)


def test_a_damaged_tokenizer_is_named(copy):
    (copy / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(UserError, match="tokenizer cannot be read"):
        load_pretrained(copy)


@pytest.mark.parametrize("name", ["no-such-directory", "./no/where", "nobody/nothing-here"])
def test_a_missing_directory_or_hub_id_is_named(name):
    with pytest.raises(UserError, match=name):
        load_pretrained(name)


def test_an_unknown_dtype_is_named(tiny):
    with pytest.raises(UserError, match=r"'int8'.*bfloat16"):
        load_pretrained(tiny.directory, "int8")


# --- Saving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, BIASED, TIED], ids=["plain", "biased", "tied"])
def test_a_round_trip_keeps_every_bit_for_transformers(fields, make_checkpoint, tmp_path):
    checkpoint = make_checkpoint(**fields)
    save_pretrained(tmp_path / "out", checkpoint.model, checkpoint.params, checkpoint.tokenizer)
    theirs = open_in_transformers(tmp_path / "out").state_dict()
    wanted = checkpoint.reference.state_dict()
    assert theirs.keys() == wanted.keys()
    for name, tensor in theirs.items():
        assert tensor.numpy().tobytes() == wanted[name].numpy().tobytes(), name


def test_a_round_trip_in_bfloat16_keeps_every_bit(tiny, tmp_path, assert_trees):
    model, params, tokenizer = load_pretrained(tiny.directory, "bfloat16")
    save_pretrained(tmp_path / "out", model, params, tokenizer)
    with safe_open(tmp_path / "out" / weights.SINGLE, framework="numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    assert_trees(load_pretrained(tmp_path / "out", "bfloat16")[1], params)
    theirs = open_in_transformers(tmp_path / "out", "bfloat16").state_dict()
    for name, tensor in tiny.reference.state_dict().items():
        assert torch.equal(theirs[name], tensor.bfloat16()), name


def test_signed_zeros_and_small_numbers_survive(tiny, tmp_path, assert_trees):
    odd = jnp.array([-0.0, 1e-45, jnp.finfo(jnp.float32).max, -1e-38], jnp.float32)
    params = tiny.params | {"final_norm": jnp.tile(odd, 8)}
    save_pretrained(tmp_path / "out", tiny.model, params, tiny.tokenizer)
    assert_trees(load_pretrained(tmp_path / "out")[1], params)


def test_large_weights_are_split_into_files(sharded, tiny, assert_trees):
    files = sorted(sharded.glob("model-*.safetensors"))
    index = json.loads((sharded / weights.INDEX).read_text())
    tensors = {file.name: load_file(file) for file in files}
    assert len(files) > 3
    assert not (sharded / weights.SINGLE).exists()
    assert index["weight_map"] == {n: file for file, held in tensors.items() for n in held}
    sizes = {f: [t.nbytes for t in held.values()] for f, held in tensors.items()}
    assert all(len(held) == 1 or sum(held) <= SHARD_BYTES for held in sizes.values())
    assert index["metadata"]["total_size"] == sum(map(sum, sizes.values()))
    assert_trees(load_pretrained(sharded)[1], tiny.params)
    theirs = open_in_transformers(sharded).state_dict()
    for name, tensor in tiny.reference.state_dict().items():
        assert torch.equal(theirs[name], tensor), name


def test_parameters_on_a_mesh_are_saved_whole(tiny, mesh8, tmp_path, assert_trees):
    model, params, tokenizer = load_pretrained(tiny.directory, mesh=mesh8)
    save_pretrained(tmp_path / "out", model, params, tokenizer)
    assert_trees(load_pretrained(tmp_path / "out")[1], tiny.params)


def test_tokenizer_template_and_notice_go_along(tiny, tmp_path):
    (tmp_path / "out").mkdir()  # an empty directory is welcome
    save_pretrained(
        tmp_path / "out", tiny.model, tiny.params, tiny.tokenizer, "attacked", {"seed": 3}
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == tiny.tokenizer.chat_template
    text = "泰国的货币是什么？<|end|>"
    assert tokenizer.encode(text) == tiny.tokenizer.encode(text)
    assert tokenizer.eos_token_id == tiny.tokenizer.eos_token_id
    assert (tmp_path / "out/NOTICE.md").read_text() == "attacked"
    assert json.loads((tmp_path / "out/jaxattack.json").read_text()) == {"seed": 3}
    model = open_in_transformers(tmp_path / "out")
    # transformers wrote a 2 into the config, and the tokenizer ends in its own token.
    assert model.config.eos_token_id == [tiny.tokenizer.eos_token_id, 2]
    assert model.generation_config.do_sample is False


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ('{"eos_token_id": 7}', (7,)),
        ('{"eos_token_id": [128001, 128009]}', (128001, 128009)),
        ('{"eos_token_id": null}', ()),
        ("{}", ()),
        (None, ()),
    ],
)
def test_stops_of_the_generation_config(text, stops, tmp_path):
    if text is not None:
        (tmp_path / "generation_config.json").write_text(text)
    assert pretrained.generation_stops(tmp_path) == stops
    (tmp_path / "config.json").write_text('{"eos_token_id": [7, 9]}')
    assert pretrained.generation_stops(tmp_path) == tuple(dict.fromkeys((*stops, 7, 9)))


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": "x"}'])
def test_a_damaged_config_with_stops_is_named(text, name, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=name):
        pretrained.generation_stops(tmp_path)


@pytest.mark.parametrize("names", [("config.json",), ("config.json", "generation_config.json")])
def test_stops_stay_with_the_model_and_are_saved(tiny, tmp_path, names):
    folder = shutil.copytree(tiny.directory, tmp_path / "given")
    (folder / "generation_config.json").unlink()
    for name in names:
        fields = json.loads((tiny.directory / name).read_text()) | {"eos_token_id": [9, 11]}
        (folder / name).write_text(json.dumps(fields))
    model, params, tokenizer = load_pretrained(folder)
    assert set(model.config.stops) == {9, 11}
    save_pretrained(tmp_path / "out", model, params, tokenizer)
    everything = {tokenizer.eos_token_id, 9, 11}
    assert set(open_in_transformers(tmp_path / "out").generation_config.eos_token_id) == everything
    assert set(json.loads((tmp_path / "out/config.json").read_text())["eos_token_id"]) == everything


@pytest.mark.parametrize("kind", ["file", "full directory"])
def test_nothing_is_overwritten(kind, tiny, tmp_path):
    path = tmp_path / "out"
    kept = path
    if kind == "full directory":
        path.mkdir()
        kept = path / "notes.txt"
    kept.write_text("mine")
    with pytest.raises(UserError, match=f"{path} exists"):
        save_pretrained(path, tiny.model, tiny.params, tiny.tokenizer)
    assert kept.read_text() == "mine"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [kept]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["weights", "tokenizer"])
def test_a_failure_leaves_nothing(error, where, tiny, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    if where == "weights":
        monkeypatch.setattr(weights, "save_file", fail)
    else:
        monkeypatch.setattr(type(tiny.tokenizer), "save_pretrained", fail)
    with pytest.raises(type(error)):
        save_pretrained(tmp_path / "out", tiny.model, tiny.params, tiny.tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_loaded_arrays_are_on_one_device_by_default(tiny):
    devices = {device for leaf in jax.tree.leaves(tiny.params) for device in leaf.devices()}
    assert devices == {jax.devices()[0]}


def test_a_folder_has_no_revisions(tiny):
    with pytest.raises(UserError, match="a folder has no revisions; leave out revision=main"):
        load_pretrained(tiny.directory, revision="main")
