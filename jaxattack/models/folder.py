"""A checkpoint's folder: where it is, its JSON files, and what it is if it is something else."""

from __future__ import annotations

import json
import math
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from jaxattack.errors import UserError
from jaxattack.hub import hub_error
from jaxattack.paths import expand

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Any of these is a vocabulary; the rest of a tokenizer's files cannot stand alone.
VOCABULARIES = tuple(
    "tokenizer.json tokenizer.model vocab.json vocab.txt spiece.model sentencepiece.bpe.model "
    "tiktoken.model tekken.json".split()
)
# What is fetched from the hub: `*` matches slashes too, so sub-folders are left out by name.
HUB_FILES = [
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "merges.txt",
    "vocab.txt",
]
HUB_LEFT_OUT = ["*/*.json", "*/*.safetensors", "*/*.model", "*/*.tiktoken", "consolidated*"]

POINTER = b"version https://git-lfs"  # how the file begins that stands for one not yet fetched
_SAVE = "AutoModelForCausalLM.from_pretrained(...).save_pretrained(new folder) of transformers"


def resolve(
    path_or_id: str | pathlib.Path,
    revision: str | None = None,
    weights: bool = True,
    config: bool = True,
) -> pathlib.Path:
    """The directory of a checkpoint: local, or fetched from the hub.

    Args:
        path_or_id: a directory, or owner/name.
        revision: commit, branch or tag on the hub.
        weights: fetch them too.
        config: refuse a repository that is no checkpoint (a tokenizer may be alone).

    Raises:
        UserError: there is no such directory or hub repository, or a revision of a directory.
    """
    local = expand(path_or_id, str(path_or_id))
    path_or_id = str(path_or_id)
    if local.is_dir():
        if revision is not None:
            raise UserError(
                f"{path_or_id}: a folder has no revisions; leave out revision={revision}, or give "
                "a hub id"
            )
        return local
    if local.is_file():
        raise UserError(f"{path_or_id}: a file; give the folder that config.json lies in")
    page = re.match(r"https?://[^/]+/([\w.-]+/[\w.-]+)", path_or_id)
    if page:
        raise UserError(f"{path_or_id}: a page of the hub; give its id, {page[1]}")
    if "@" in path_or_id:
        name, _, commit = path_or_id.partition("@")
        raise UserError(
            f"{path_or_id}: no such directory; of a hub id the revision is apart: {name} and "
            f"revision={commit}"
        )
    if local.is_absolute() or path_or_id.startswith(".") or path_or_id.count("/") != 1:
        raise UserError(f"{path_or_id}: no such directory (a hub id looks like owner/name)")
    import huggingface_hub

    try:
        found = pathlib.Path(
            huggingface_hub.snapshot_download(
                path_or_id,
                revision=revision,
                allow_patterns=[f for f in HUB_FILES if weights or "safetensors" not in f],
                ignore_patterns=HUB_LEFT_OUT,
            )
        )
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise hub_error(error, path_or_id, revision) from error
    if config:
        _check_on_hub(found, path_or_id, revision)
    return found


def _check_on_hub(found: pathlib.Path, name: str, revision: str | None) -> None:
    """Refuse a repository that is no checkpoint, by the names of all its files if they are told."""
    import huggingface_hub

    if (found / "config.json").is_file() and any((found / f).is_file() for f in (SINGLE, INDEX)):
        return
    try:
        names = huggingface_hub.list_repo_files(name, revision=revision)
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError):
        return  # offline: what is in the cache is all that is known
    if "config.json" not in names or not {SINGLE, INDEX} & set(names):
        what = describe(names) or f"has no config.json, or neither {SINGLE} nor {INDEX}"
        raise UserError(f"{name}: {what}")


def read_json(path: pathlib.Path) -> Any:
    """What a JSON file holds, all its numbers finite.

    Raises:
        UserError: it is not JSON, nested too deeply, or has NaN or infinity in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if text.startswith(POINTER.decode()):
        raise UserError(f"{path}: {_LFS}")
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise UserError(f"{path}: not valid JSON (nested too deeply)") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


# --- Folders of other kinds ---------------------------------------------------------------------

_LFS = "a pointer to a file that Git LFS has not fetched; run `git lfs pull` in its folder"


def _names(*patterns: str) -> Callable[[Sequence[str]], list[str]]:
    """A function to those of a folder's names that match one of the expressions."""
    whole = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    return lambda names: [name for name in names if whole.fullmatch(name)]


_EMBEDDER = (
    _names("modules.json", "config_sentence_transformers.json"),
    "a sentence-transformers model, which embeds texts and cannot write any; give a causal "
    "language model",
)
# What other kinds of folders have in them, and what to do; the first that fits is said.
_KINDS = (
    (_names("model_index.json"), "a diffusers pipeline, which has no causal language model for us"),
    _EMBEDDER,
    (
        _names(r"adapter_(config|model)\..*"),
        "a LoRA adapter without its model; merge it first (peft: AutoPeftModelForCausalLM"
        ".from_pretrained(...).merge_and_unload().save_pretrained(new folder)) and give that "
        "folder",
    ),
    (
        _names(r".*\.gguf"),
        "GGUF, which is not read; give the checkpoint it was made from, or write one with "
        "AutoModelForCausalLM.from_pretrained(folder, gguf_file=...).save_pretrained(new folder)",
    ),
    (
        _names(r"consolidated.*\.safetensors"),
        "Mistral's own format; give the repository's files in Hugging Face format "
        "(config.json and model*.safetensors)",
    ),
    (
        _names(r"consolidated.*\.pth", r"params\.json"),
        "Meta's own format; convert it with transformers' convert_llama_weights_to_hf.py, or give "
        "the repository whose name ends in -hf",
    ),
    (
        _names(r"pytorch_model.*\.bin(\.index\.json)?", r".*\.(pt|pth|ckpt|bin)"),
        "pickled weights, which are never opened here, for a pickle can run any code; if you "
        f"trust them write safetensors with {_SAVE}",
    ),
    (
        _names(r"flax_model.*\.msgpack(\.index\.json)?"),
        f"old Flax weights; write safetensors with {_SAVE} (from_flax=True needs transformers 4)",
    ),
    (
        _names(r"tf_model\.h5", r".*\.h5"),
        f"TensorFlow weights; write safetensors with {_SAVE} (from_tf=True needs transformers 4)",
    ),
    (_names(r".*\.onnx"), "an ONNX export, which has no weights to train; give its checkpoint"),
    (
        _names(r"model-\d+-of-\d+\.safetensors"),
        f"a part of a checkpoint: {INDEX}, which says what its files hold, is not here",
    ),
)


def describe(names: Sequence[str]) -> str:
    """What a folder of these files is if it is no checkpoint in our layout; "" if unknown."""
    for matching, what in _KINDS:
        found = matching(sorted(names))
        if found:
            return f"{found[0]}: {what}"
    others = sorted(name for name in names if re.fullmatch(r"[^/]+\.safetensors", name))
    if others and SINGLE not in others:
        return f"{others[0]}: rename it to {SINGLE} if it holds the whole model"
    inside = sorted({name.split("/")[0] for name in names if name.endswith("/config.json")})
    if inside:
        return f"there are checkpoints in folders inside it ({', '.join(inside[:4])}); give one"
    return ""


def not_here(directory: pathlib.Path, missing: str) -> UserError:
    """The line for a folder that lacks a file every checkpoint has."""
    names = [path.name for path in directory.iterdir()]
    names += [f"{path.parent.name}/config.json" for path in directory.glob("*/config.json")]
    other = describe(names)
    return UserError(f"{directory}: {other or missing}")


def check_kind(directory: pathlib.Path) -> None:
    """Refuse a folder without `config.json`, and one that holds an adapter beside it.

    Raises:
        UserError: says what it holds and what to do.
    """
    if not (directory / "config.json").is_file():
        raise not_here(
            directory, "config.json: no such file; a checkpoint directory needs a config.json"
        )
    is_embedder, what = _EMBEDDER
    found = is_embedder(sorted(path.name for path in directory.iterdir()))
    if found:  # beside a config.json that could be a language model's
        raise UserError(f"{directory}: {found[0]}: {what}")
    if (directory / "adapter_config.json").is_file():
        raise UserError(
            f"{directory}: adapter_config.json: a LoRA adapter beside a config.json, so which "
            "model is meant is unclear; merge it (peft: AutoPeftModelForCausalLM"
            ".from_pretrained(...).merge_and_unload().save_pretrained(new folder)), or take it away"
        )
