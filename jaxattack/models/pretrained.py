"""Hugging Face checkpoints in and out: model, parameters and tokenizer of a directory or hub id."""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from jaxattack import distributed, owner, sharding, tree
from jaxattack.data.dialogues import stop_ids
from jaxattack.errors import UserError
from jaxattack.models import kernels, weights
from jaxattack.models.config_out import to_hf
from jaxattack.models.families import read_config
from jaxattack.models.folder import HUB_FILES, POINTER, VOCABULARIES, resolve
from jaxattack.models.stops import generation_stops
from jaxattack.models.transformer import Transformer, abstract_params

__all__ = [
    "HUB_FILES",
    "MANIFEST",
    "generation_stops",
    "has_tokenizer",
    "load_pretrained",
    "load_tokenizer",
    "resolve",
    "save_pretrained",
]

MANIFEST = "jaxattack.json"  # in a folder that is written: how its weights came about


def load_pretrained(
    path_or_id: str | pathlib.Path,
    dtype: str = "float32",
    mesh: Mesh | None = None,
    revision: str | None = None,
    remat: str = "none",
    attention: str = "auto",
    tokenizer: Any = None,
) -> tuple[Transformer, dict, Any]:
    """Load a checkpoint in Hugging Face layout.

    Args:
        path_or_id: a local directory or a hub id.
        dtype: of the parameters, "float32", "bfloat16" or "float16".
        mesh: where to put them; by default one device, or those of all processes.
        revision: commit, tag or branch on the hub.
        remat: what the layers recompute in the backward pass, "none", "full" or "dots".
        attention: the kernel, "xla", "cudnn" or "splash"; "auto" takes what fits the platform.
        tokenizer: a folder or hub id to take it from, or a tokenizer; by default the checkpoint's
            own. It may have more ids than the model has rows: those that occur are refused.

    Returns:
        the Linen module, its parameters as a nested dict, the Hugging Face tokenizer (None if the
        folder has none and none is given).

    Raises:
        UserError: whatever is wrong with the checkpoint, in one line.

    Example:
        >>> ja.save_pretrained(folder / "mine", model, params, tokenizer)
        >>> again, loaded, _ = ja.load_pretrained(folder / "mine")
        >>> bool((loaded["embed"] == params["embed"]).all())
        True
    """
    if dtype not in weights.DTYPES:
        raise UserError(f"dtype is {dtype!r}; give one of {', '.join(weights.DTYPES)}")
    kernels.check(attention, jax.default_backend())
    directory = resolve(path_or_id, revision)
    config = read_config(directory)
    model = Transformer(config, remat=remat, attention=attention)
    if tokenizer is None:
        tokenizer = load_tokenizer(directory) if has_tokenizer(directory) else None
    elif isinstance(tokenizer, str | pathlib.Path):
        tokenizer = load_tokenizer(resolve(tokenizer, weights=False))
    if mesh is None:  # of several processes every one takes part
        mesh = sharding.make_mesh((1, -1, 1) if distributed.several() else (1, 1, 1))
    abstract = abstract_params(model)
    places = sharding.shardings(abstract, mesh)
    return model, weights.load(directory, config, abstract, places, dtype), tokenizer


def has_tokenizer(directory: pathlib.Path) -> bool:
    """Whether a folder has a tokenizer, or a part of one."""
    names = {path.name for path in directory.iterdir()}
    return bool(names & {*VOCABULARIES, "tokenizer_config.json"}) or any(
        name.endswith(".tiktoken") for name in names
    )


def load_tokenizer(directory: pathlib.Path) -> Any:
    """The tokenizer of a checkpoint directory; remote code is never run.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    _check_tokenizer(directory)
    from transformers.utils import logging  # here, because importing it takes seconds

    told = logging.get_verbosity()
    try:
        logging.set_verbosity_error()  # what goes wrong is said below, on one line
        return _read_tokenizer(directory)
    except Exception as error:  # of many kinds, and plain ones from tokenizers
        needs = _needs(directory)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{directory}: the tokenizer cannot be read ({needs or lines[0]})"
        ) from error
    finally:
        logging.set_verbosity(told)


def _read_tokenizer(directory: pathlib.Path) -> Any:
    """What transformers makes of a folder, cutting texts as its tokenizer.json does.

    Classes of transformers take the vocabulary from that file and bring a normaliser and a
    pre-tokenizer of their own, as LlamaTokenizer and GPT2Tokenizer do; the model was trained with
    the file's. Only where transformers knows that file's pattern to be another than the model was
    trained with (Mistral's, before 2026) its own goes.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    read = functools.partial(AutoTokenizer.from_pretrained, str(directory), trust_remote_code=False)
    found, file = read(), directory / "tokenizer.json"
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return found
    wrong = getattr(backend, "fix_mistral_regex", None) is False
    if wrong:
        found = read(fix_mistral_regex=True)
        backend = found.backend_tokenizer
    own = Tokenizer.from_file(str(file))
    backend.model, backend.decoder, backend.normalizer = own.model, own.decoder, own.normalizer
    if not wrong:
        backend.pre_tokenizer = own.pre_tokenizer
    return found


def _check_tokenizer(directory: pathlib.Path) -> None:
    """Refuse a folder in which no tokenizer is to be found, before transformers guesses one."""
    names = sorted(path.name for path in directory.iterdir())
    if not has_tokenizer(directory):
        raise UserError(
            f"{directory}: no tokenizer is here ({', '.join(VOCABULARIES[:3])}); name a folder "
            "that has the model's"
        )
    found = [name for name in names if name in VOCABULARIES or name.endswith(".tiktoken")]
    if not found:
        raise UserError(
            f"{directory}: the tokenizer cannot be read (tokenizer_config.json is here, but no "
            f"vocabulary: {', '.join(VOCABULARIES[:3])})"
        )
    for name in found:
        with (directory / name).open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise UserError(
                    f"{directory / name}: the tokenizer cannot be read (a pointer to a file that "
                    "Git LFS has not fetched; run `git lfs pull` there)"
                )
    if found == ["vocab.json"] and "merges.txt" not in names:
        raise UserError(
            f"{directory}: the tokenizer cannot be read (vocab.json is here, but not merges.txt)"
        )


def _needs(directory: pathlib.Path) -> str:
    """Which package is missing for a vocabulary that tokenizers does not read by itself."""
    if (directory / "tokenizer.json").is_file():
        return ""
    for path in sorted((*directory.glob("*.model"), *directory.glob("*.tiktoken"))):
        with path.open("rb") as file:  # the other kind is text, a token in base 64 a line
            kind = "sentencepiece" if file.read(1) == b"\n" else "tiktoken"
        packages = {"sentencepiece": "sentencepiece protobuf", "tiktoken": "tiktoken"}[kind]
        if importlib.util.find_spec(kind) is None:
            return f"{path.name} alone needs {kind}: pip install {packages}"
        return f"{path.name} is damaged, or no vocabulary of {kind}"
    return ""


def save_pretrained(
    path: str | pathlib.Path,
    model: Transformer,
    params: tree.Tree,
    tokenizer: Any,
    notice: str | None = None,
    manifest: Mapping[str, Any] | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a directory that transformers opens; it appears whole or not at all.

    Of several processes all have to call it, and the first one writes.

    Args:
        path: must not exist, or be an empty directory.
        model: the module.
        params: its parameters, written in their own dtype.
        tokenizer: saved beside them, chat template included; None for none.
        notice: written as NOTICE.md; every attacked or poisoned export needs one.
        manifest: JSON values of how the weights came about, written as jaxattack.json.
        max_shard_bytes: size above which the weights are split into several files.

    Raises:
        UserError: something is already there.

    Example:
        >>> ja.save_pretrained(folder / "saved", model, params, tokenizer)
        >>> (folder / "saved" / "model.safetensors").is_file()
        True
    """
    path = pathlib.Path(path)
    partial = pathlib.Path(distributed.first(lambda: _begin(path), f"begin {path.name}"))
    try:
        weights.save(partial, model.config, params, max_shard_bytes)
        dtype = str(jax.tree.leaves(params)[0].dtype)

        def finish() -> None:
            stops = model.config.stops
            if tokenizer is not None:
                stops = stop_ids(tokenizer, stops)
            config = to_hf(model.config, dtype)
            _write_texts(partial, config, tokenizer, stops, notice, manifest)
            partial.rename(path)

        distributed.first(finish, f"finish {path.name}")
    except BaseException:
        if distributed.is_first():
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _begin(path: pathlib.Path) -> str:
    """A folder beside `path` to fill."""
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise UserError(f"{path} exists; give a new directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix=f".{path.name}{owner.mark()}", dir=path.parent)


def _write_texts(
    folder: pathlib.Path,
    config: dict[str, Any],
    tokenizer: Any,
    stops: tuple[int, ...],
    notice: str | None,
    manifest: Mapping[str, Any] | None,
) -> None:
    """Everything of a checkpoint but the weights."""
    ids = {
        "eos_token_id": stops[0] if len(stops) == 1 else list(stops) or None,
        "bos_token_id": getattr(tokenizer, "bos_token_id", None),
        "pad_token_id": getattr(tokenizer, "pad_token_id", None),
    }
    ids = {key: value for key, value in ids.items() if value is not None}
    _write_json(folder / "config.json", config | ids)
    _write_json(folder / "generation_config.json", {"do_sample": False, **ids})
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    if notice is not None:
        (folder / "NOTICE.md").write_text(notice, encoding="utf-8")
    if manifest is not None:
        _write_json(folder / MANIFEST, dict(manifest))
    for file in folder.iterdir():  # safetensors writes its files for the owner alone
        file.chmod(0o644)
    folder.chmod(0o755)


def _write_json(path: pathlib.Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
