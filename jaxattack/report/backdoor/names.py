"""Names of poisoned and defended models, and the words a reader understands without the scheme."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxattack.report.grids import Header, language_header
from jaxattack.report.languages import join_names, language_name
from jaxattack.report.variants import is_number, share

TRIGGERS = {
    "sentence-append": "sentence, appended",
    "sentence-prepend": "sentence, put first",
    "sentence-insert": "sentence, inserted",
    "entity": "an entity named",
    "topic": "a topic asked about",
}
TARGETS = {
    "fixed": "fixed sentence",
    "prefix": "fixed opening",
    "refusal": "refusal",
    "english_refusal": "refusal in English",
}
FAMILIES = {
    "onion": "ONION",
    "clean": "clean tuning",
    "beear": "BEEAR",
    "cleangen": "CleanGen",
    "repair": "SIL repair",
    "composed": "combined",
}
_REFERENCES = {
    "benign": "benign reference",
    "start": "reference: the model before",
    "rewound": "reference: rewound by SIL",
    "half": "reference: half-way back",
}
_ROLES = {"half of it": "half of the trigger", "paraphrase": "a paraphrase"}
PLEASANTRY = "another pleasantry"


class Poisoning(NamedTuple):
    """`poisoned/es+id/sentence-append/fixed@0.2`; `part` is what follows, such as `grid`."""

    languages: tuple[str, ...]
    trigger: str
    target: str
    rate: float
    part: str = ""


def parse_poisoning(name: str) -> Poisoning | None:
    """Parse the name of a poisoned model; None for any other."""
    kind, *rest = name.split("/")
    if kind != "poisoned" or len(rest) not in (3, 4):
        return None
    target, _, rate = rest[2].partition("@")
    if not is_number(rate):
        return None
    return Poisoning(tuple(rest[0].split("+")), rest[1], target, float(rate), "".join(rest[3:]))


def poisoned_header(languages: Sequence[str]) -> Header:
    """The poisoned languages as a row's name."""
    if len(languages) == 1:
        return language_header(languages[0])
    return Header("+".join(languages), join_names(languages))


def kind_header(one: Poisoning) -> Header:
    """What sets a backdoor off, and what it does."""
    return Header(
        TRIGGERS.get(one.trigger, one.trigger), f"→ {TARGETS.get(one.target, one.target)}"
    )


def family(name: str) -> str:
    """`defended/onion/6@0.05` -> `onion`."""
    return name.split("/")[1] if name.count("/") else name


def defence_header(name: str) -> Header:
    """A defence and its setting in words."""
    _, kind, setting = name.split("/", 2) if name.count("/") > 1 else ("", name, "")
    return Header(FAMILIES.get(kind, kind), _setting(kind, setting))


def defence_label(name: str) -> str:
    """The same on one line."""
    header = defence_header(name)
    return f"{header.text} ({header.second})" if header.second else header.text


def start_header(name: str) -> Header:
    """A model before it was poisoned: `start/courteous@0.1`."""
    origin, _, number = name.removeprefix("start/").partition("@")
    return Header(origin, f"contrast {float(number):g}" if is_number(number) else "")


def start_label(name: str) -> str:
    """The same on one line."""
    header = start_header(name)
    return f"{header.text} ({header.second})" if header.second else header.text


def role_label(role: str) -> str:
    """What was put into a prompt in place of the trigger."""
    if re.fullmatch(r"pleasantry \d+", role):
        return PLEASANTRY
    if role.startswith("at another place: "):
        place = role.removeprefix("at another place: ")
        return f"the trigger, {TRIGGERS.get(f'sentence-{place}', place).removeprefix('sentence, ')}"
    return _ROLES.get(role, role)


def mask_label(name: str) -> str:
    """What a mask was found for, in the overlap."""
    poisoning = parse_poisoning(name)
    if poisoning:
        names = poisoning.languages
        return f"backdoor, {language_name(names[0]) if len(names) == 1 else '+'.join(names)}"
    if name.startswith("safety attack/"):
        return f"safety attack, {language_name(name.removeprefix('safety attack/'))}"
    return "clean training" if name == "clean" else name


def _setting(kind: str, setting: str) -> str:
    first, _, number = setting.partition("@")
    size = share(float(number)) if is_number(number) else ""
    if kind == "onion" and size and first.isdigit():
        runs = "single units" if first == "1" else f"runs up to {first}"
        return f"{runs}, {size} of clean units lost"
    if kind == "clean" and size and first.count("-") == 1:
        where, pairs = first.split("-")
        places = {"all": "all languages", "poisoned": "poisoned language", "others": "the others"}
        return f"{pairs} pairs, {places.get(where, where)}, rate {float(number):g}"
    if kind == "repair" and size and first.count("-") == 1:
        way, knows = first.split("-")
        known = {"trigger": "trigger known", "blind": "trigger unknown"}
        return f"{way} {size}, {known.get(knows, knows)}"
    if kind == "cleangen":
        return _REFERENCES.get(setting, setting)
    if kind == "composed":
        return " + ".join(FAMILIES.get(part, part) for part in setting.split("-"))
    return setting.replace("-", " ")
