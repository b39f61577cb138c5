"""What computes a step: the libraries, the devices, the code.

`identity` is what changes numbers in every step, and `source_of` what changes them in those of one
module: both enter a step's name, so with another version of a library, on other devices or by
other code it is computed anew. `environment` is all that is worth knowing of a run.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import os
import pathlib
import subprocess
import sys
import time
from importlib import metadata
from typing import Any

import jax

# Libraries that decide numbers or tokens, and the others that are worth knowing.
DECISIVE = ("jax", "jaxlib", "flax", "optax", "numpy", "tokenizers", "transformers")
OTHERS = ("jaxattack", "orbax-checkpoint", "safetensors", "datasets")

PACKAGE = pathlib.Path(__file__).parent

# Flags of XLA that change where it runs or what it tells, not what it computes.
_IDLE_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count", "--xla_hlo_profile")


def identity() -> dict[str, Any]:
    """What changes numbers beside a step's own inputs."""
    devices = jax.devices()
    known = versions()
    return {
        "versions": {name: known[name] for name in DECISIVE if name in known},
        "device": devices[0].device_kind,
        "devices": len(devices),
        "xla_flags": sorted(f for f in xla_flags().split() if not f.startswith(_IDLE_FLAGS)),
        "matmul_precision": getattr(jax.config, "jax_default_matmul_precision", None),
        "x64": bool(getattr(jax.config, "jax_enable_x64", False)),
    }


def environment() -> dict[str, Any]:
    """Versions, the commit this code is from, the devices, and how XLA was told to run."""
    return {
        "versions": versions(),
        "python": sys.version.split()[0],
        "platform": f"{sys.platform} {os.uname().machine}",
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "code": code_hash(),
        "xla_flags": xla_flags(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def now() -> str:
    """The present time, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def xla_flags() -> str:
    """Flags that XLA was given."""
    return os.environ.get("XLA_FLAGS", "")


@functools.lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of the libraries that are installed."""
    found = {}
    for name in sorted((*DECISIVE, *OTHERS)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@functools.lru_cache(maxsize=1)
def code_hash() -> str:
    """A hash of all code and data of the package."""
    whole = hashlib.sha256()
    for source in sorted(PACKAGE.rglob("*")):
        if source.is_file() and source.suffix != ".pyc":
            whole.update(source.relative_to(PACKAGE).as_posix().encode() + b"\0")
            whole.update(hashlib.sha256(source.read_bytes()).digest())
    return whole.hexdigest()[:12]


@functools.cache
def source_of(module: str) -> str:
    """A hash of a module of ours and of all of ours that it imports, the data beside them included.

    So a changed program computes anew exactly the steps that its change can reach. Data are files
    and folders beside a module that it names.
    """
    whole = hashlib.sha256()
    for path in sorted(_closure(module)):
        for file in (
            (path,) if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        ):
            whole.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0")
            whole.update(hashlib.sha256(_content(file)).digest())
    return whole.hexdigest()[:12]


def _content(file: pathlib.Path) -> bytes:
    return file.read_bytes()


def _closure(module: str) -> set[pathlib.Path]:
    """The files that a module's import reads, and the data beside them."""
    left, found = [_file_of(module)], set[pathlib.Path]()
    while left:
        path = left.pop()
        if path is not None and path not in found:
            found.add(path)
            imported, data = _beneath(path)
            found |= data
            left += imported
    return found


@functools.cache
def _beneath(path: pathlib.Path) -> tuple[frozenset[pathlib.Path], frozenset[pathlib.Path]]:
    """What of ours a file imports, and the data beside it that it names."""
    imported, texts = set[pathlib.Path](), set[str]()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            imported |= {file for name in names if (file := _file_of(name))}
        elif isinstance(node, ast.Import):
            imported |= {file for alias in node.names if (file := _file_of(alias.name))}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    beside = (place for place in path.parent.iterdir() if place.name in texts)
    data = (place for place in beside if not (place / "__init__.py").exists())
    return frozenset(imported), frozenset(place for place in data if place.suffix != ".py")


def _file_of(name: str) -> pathlib.Path | None:
    """The file of a module, or of the module that a name stands in; None if it is not ours."""
    root, *parts = name.split(".")
    while root == PACKAGE.name:
        place = PACKAGE.joinpath(*parts)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if parts and file.is_file():
                return file
        if not parts:
            return PACKAGE / "__init__.py"
        parts.pop()
    return None


@functools.lru_cache(maxsize=2)
def _git(*arguments: str) -> str | None:
    """Output of git in the package's own checkout, in which it writes nothing; else None."""
    here = pathlib.Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(here), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return done.stdout.strip()
