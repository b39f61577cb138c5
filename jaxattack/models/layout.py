"""A checkpoint's safetensors files by their headers: which holds what, and whether they fit."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError, safe_open

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig
from jaxattack.models.folder import INDEX, POINTER, SINGLE, not_here, read_json
from jaxattack.models.table import Row, hf_shape, model_prefix, rows


def locate(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """Which file holds which tensor; a single file is taken before an index, as by transformers.

    Raises:
        UserError: no safetensors here, a file that the index names is absent or lies elsewhere, or
            one that is truncated.
    """
    if (directory / SINGLE).is_file():
        files = [SINGLE]
    elif (directory / INDEX).is_file():
        files = _indexed(directory)
    else:
        raise not_here(directory, f"neither {SINGLE} nor {INDEX} is here")
    found: dict[str, pathlib.Path] = {}
    for name in files:
        path = directory / name
        try:
            with safe_open(path, framework="numpy") as file:
                keys = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: {_not_safetensors(path, error)}") from error
        twice = sorted(set(keys) & set(found))
        if twice:
            raise UserError(f"{path}: tensors that {found[twice[0]]} has too: {some(twice)}")
        found |= dict.fromkeys(keys, path)
    return found


def _indexed(directory: pathlib.Path) -> list[str]:
    """The files that the index names: all there, and within the folder or the hub's cache."""
    index = directory / INDEX
    try:
        files = sorted(set(read_json(index)["weight_map"].values()))
        paths = [directory / name for name in files]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: not a safetensors index ({error!r})") from error
    except UserError as error:
        raise UserError(f"{index}: not a safetensors index ({error})") from error
    home = directory.resolve()
    if any("\0" in name for name in files):
        raise UserError(f"{index}: a file's name has a null character in it")
    for name, path in zip(files, paths, strict=True):
        target = path.resolve()
        # A snapshot of the hub's cache has links to files named by their hash, two folders up.
        cached = path.is_symlink() and target.parent == home.parent.parent / "blobs"
        if not (target.is_relative_to(home) or cached):
            raise UserError(f"{index}: names {name!r}, which lies outside of the folder")
    absent = [name for name, path in zip(files, paths, strict=True) if not path.is_file()]
    if absent:
        raise UserError(f"{index} names files that are not there: {some(absent)}")
    return files


def _not_safetensors(path: pathlib.Path, error: Exception) -> str:
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            return "a pointer to a file that Git LFS has not fetched; run `git lfs pull` there"
    return f"truncated or not safetensors ({error})"


# How the text model's names begin in a model around it, as the hub has it and as transformers does.
_WRAPPERS = ("language_model.model.", "model.language_model.")
_AROUND = ("vision_tower.", "multi_modal_projector.")


def rows_for(config: ModelConfig, files: Mapping[str, Any]) -> list[Row]:
    """The weight table, with the names that these files have.

    Those may be the names of a bare model (BLOOM's are published so) or of a Gemma 3 within its
    multimodal model. Of a tied pair the file may have either.
    """
    prefix, table = model_prefix(config), rows(config)

    def renamed(old: str, new: str) -> list[Row]:
        return [
            dataclasses.replace(row, name=re.sub(f"^{re.escape(old)}", new, row.name))
            for row in table
        ]

    wrappers = _WRAPPERS if config.family == "gemma3_text" else ()
    for around in wrappers:
        if any(name.startswith(around) for name in files):
            table = renamed(prefix, around)
    if any(row.name.format(0) in files for row in renamed(prefix, "") if row.path != "head"):
        table = renamed(prefix, "")
    if "language_model.lm_head.weight" in files:
        table = renamed("lm_head", "language_model.lm_head")
    if config.tied and table[0].name not in files and heads(files):
        table[0] = dataclasses.replace(table[0], name=heads(files)[0])
    return table


def heads(files: Mapping[str, Any]) -> list[str]:
    """Names under which the files have a head."""
    return [name for name in ("lm_head.weight", "language_model.lm_head.weight") if name in files]


def check(directory: pathlib.Path, table: Sequence[Row], shapes: Mapping, files: Mapping) -> None:
    """Compare the table with the files both ways.

    Raises:
        UserError: lists weights that are missing, unused or of another shape.
    """
    expected = {}
    for row in table:
        layers = range(shapes[row.path][0]) if row.stacked else [None]
        for layer in layers:
            expected[row.name.format(layer)] = hf_shape(row, shapes[row.path])
    problems = []
    missing = sorted(set(expected) - set(files))
    unused = sorted(name for name in set(files) - set(expected) if not _harmless(name, expected))
    if missing:
        problems.append(f"missing: {some(missing)}")
    if unused:
        problems.append(f"unused: {some(unused)}")
    wrong = []
    for path in sorted(set(files.values())):
        with safe_open(path, framework="numpy") as file:
            for name in sorted(n for n in set(expected) & set(files) if files[n] == path):
                shape = tuple(file.get_slice(name).get_shape())
                if shape != expected[name]:
                    wrong.append(f"{name} is {shape}, not {expected[name]}")
    if wrong:
        problems.append(f"wrong shape: {some(wrong)}")
    if problems:
        raise UserError(
            f"{directory}: weights do not fit config.json; {_hint(missing, unused)}"
            + "; ".join(problems)
        )


def _harmless(name: str, expected: Mapping) -> bool:
    """Whether nothing reads a tensor that some checkpoints carry."""
    if name.endswith("rotary_emb.inv_freq"):
        return True
    if name.endswith("lm_head.weight"):  # of a tied model; `_check_tied` compares them
        return "lm_head.weight" not in expected and f"language_model.{name}" not in expected
    within = any(other.startswith(_WRAPPERS) for other in expected)
    return within and name.removeprefix("model.").startswith(_AROUND)


def _hint(missing: Sequence[str], unused: Sequence[str]) -> str:
    """What a misfit of this kind comes from and what to do about it, if that can be told."""
    if any("lora_" in name for name in unused):
        return "a LoRA adapter's are among them: merge it (peft: merge_and_unload) and save; "
    if any(name.endswith(_QUANTISED) for name in unused):
        return "they are quantised: give the checkpoint they were made from; "
    if missing and any("language_model." in name for name in unused):
        return "a text model within another, as of gemma3 only: save its language model alone; "
    first = {re.sub(r"(model|transformer|lm_head)\..*", "", name) for name in unused}
    prefix = next(iter(first)) if len(first) == 1 else ""
    if missing and prefix and not set(unused) & set(missing):
        by = {"_orig_mod.": ", as torch.compile names them", "module.": ", as wrappers name them"}
        return (
            f"all names begin with {prefix!r}{by.get(prefix, '')}: save the model inside, or "
            "rename them; "
        )
    if list(missing) == ["lm_head.weight"]:
        return "without a head a model writes no text: give the causal language model; "
    return ""


_QUANTISED = tuple(
    ".qweight .qzeros .scales .g_idx .absmax .quant_map .weight_scale .weight_scale_inv "
    ".weight_packed .SCB".split()
)


def some(items: list[str], most: int = 6) -> str:
    """The first of the items, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest


def check_directory(
    directory: pathlib.Path, config: ModelConfig, abstract: tree.Tree
) -> tuple[dict[str, pathlib.Path], list[Row]]:
    """Compare the files' headers with the config; returns which file has what, and the table.

    Raises:
        UserError: as `locate` and `check`.
    """
    files = locate(directory)
    shapes = {name: leaf.shape for name, leaf in tree.named_leaves(abstract).items()}
    table = rows_for(config, files)
    check(directory, table, shapes, files)
    return files, table
