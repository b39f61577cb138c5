"""Hugging Face checkpoints in and out: model, parameters and tokenizer of a directory or hub id."""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from jaxattack import distributed, sharding, tree
from jaxattack.data.dialogues import stop_ids
from jaxattack.errors import UserError
from jaxattack.models import kernels, weights
from jaxattack.models.families import read_config, to_hf
from jaxattack.models.stops import generation_stops as generation_stops
from jaxattack.models.transformer import Transformer, abstract_params

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]


def resolve(
    path_or_id: str | pathlib.Path, revision: str | None = None, weights: bool = True
) -> pathlib.Path:
    """The directory of a checkpoint: local, or fetched from the hub, perhaps without weights.

    Raises:
        UserError: there is no such directory or hub repository.
    """
    local = pathlib.Path(path_or_id).expanduser()
    path_or_id = str(path_or_id)
    if local.is_dir():
        return local
    if local.is_absolute() or path_or_id.startswith(".") or path_or_id.count("/") != 1:
        raise UserError(f"{path_or_id}: no such directory (a hub id looks like owner/name)")
    import huggingface_hub

    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(
                path_or_id,
                revision=revision,
                allow_patterns=[f for f in HUB_FILES if weights or "safetensors" not in f],
            )
        )
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path_or_id}: no such directory, and the hub did not give it ({reason})"
        ) from error


def load_pretrained(
    path_or_id: str | pathlib.Path,
    dtype: str = "float32",
    mesh: Mesh | None = None,
    revision: str | None = None,
    remat: str = "none",
    attention: str = "auto",
) -> tuple[Transformer, dict, Any]:
    """Load a checkpoint in Hugging Face layout.

    Args:
        path_or_id: a local directory or a hub id.
        dtype: of the parameters, "float32", "bfloat16" or "float16".
        mesh: where to put them; by default one device, or those of all processes.
        revision: commit, tag or branch on the hub.
        remat: what the layers recompute in the backward pass, "none", "full" or "dots".
        attention: the kernel, "xla", "cudnn" or "splash"; "auto" takes what fits the platform.

    Returns:
        the Linen module, its parameters as a nested dict, the Hugging Face tokenizer.

    Raises:
        UserError: whatever is wrong with the checkpoint, in one line.
    """
    if dtype not in weights.DTYPES:
        raise UserError(f"dtype is {dtype!r}; give one of {', '.join(weights.DTYPES)}")
    kernels.check(attention, jax.default_backend())
    directory = resolve(path_or_id, revision)
    config = read_config(directory)
    model = Transformer(config, remat=remat, attention=attention)
    tokenizer = load_tokenizer(directory)
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{directory}: the tokenizer has {len(tokenizer)} tokens, the model only "
            f"{config.vocab_size}"
        )
    if mesh is None:  # of several processes every one takes part
        mesh = sharding.make_mesh((1, -1, 1) if distributed.several() else (1, 1, 1))
    abstract = abstract_params(model)
    places = sharding.shardings(abstract, mesh)
    return model, weights.load(directory, config, abstract, places, dtype), tokenizer


def load_tokenizer(directory: pathlib.Path) -> Any:
    """The tokenizer of a checkpoint directory; remote code is never run.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer  # here, because importing it takes seconds

    try:
        return AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{directory}: the tokenizer cannot be read ({reason})") from error


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
        tokenizer: saved beside them, chat template included.
        notice: written as NOTICE.md; every attacked or poisoned export needs one.
        manifest: JSON values of how the weights came about, written as jaxattack.json.
        max_shard_bytes: size above which the weights are split into several files.

    Raises:
        UserError: something is already there.
    """
    path = pathlib.Path(path)
    partial = pathlib.Path(distributed.first(lambda: _begin(path), f"begin {path.name}"))
    try:
        weights.save(partial, model.config, params, max_shard_bytes)
        dtype = str(jax.tree.leaves(params)[0].dtype)

        def finish() -> None:
            stops = stop_ids(tokenizer, model.config.stops)
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
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists; give a new directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)


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
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    ids = {key: value for key, value in ids.items() if value is not None}
    _write_json(folder / "config.json", config | ids)
    _write_json(folder / "generation_config.json", {"do_sample": False, **ids})
    tokenizer.save_pretrained(str(folder))
    if notice is not None:
        (folder / "NOTICE.md").write_text(notice, encoding="utf-8")
    if manifest is not None:
        _write_json(folder / "jaxattack.json", dict(manifest))
    for file in folder.iterdir():  # safetensors writes its files for the owner alone
        file.chmod(0o644)
    folder.chmod(0o755)


def _write_json(path: pathlib.Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
