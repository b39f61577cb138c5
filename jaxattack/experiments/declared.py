"""Declared settings: a field says what it means, its unit and what it may be; all else follows.

A study's settings are frozen dataclasses whose fields are made by `setting`. From them come the
checks of `freeze`, what the command line makes of `--config.name=text`, and `--help`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxattack.errors import UserError

LARGEST = 2**31 - 1  # whole numbers end in arrays of int32


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a setting means and may be; bounds and choices hold for each item of a tuple.

    Attributes:
        help: what it means, in a few words.
        unit: of a number.
        choices: the only values there are; a registry's rows, as they are when a value is read.
        above, at_least, at_most, below: bounds of a number.
        needed: a tuple that may not be empty.
        repeats: a tuple that may hold a value twice.
        named: a number that becomes part of names, which show six digits of it.
        check: returns what is wrong with a value, "" for nothing.
    """

    help: str
    unit: str = ""
    choices: Collection[str] = ()
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    needed: bool = False
    repeats: bool = False
    named: bool = False
    check: Callable[[Any], str] | None = None

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        low, high = self.at_least, self.at_most
        if low is not None and high is not None:
            return f"between {_number(low)} and {_number(high)}"
        lower = [f"at least {_number(low)}"] if low is not None else []
        lower += [f"above {_number(self.above)}"] if self.above is not None else []
        upper = [f"at most {_number(high)}"] if high is not None else []
        upper += [f"below {_number(self.below)}"] if self.below is not None else []
        return " and ".join((*lower, *upper))

    def allows(self, number: float) -> bool:
        """Whether a number lies within the bounds."""
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )


def setting(help: str, default: Any = dataclasses.MISSING, **rule: Any) -> Any:
    """A field of a settings dataclass; see `Rule` for the keywords.

    A dataclass that inherits it may say `name: type = value`: another default, the same rule.
    """
    return _field(Rule(help, **rule), default)


def as_in(kind: type, name: str, default: Any = dataclasses.MISSING) -> Any:
    """The field of that name of another settings dataclass, perhaps with another default."""
    if default is dataclasses.MISSING:
        default = getattr(kind, name)
    return _field(rules_of(kind)[name], default)


def _field(rule: Rule, default: Any) -> Any:
    if isinstance(default, Mapping):
        default = dict(default)
        return dataclasses.field(default_factory=default.copy, metadata={"rule": rule})
    return dataclasses.field(default=default, metadata={"rule": rule})


def rules_of(kind: type) -> dict[str, Rule]:
    """The declarations of a dataclass's own and inherited fields, by name."""
    return {
        name: field.metadata["rule"]
        for base in reversed(kind.__mro__)
        for name, field in vars(base).get("__dataclass_fields__", {}).items()
        if "rule" in field.metadata
    }


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


# --- Dataclasses and configs --------------------------------------------------------------------


def config_of(settings: Any) -> ConfigDict:
    """A dataclass of settings as a ConfigDict, which takes no others."""
    config = ConfigDict()
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = config_of(value)
        elif isinstance(value, Mapping):
            value = ConfigDict(dict(value))
        config[field.name] = config_dict.placeholder(str) if value is None else value
    return config.lock()


def freeze(config: Mapping[str, Any], kind: type, where: str = "config") -> Any:
    """Make the dataclass `kind` from a config, section by section.

    Raises:
        UserError: a key is missing or unknown, or a value is not what its declaration says.
    """
    if not isinstance(config, collections.abc.Mapping | ConfigDict):
        raise UserError(f"{where} is {config!r}; it is a section with settings of its own")
    hints = typing.get_type_hints(kind)
    unknown = sorted(str(key) for key in set(config) - set(hints))
    missing = sorted(set(hints) - set(config))
    if unknown:
        raise UserError(f"{where}: unknown keys: {', '.join(unknown)}{nearest(unknown[0], hints)}")
    if missing:
        raise UserError(f"{where}: missing keys: {', '.join(missing)}")
    rules, values = rules_of(kind), {}
    for name, hint in hints.items():
        at = f"{where}.{name}"
        if dataclasses.is_dataclass(hint):
            values[name] = freeze(config[name], typing.cast(type, hint), at)
        else:
            values[name] = _typed(config[name], hint, at)
            if name in rules:
                check_value(values[name], rules[name], at)
    return kind(**values)


def nearest(wrong: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """`; did you mean ...?`, of the known names the most alike or that of the same initials."""
    plain = wrong.replace("-", "_").lower()
    initials = [name for name in known if "".join(part[:1] for part in name.split("_")) == plain]
    alike = initials or difflib.get_close_matches(plain, list(known), 1, cutoff=0.5)
    alike = alike or [name for name in known if plain and plain in name][:1]
    return f"; did you mean {alike[0]}?" if alike else f"; there are: {', '.join(known)}"


def _typed(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str | int | float) or not isinstance(value, tuple | list):
            raise UserError(f"{where} is {value!r}; write --{where}=\"('a','b')\"")
        inner = typing.get_args(hint)[0]
        return tuple(_typed(item, inner, where) for item in value)
    if typing.get_origin(hint) is collections.abc.Mapping:
        if not isinstance(value, collections.abc.Mapping | ConfigDict):
            raise UserError(f"{where} is {value!r}; it is a section with settings of its own")
        inner = typing.get_args(hint)[1]
        return {key: _typed(value[key], inner, f"{where}.{key}") for key in value}
    allowed = typing.get_args(hint) or (hint,)
    if value is None and type(None) in allowed:
        return None
    wanted = next(kind for kind in allowed if kind is not type(None))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float_of(value)
    if type(value) is not wanted:
        raise UserError(f"{where} is {value!r}; it should be {KINDS[wanted]}")
    return value


def float_of(value: int) -> float:
    """A whole number as a float; infinity if none is as large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


KINDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}


def check_value(value: Any, rule: Rule, where: str) -> None:
    """Refuse a value of the right type that its declaration does not allow.

    Raises:
        UserError: names the setting and what it may be.
    """
    is_many = isinstance(value, tuple | Mapping)
    items = list(value.values()) if isinstance(value, Mapping) else list(value if is_many else ())
    for item in items if is_many else [value]:
        if rule.choices and item not in rule.choices:
            close = _close(item, rule.choices)
            raise UserError(f"{where} is {item!r}; give one of {', '.join(rule.choices)}{close}")
        wrong = _wrong_number(item, rule)
        if wrong:
            beside = f", not {item!r}" if is_many else ""
            raise UserError(f"{where} is {value!r}; {wrong}{beside}")
    if isinstance(value, tuple):
        if rule.needed and not value:
            raise UserError(f"{where} is (); give at least one")
        shown = [f"{item:g}" if isinstance(item, float) else item for item in value]
        if not rule.repeats and len(set(shown)) < len(shown):
            twice = next(item for item in shown if shown.count(item) > 1)
            raise UserError(f"{where} is {value!r}; {twice} is there twice, give each once")
    wrong = rule.check(value) if rule.check else ""
    if wrong:
        raise UserError(f"{where} is {value!r}; {wrong}")


def _wrong_number(item: Any, rule: Rule) -> str:
    """What it should be, in words, if it is not."""
    if isinstance(item, bool) or not isinstance(item, int | float):
        return ""
    if not math.isfinite(item) or not rule.allows(item):
        return f"it should be {rule.bounds or 'a finite number'}"
    if isinstance(item, int) and abs(item) > LARGEST:
        return f"it should be at most {LARGEST}"
    if rule.named and float(f"{item:g}") != item:
        return f"it should be a number of six digits, as names show it ({item:g})"
    return ""


def _close(wrong: Any, choices: Collection[str]) -> str:
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(str(wrong).lower(), list(lowered), 1)
    return f" (perhaps {lowered[found[0]]})" if found else ""


def spelled(text: str, inner: Any = str) -> str:
    """How the items in a text are written as a tuple."""
    parts = [part for part in re.split(r"[\s,'\"()\[\]]+", text) if part]
    items = [repr(part) if inner is str else part for part in parts]
    return f"({','.join(items)}{',' if len(items) == 1 else ''})"


# --- Help ---------------------------------------------------------------------------------------


def declared(kind: type, where: str = "") -> Iterator[tuple[str, Any, Rule | None]]:
    """Every setting by its dotted name, its type and its declaration."""
    hints, rules = typing.get_type_hints(kind), rules_of(kind)
    for field in dataclasses.fields(kind):
        hint, name = hints[field.name], f"{where}{field.name}"
        if dataclasses.is_dataclass(hint):
            yield from declared(typing.cast(type, hint), f"{name}.")
        else:
            yield name, hint, rules.get(field.name)


def help_lines(config: ConfigDict, kind: type) -> list[str]:
    """A line a setting: its name, its value here, what it means, its unit and its choices."""
    lines = []
    for name, hint, rule in declared(kind):
        value: Any = config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, ConfigDict) else None
        rows = {name: value}
        if isinstance(value, ConfigDict):
            rows = {f"{name}.{key}": value[key] for key in value}
        about = explain(hint, rule)
        lines += [f"  --config.{key}={shown!r}  {about}" for key, shown in rows.items()]
    return lines


def explain(hint: Any, rule: Rule | None) -> str:
    """A setting's meaning, unit and choices or bounds, in a line."""
    if rule is None:
        return ""
    parts = [rule.help]
    if rule.unit:
        parts.append(f"in {rule.unit}")
    return "; ".join(filter(None, (*parts, allowed(hint, rule))))


def allowed(hint: Any, rule: Rule) -> str:
    """A setting's choices or bounds, in words; "" for any value."""
    several = typing.get_origin(hint) is tuple
    choices = f"{'any' if several else 'one'} of {', '.join(rule.choices)}" if rule.choices else ""
    truth = "True or False" if hint is bool else ""
    return "; ".join(filter(None, (choices, truth, rule.bounds)))
