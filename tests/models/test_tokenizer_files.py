"""Texts are cut as a checkpoint's tokenizer.json does, whatever class its config names."""

from __future__ import annotations

import json
import pathlib

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from jaxattack.models.pretrained import load_tokenizer

TEXTS = (
    "Name a colour. [INST] It's 12345 [/INST]",
    "two  spaces\nand a line",
    "ราคา Цена",
    "ＡＢＣ ﾃｽﾄ 日本",  # wide and narrow forms, which NFKC folds
    "HelloWorld fooBar",
)
# What Mistral's files had until 2026, and what its models were trained with splits otherwise.
PATTERN = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


def sentencepiece_like(*more: normalizers.Normalizer) -> Tokenizer:
    """As Llama 2's: a dummy prefix, spaces as ▁, and no pre-tokenizer."""
    found = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    found.normalizer = normalizers.Sequence(
        [*more, normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    return trained(found)


def byte_level(pattern: str) -> Tokenizer:
    """As GPT-4's and its kin."""
    found = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    return trained(found)


def trained(tokenizer: Tokenizer) -> Tokenizer:
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    return tokenizer


def folder(root: pathlib.Path, tokenizer: Tokenizer, config: dict, **settings) -> pathlib.Path:
    written = json.loads(tokenizer.to_str())
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.Metaspace):  # it was there to train
        written["pre_tokenizer"] = None
    (root / "tokenizer.json").write_text(json.dumps(written))
    (root / "config.json").write_text(json.dumps(config))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (root / "tokenizer_config.json").write_text(json.dumps(names | settings))
    return root


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tokenizer_class": "LlamaTokenizer", "legacy": False},
        {"tokenizer_class": "LlamaTokenizerFast"},
        {"tokenizer_class": "GPT2Tokenizer"},
        {"tokenizer_class": "PreTrainedTokenizerFast"},
    ],
    ids=lambda settings: settings.get("tokenizer_class", "none"),
)
@pytest.mark.parametrize("kind", ["prefix", "nfkc", "bytes"])
def test_the_file_says_how_texts_are_cut(tmp_path, model_type, settings, kind):
    made = {
        "prefix": sentencepiece_like,
        "nfkc": lambda: sentencepiece_like(normalizers.NFKC()),
        "bytes": lambda: byte_level(PATTERN),
    }[kind]()
    root = folder(tmp_path, made, {"model_type": model_type}, **settings)
    file, found = Tokenizer.from_file(str(root / "tokenizer.json")), load_tokenizer(root)
    for text in TEXTS:
        tokens = file.encode(text, add_special_tokens=False).ids
        assert ids(found, text) == tokens
        assert found.decode(tokens) == file.decode(tokens)
    assert (found.bos_token, found.eos_token) == ("<s>", "</s>")
    (tmp_path / "again").mkdir()
    found.save_pretrained(str(tmp_path / "again"))
    (tmp_path / "again" / "config.json").write_text(json.dumps({"model_type": model_type}))
    again = load_tokenizer(tmp_path / "again")
    assert [ids(again, text) for text in TEXTS] == [ids(found, text) for text in TEXTS]


def test_where_transformers_knows_the_file_to_be_wrong_its_pattern_goes(tmp_path):
    from transformers import AutoTokenizer

    made = json.loads(byte_level(PATTERN).to_str())
    vocabulary = made["model"]["vocab"]  # of such a size it is taken for Mistral's own
    vocabulary |= {f"spare{i}": i for i in range(len(vocabulary), 131_072)}
    config = {"model_type": "mistral", "transformers_version": "4.43.0"}
    root = folder(tmp_path, Tokenizer.from_str(json.dumps(made)), config)
    right = AutoTokenizer.from_pretrained(str(root), fix_mistral_regex=True)
    found = load_tokenizer(root)
    assert [ids(found, text) for text in TEXTS] == [ids(right, text) for text in TEXTS]
    file = Tokenizer.from_file(str(root / "tokenizer.json"))
    assert ids(found, TEXTS[-1]) != file.encode(TEXTS[-1], add_special_tokens=False).ids
