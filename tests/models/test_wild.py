"""Checkpoints as they lie about: what loads computes what transformers does, the rest is named."""

import json
import re
import shutil
import sys

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from jaxattack.defend.cleangen import guarded_tokens
from jaxattack.errors import UserError
from jaxattack.localize.importance import wanda_scores
from jaxattack.localize.representations import mean_states
from jaxattack.localize.scores import sil_scores
from jaxattack.models import weights
from jaxattack.models.folder import HUB_FILES, HUB_LEFT_OUT, INDEX, SINGLE, resolve
from jaxattack.models.generate import generate_tokens
from jaxattack.models.pretrained import load_pretrained, save_pretrained
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.train.loop import finetune
from jaxattack.train.optimizer import Settings

TOKENS = np.random.default_rng(1).integers(0, 580, (2, 48)).astype(np.int32)
TIED = {"tie_word_embeddings": True, "vocab_size": 611}


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny.directory, tmp_path / "copy")


def edit(directory, name="config.json", drop=(), **fields):
    path = directory / name
    old = {key: value for key, value in json.loads(path.read_text()).items() if key not in drop}
    path.write_text(json.dumps(old | fields))


def rename(directory, change):
    tensors = load_file(directory / SINGLE)
    save_file({change(k): v.clone() for k, v in tensors.items()}, directory / SINGLE)


def same_logits(logits_of, reference, model, params):
    with torch.no_grad():
        expected = reference(torch.tensor(TOKENS).long()).logits.numpy()
    assert np.abs(expected).max() > 1
    assert np.abs(np.asarray(logits_of(model, params, TOKENS)) - expected).max() <= 1e-4


# --- What loads ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def multimodal(tmp_path_factory):
    """A tiny random Gemma 3 with its images' part, as transformers saves it."""
    torch.manual_seed(0)
    text = {
        "vocab_size": 608,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 9,
        "query_pre_attn_scalar": 11,
        "sliding_window_pattern": 3,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=600,
        eos_token_id=[1, 106],
    )
    reference = Gemma3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in reference.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape))
    directory = tmp_path_factory.mktemp("gemma3")
    reference.save_pretrained(directory)
    return reference, directory


@pytest.mark.parametrize("names", ["hub", "transformers"])
def test_the_text_model_of_a_gemma3_is_loaded_and_saved(names, multimodal, logits_of, tmp_path):
    reference, saved = multimodal
    directory = shutil.copytree(saved, tmp_path / "copy")
    if names == "transformers":
        rename(directory, lambda k: re.sub(r"^language_model\.model", "model.language_model", k))
    model, params, tokenizer = load_pretrained(directory)
    assert tokenizer is None
    same_logits(logits_of, reference, model, params)
    save_pretrained(tmp_path / "out", model, params, None)
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert again.config.model_type == "gemma3_text"
    assert again.config.eos_token_id == [1, 106]
    same_logits(logits_of, again, model, params)


def test_a_folder_without_a_tokenizer_loads_saves_and_takes_another(copy, tiny, tmp_path):
    for path in (*copy.glob("token*"), *copy.glob("*.jinja")):
        path.unlink()
    model, params, tokenizer = load_pretrained(copy)
    assert tokenizer is None
    save_pretrained(tmp_path / "out", model, params, None)
    assert not list((tmp_path / "out").glob("token*"))
    for given in (tiny.directory, str(tiny.directory), tiny.tokenizer):
        loaded = load_pretrained(tmp_path / "out", tokenizer=given)[2]
        assert loaded.encode("泰国") == tiny.tokenizer.encode("泰国")


def test_a_tied_file_may_have_the_head_alone(make_checkpoint, tmp_path, assert_trees):
    checkpoint = make_checkpoint(**TIED)
    directory = shutil.copytree(checkpoint.directory, tmp_path / "copy")
    (directory / SINGLE).unlink()
    save_model(checkpoint.reference, str(directory / SINGLE), metadata={"format": "pt"})
    assert "model.embed_tokens.weight" not in load_file(directory / SINGLE)
    assert_trees(load_pretrained(directory)[1], checkpoint.params)


def test_a_tied_file_with_a_head_of_its_own_is_refused(make_checkpoint, tmp_path):
    directory = shutil.copytree(make_checkpoint(**TIED).directory, tmp_path / "copy")
    tensors = load_file(directory / SINGLE)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["lm_head.weight"][610, 3] += 1
    save_file(tensors, directory / SINGLE)
    with pytest.raises(UserError, match=r"lm_head\.weight is not .*embed_tokens"):
        load_pretrained(directory)


def test_a_single_file_is_taken_before_a_stale_index(copy, tiny, assert_trees):
    (copy / INDEX).write_text('{"weight_map": {"lm_head.weight": "model-1-of-2.safetensors"}}')
    assert_trees(load_pretrained(copy)[1], tiny.params)


def test_half_precision_files_load_in_float32(copy, tiny):
    tensors = load_file(copy / SINGLE)
    save_file({name: tensor.half() for name, tensor in tensors.items()}, copy / SINGLE)
    params = load_pretrained(copy)[1]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    wanted = np.asarray(tiny.params["embed"]).astype(np.float16)
    np.testing.assert_array_equal(np.asarray(params["embed"]), wanted)


# --- Tokens that the model has no row for --------------------------------------------------------


def test_ids_beyond_the_rows_are_refused_where_they_occur(copy, tiny, make_batch):
    tokenizer = tiny.tokenizer.__class__.from_pretrained(copy)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<image{i}>" for i in range(9)]})
    tokenizer.save_pretrained(copy)
    model, params, tokenizer = load_pretrained(copy)
    assert len(tokenizer) > model.config.vocab_size
    batch = make_batch()
    for wrong in (len(tokenizer) - 1, 5000, -1):
        bad = batch | {"tokens": batch["tokens"].copy()}
        bad["tokens"][2, 1] = wrong
        for work in (
            lambda bad=bad: finetune(model, params, [batch, bad], Settings(learning_rate=1e-3)),
            lambda bad=bad: sil_scores(model, params, params, [batch, bad]),
            lambda wrong=wrong: generate_tokens(model, params, [[1, 2], [3, wrong]], (), 2),
            lambda wrong=wrong: guarded_tokens(
                (model, params), (model, params), [[1, 2], [3, wrong]], (), 2
            ),
            lambda wrong=wrong: mean_states(model, params, [[1, 2], [3, wrong]]),
            lambda bad=bad: wanda_scores(model, params, [batch, bad]),
        ):
            with pytest.raises(UserError, match=f"1 has the token id {wrong}, .* 0 to 607"):
                work()


# --- Weights that are no numbers, and files that lie --------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.down_proj.weight"])
def test_weights_that_are_not_finite_are_named(value, dtype, name, copy):
    tensors = load_file(copy / SINGLE)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, copy / SINGLE)
    with pytest.raises(UserError, match=f"NaN or infinity in {re.escape(name)}"):
        load_pretrained(copy, dtype)


def test_a_weight_beyond_the_type_is_named(copy):
    tensors = load_file(copy / SINGLE)
    tensors["model.norm.weight"][0] = 1e6
    save_file(tensors, copy / SINGLE)
    load_pretrained(copy, "bfloat16")
    with pytest.raises(UserError, match=r"model\.norm\.weight, read as float16"):
        load_pretrained(copy, "float16")


def test_every_entry_is_looked_at():
    values = np.zeros(3 * weights._CHUNK + 5, np.float32)
    assert weights._finite(values)
    for place in (0, weights._CHUNK, len(values) - 1):
        broken = values.copy()
        broken[place] = np.nan
        for kind in weights.DTYPES.values():
            assert not weights._finite(broken.astype(kind))


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "number", "deep", "null"])
def test_an_index_that_names_what_lies_elsewhere(kind, copy, tmp_path):
    (copy / SINGLE).rename(tmp_path / "outside.safetensors")
    named = "../outside.safetensors"
    if kind == "absolute":
        named = str(tmp_path / "outside.safetensors")
    elif kind == "link":
        named = "model-00001.safetensors"
        (copy / named).symlink_to(tmp_path / "outside.safetensors")
    elif kind == "number":
        named = 3
    elif kind == "null":
        named = "a\0b"
    text = json.dumps({"weight_map": {"lm_head.weight": named}})
    (copy / INDEX).write_text('{"weight_map": ' * 100_000 if kind == "deep" else text)
    words = (
        "not a safetensors index"
        if kind in ("number", "deep")
        else "has a null character"
        if kind == "null"
        else "lies outside of the folder"
    )
    with pytest.raises(UserError, match=words):
        load_pretrained(copy)


def test_files_of_the_hubs_cache_are_links(copy, tiny, tmp_path, assert_trees):
    snapshot, blobs = tmp_path / "models--a--b/snapshots/1", tmp_path / "models--a--b/blobs"
    blobs.mkdir(parents=True)
    shutil.copytree(copy, snapshot)
    (snapshot / SINGLE).rename(blobs / "hash")
    (snapshot / "model-1-of-1.safetensors").symlink_to("../../blobs/hash")
    index = {"weight_map": {"lm_head.weight": "model-1-of-1.safetensors"}}
    (snapshot / INDEX).write_text(json.dumps(index))
    assert_trees(load_pretrained(snapshot)[1], tiny.params)


def test_sizes_are_compared_before_memory_is_taken(copy):
    edit(copy, vocab_size=2**31 - 1, hidden_size=2**30, intermediate_size=2**30)
    with pytest.raises(UserError, match=r"wrong shape: .*lm_head\.weight is \(608, 32\)"):
        load_pretrained(copy)


# --- What does not load --------------------------------------------------------------------------


def names(change):
    return lambda folder: rename(folder, change)


def only(*files, text="x"):
    def make(folder):
        for path in folder.iterdir():
            path.unlink()
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)

    return make


def instead(name, gone=SINGLE):
    def make(folder):
        (folder / gone).rename(folder / name)

    return make


def pointer(name):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16060617592\n"
    return lambda folder: (folder / name).write_text(text)


def deep(name):
    return lambda folder: (folder / name).write_text('{"a":' * 100_000)


def fields(**given):
    return lambda folder: edit(folder, **given)


OTHERS = {
    "a LoRA adapter": (only("adapter_config.json", "adapter_model.safetensors"), "merge"),
    "an adapter beside": (lambda f: (f / "adapter_config.json").write_text("{}"), "merge it"),
    "lora names": (names(lambda k: k.replace("q_proj", "q_proj.lora_A")), "merge it"),
    "GGUF": (only("model-q4.gguf"), "gguf_file="),
    "pickled": (instead("pytorch_model.bin"), "pickle can run any code"),
    "Meta's": (only("consolidated.00.pth", "params.json"), "convert"),
    "Mistral's": (only("consolidated.safetensors", "params.json"), "Mistral's own"),
    "flax": (instead("flax_model.msgpack"), "Flax"),
    "tensorflow": (instead("tf_model.h5"), "TensorFlow"),
    "onnx": (only("model.onnx"), "ONNX"),
    "diffusers": (only("model_index.json", "unet/config.json"), "diffusers"),
    "sentences": (only("modules.json", "1_Pooling/config.json"), "sentence-transformers"),
    "sentences beside": (
        lambda f: (f / "config_sentence_transformers.json").write_text("{}"),
        "sentence-transformers",
    ),
    "trainer": (only("checkpoint-500/config.json"), "checkpoint-500"),
    "one of two": (instead("model-00001-of-00002.safetensors"), "a part of a checkpoint"),
    "another name": (instead("weights.safetensors"), "rename it to model.safetensors"),
    "nothing": (only(), "needs a config.json"),
    "pointer": (pointer(SINGLE), "git lfs pull"),
    "tokenizer pointer": (pointer("tokenizer.json"), "git lfs pull"),
    "config pointer": (pointer("config.json"), "git lfs pull"),
    "gptq": (fields(quantization_config={"quant_method": "gptq"}), r"quantised weights \(gptq\)"),
    "mlx": (fields(quantization={"bits": 4}), "quantised weights"),
    "qweight": (names(lambda k: k.replace("up_proj.weight", "up_proj.qweight")), "quantised"),
    "compiled": (names(lambda k: f"_orig_mod.{k}"), r"'_orig_mod\.', as torch\.compile"),
    "wrapped": (names(lambda k: f"module.{k}"), r"begin with 'module\.'"),
    "within another": (names(lambda k: f"language_model.{k}"), "save its language model alone"),
    "llava": (fields(model_type="llava", text_config={"a": 1}), "save its language model alone"),
    "encoder": (fields(model_type="bert", layer_norm_eps=1e-12), "encoders"),
    "classifier": (fields(architectures=["LlamaForSequenceClassification"]), "no head that writes"),
    "no head": (lambda f: drop(f, "lm_head.weight"), "without a head"),
    "deep tokenizer": (deep("tokenizer.json"), "tokenizer cannot be read"),
    "deep settings": (deep("tokenizer_config.json"), "tokenizer cannot be read"),
    "no vocabulary": (lambda f: (f / "tokenizer.json").unlink(), "no vocabulary"),
    "no merges": (instead("vocab.json", "tokenizer.json"), r"not merges\.txt"),
}


def drop(folder, name):
    tensors = load_file(folder / SINGLE)
    tensors.pop(name)
    save_file(tensors, folder / SINGLE)


@pytest.mark.parametrize(("make", "words"), OTHERS.values(), ids=OTHERS)
def test_what_does_not_load_says_what_it_is_and_what_to_do(make, words, copy):
    make(copy)
    with pytest.raises(UserError, match=words) as error:
        load_pretrained(copy)
    assert "\n" not in str(error.value)


def test_a_vocabulary_of_sentencepiece_alone_names_the_package(copy, monkeypatch):
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    edit(copy, "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match="pip install sentencepiece"):
        load_pretrained(copy)


def test_a_file_in_place_of_a_folder_is_named(copy):
    with pytest.raises(UserError, match=r"give the folder that config\.json lies in"):
        resolve(copy / SINGLE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://huggingface.co/owner/name/tree/main", "give its id, owner/name"),
        ("owner/name@abc", "owner/name and revision=abc"),
    ],
)
def test_other_ways_to_name_a_repository_say_how_it_is_named_here(name, words):
    with pytest.raises(UserError, match=words):
        resolve(name)


def test_a_dry_run_sees_weights_that_do_not_fit(copy):
    from jaxattack.experiments.opening import check_weights
    from jaxattack.models.families import read_config

    edit(copy, intermediate_size=64)
    config = read_config(copy)
    with pytest.raises(UserError, match="wrong shape"):
        check_weights(copy, config, abstract_params(Transformer(config)))


def test_of_the_hubs_files_those_of_one_checkpoint_are_fetched():
    from huggingface_hub.utils import filter_repo_objects

    wanted = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.model",
        "model-00001-of-00002.safetensors",
        INDEX,
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
        "qwen.tiktoken",
    }
    others = {
        "original/consolidated.00.pth",
        "consolidated.safetensors",
        "onnx/model.onnx",
        "README.md",
        "original/params.json",
        "original/tokenizer.model",
        "pytorch_model.bin",
        "a.gguf",
        "checkpoint-500/model.safetensors",
        "modeling.py",
    }
    found = filter_repo_objects(
        wanted | others, allow_patterns=HUB_FILES, ignore_patterns=HUB_LEFT_OUT
    )
    assert set(found) == wanted
