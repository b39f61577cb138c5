"""Names of values: JSON that is equal exactly where the values are.

What has no name here cannot be an argument of a step, so that nothing that decides a result is
forgotten in its identity.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import AbstractMesh, Mesh
from transformers import PreTrainedTokenizerBase

from jaxattack import provenance, workdir
from jaxattack.data.dialogues import Example, fingerprint
from jaxattack.data.templates import template_of

MOST = 100  # values that a name lists one by one

_tokenizers: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


def identity(value: Any) -> Any:
    """JSON that names a value.

    Dataclasses are named by the fields that compare, examples by a hash of all they hold,
    tokenizers by their vocabulary and how they write, functions by their name and their source.

    Raises:
        TypeError: it has no name.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "named"):  # a step
        return {"step": value.id}
    if isinstance(value, Mapping):
        return {str(key): identity(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return _sequence(value)
    if isinstance(value, np.ndarray | np.generic):
        whole = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"array": [str(value.dtype), list(value.shape), whole[:16]]}
    if isinstance(value, Mesh | AbstractMesh):
        return dict(value.shape)
    if isinstance(value, PreTrainedTokenizerBase):
        return _tokenizer(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if callable(value):
        return _function(value)
    raise TypeError(f"{type(value).__name__} has no name; a step cannot be made of it")


def name_of(function: Callable[..., Any]) -> str:
    """Where a function is.

    Raises:
        TypeError: it is not one of a module's own, so that its source does not say all of it.
    """
    name = getattr(function, "__qualname__", "")
    if not name or "<" in name:
        raise TypeError(f"{function!r} is not a function of a module's own")
    return f"{function.__module__}.{name}"


def _sequence(values: Sequence[Any]) -> Any:
    if values and all(isinstance(value, Example) for value in values):
        return {"examples": fingerprint(values), "of": type(values[0]).__name__}
    found = [identity(value) for value in values]
    return found if len(found) <= MOST else {"values": len(found), "of": workdir.digest(found)}


def _fields(value: Any) -> dict[str, Any]:
    own = ("parent", "name") if isinstance(value, nn.Module) else ()
    fields = [f for f in dataclasses.fields(value) if f.compare and f.name not in own]
    found = {field.name: identity(getattr(value, field.name)) for field in fields}
    return {"is": type(value).__name__, **found}


def _function(value: Callable[..., Any]) -> dict[str, Any]:
    if isinstance(value, functools.partial):
        return {
            "partial": _function(value.func),
            "arguments": identity([value.args, value.keywords]),
        }
    value = getattr(value, "__wrapped__", value)  # jitted, cached
    return {"function": name_of(value), "code": provenance.source_of(value.__module__)}


def _tokenizer(value: PreTrainedTokenizerBase) -> dict[str, Any]:
    known = _tokenizers.get(value)
    if known is None:
        backend = getattr(value, "backend_tokenizer", None)
        text = backend.to_str() if backend else repr(sorted(value.get_vocab().items()))
        written = template_of(value).identity
        found = hashlib.sha256(f"{text}\0{sorted(written.items())}".encode()).hexdigest()[:16]
        known = _tokenizers[value] = {"tokenizer": found}
    return known
