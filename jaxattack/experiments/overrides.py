"""What the command line says of settings: `--config.name=text` by the declaration of the name."""

from __future__ import annotations

import ast
import collections.abc
import dataclasses
import math
import types
import typing
from typing import Any

from ml_collections import ConfigDict

from jaxattack.errors import UserError
from jaxattack.experiments.declared import KINDS, declared, float_of, nearest, spelled

_BOOLEANS = {
    "true": True,
    "yes": True,
    "1": True,
    "on": True,
    "false": False,
    "no": False,
    "0": False,
    "off": False,
}


def override(config: ConfigDict, kind: type, path: str, text: str | None) -> None:
    """Set one setting by its dotted name from the text of `--config.path=text`.

    Args:
        config: what is changed.
        kind: the dataclass that declares it.
        path: dotted, without `config.`.
        text: None for a flag without a value, which is True.

    Raises:
        UserError: there is no such setting (the nearest is named), or the text is no such value.
    """
    parts = path.split(".")
    hint: Any = kind
    here: Any = config
    for i, name in enumerate(parts):
        where = ".".join(("config", *parts[:i]))
        hint = _inside(hint, here, name, path, where, kind)
        if i < len(parts) - 1:
            here = here[name]
    where = f"config.{path}"
    if dataclasses.is_dataclass(hint) or typing.get_origin(hint) is collections.abc.Mapping:
        inside = typing.get_type_hints(hint) if dataclasses.is_dataclass(hint) else here[name]
        raise UserError(f"{where} is a section; its settings are: {', '.join(inside)}")
    with here.unlocked(), here.ignore_type():
        here[name] = parse(text, hint, where)


def _inside(hint: Any, config: Any, name: str, path: str, where: str, kind: type) -> Any:
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        if name in hints and name in config:
            return hints[name]
        elsewhere = [known for known, *_ in declared(kind) if known.split(".")[-1] == name]
        if elsewhere:
            raise UserError(
                f"--config.{path}: {where} has no {name!r}; did you mean --config.{elsewhere[0]}?"
            )
        raise UserError(f"--config.{path}: {where} has no {name!r}{nearest(name, hints)}")
    if typing.get_origin(hint) is collections.abc.Mapping:
        if name in config:
            return typing.get_args(hint)[1]
        raise UserError(f"--config.{path}: {where} has no {name!r}{nearest(name, list(config))}")
    raise UserError(f"--config.{path}: {where} is no section, it has a value of its own")


def parse(text: str | None, hint: Any, where: str) -> Any:
    """The value that a text of the command line stands for.

    Raises:
        UserError: it stands for none; says how to write one.
    """
    allowed = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(parse(str(item), inner, where) for item in _items(text, inner, where))
    wanted = allowed[0]
    if text is None:
        if wanted is bool:
            return True
        raise UserError(f"--{where} has no value; write --{where}=VALUE")
    if text in ("", "None") and isinstance(hint, types.UnionType):
        return None
    if wanted is str:
        return _unquoted(text)
    value = _scalar(_unquoted(text.strip()).strip(), wanted)
    if value is None:
        raise UserError(f"{where} is {text!r}; it should be {KINDS[wanted]}")
    return value


def _scalar(text: str, wanted: type) -> Any:
    """The number or truth value a text stands for; None if for none."""
    if wanted is bool:
        return _BOOLEANS.get(text.lower())
    try:
        number: float = int(text)
    except ValueError:
        try:
            number = float(text)
        except ValueError:
            return None
    if wanted is float:
        return float_of(number) if isinstance(number, int) else number
    if isinstance(number, int):
        return number
    return int(number) if math.isfinite(number) and number.is_integer() else None  # 1e1


def _items(text: str | None, inner: Any, where: str) -> list[Any]:
    """The items of a tuple: `('en','th')`, `[0, 1]`, `0,1` or a single one."""
    if text is None:
        raise UserError(f"--{where} has no value; write --{where}=\"('a','b')\"")
    try:
        value = ast.literal_eval(text.strip() or "()")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text.strip()
    if isinstance(value, tuple | list):
        if any(isinstance(item, tuple | list | dict | set) for item in value):
            raise UserError(f"{where} is {text!r}; its items should be plain values")
        return list(value)
    if isinstance(value, str) and (value[:1] in ("(", "[") or "," in value):
        raise UserError(f'{where} is {text!r}; write --{where}="{spelled(value, inner)}"')
    return [value]


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
