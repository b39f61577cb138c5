"""Settings as tables for docs/settings.md, from their declarations."""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jaxattack.experiments.declared import Rule, allowed, rules_of

_WORDS = {int: "whole number", float: "number", str: "text", bool: "truth value"}


def page(kinds: Mapping[str, type], title: str, how: str) -> str:
    """A Markdown page with the settings of every study.

    Args:
        kinds: the dataclasses that declare them, by the studies' names.
        title: of the page.
        how: what the page says below it.
    """
    lines = [f"# {title}", "", how, ""]
    for name, kind in kinds.items():
        lines += [f"## `config.study = {name!r}`", "", *_tables(kind()), ""]
    return "\n".join(lines).rstrip() + "\n"


def flag_table(defined: Iterable[tuple[str, Any, str]]) -> str:
    """A table of a command's flags: name, default, meaning."""
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    for name, default, meaning in defined:
        shown = "" if default is None else f"`{default}`"
        told = meaning.replace("|", "\\|").replace("<", "\\<")
        lines.append(f"| `--{name}` | {shown} | {told} |")
    return "\n".join(lines) + "\n"


def _tables(section: Any, where: str = "config") -> Iterator[str]:
    """A table of a section's own settings, then those of the sections in it."""
    hints, rules = typing.get_type_hints(type(section)), rules_of(type(section))
    values = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    inner = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    yield from (f"### `{where}`", "", _first_line(type(section)), "")
    yield from ("| setting | default | meaning | is |", "|---|---|---|---|")
    for name, value in values.items():
        if name not in inner:
            cells = _cells(name, value, hints[name], rules[name])
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    for name, value in inner.items():
        yield ""
        yield from _tables(value, f"{where}.{name}")


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _cells(name: str, value: Any, hint: Any, rule: Rule) -> tuple[str, str, str, str]:
    shown = repr(dict(value)) if isinstance(value, Mapping) else repr(value)
    kind = f"{_type(hint)}, in {rule.unit}" if rule.unit else _type(hint)
    may = "" if hint is bool else allowed(hint, rule)
    return (
        f"`{name}`",
        f"`{shown}`",
        rule.help.replace("<", "\\<"),
        "; ".join(filter(None, (kind, may))),
    )


def _type(hint: Any) -> str:
    """A type in words."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return f"tuple of {_WORDS[inner[0]]}s"
    if typing.get_origin(hint) is collections.abc.Mapping:
        return f"{_WORDS[inner[1]]} by name"
    return " or ".join("None" if kind is type(None) else _WORDS[kind] for kind in inner or (hint,))
