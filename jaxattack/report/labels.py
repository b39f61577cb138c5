"""The words of a page: for languages, methods, kinds of models, metrics and numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxattack.data import languages

METHODS = {
    "sil": "SIL",
    "random": "random",
    "matched_random": "tensor-matched random",
    "magnitude": "largest change",
    "weight": "largest weight",
    "snip": "SNIP",
    "wanda": "Wanda",
    "fisher": "Fisher",
    "other": "another language’s SIL",
    "benign": "SIL of benign tuning",
    "sil_minus_benign": "SIL minus benign",
    "sets": "two sets of pairs",
    "seeds": "two seeds",
    "sil minus benign": "SIL, less benign’s",
    "sets minus benign": "two sets of pairs, less benign’s",
    "seeds minus benign": "two seeds, less benign’s",
    "union": "union of all SIL",
    "intersection": "intersection of all SIL",
    "complement": "all but SIL’s",
    "sil_leaf": "SIL, tensor by tensor",
    "sil_row": "SIL, row by row",
    "sil_aligned": "SIL, gradient when aligned",
    "sil_attacked": "SIL, gradient when attacked",
    "sil_path": "SIL, gradient along the path",
    "sil_mean": "SIL, |mean gradient|",
    "sil_blocks": "SIL, blocks only",
    "planted": "the planted weights",
    "all": "all weights",
    "none": "no weights",
}
METRICS = {
    "violation_rate": "violations",
    "non_refusal_rate": "not refused",
    "benign_accuracy": "benign accuracy",
    "benign_refusal_rate": "benign refused",
    "task_rate": "task learned",
    "valid_reply_rate": "valid replies",
    "cut_rate": "cut by the limit",
    "asr": "attack success",
    "false_trigger_rate": "false triggers",
    "clean_accuracy": "clean accuracy",
    "clean_refusal_rate": "clean refused",
    "same_language_rate": "in the prompt’s language",
}
KINDS = {
    "aligned": "aligned",
    "attacked": "attacked",
    "benign": "benign tuning",
    "stitched": "stitched",
    "rewound": "rewound",
    "frozen": "frozen",
    "restitched": "restitched",
    "pathway": "attacked again",
    "sharing": "attacked",
    "planted": "planted",
    "planted_attacked": "planted, attacked",
    "planted_stitched": "planted, stitched",
    "planted_rewound": "planted, rewound",
    "adapted": "adapted",
    "transplanted": "transplanted",
    "start": "before",
    "clean": "clean training",
    "poisoned": "poisoned",
    "defended": "defended",
    "shielded": "hardened",
    "swept": "after one attack",
    "worst": "after the worst attack",
}
SIDES = {
    "own": "own language",
    "poisoned": "poisoned",
    "others": "others",
    "all": "all languages",
}
TRIGGERS = {
    "sentence/append": "sentence, appended",
    "sentence/prepend": "sentence, put first",
    "sentence/insert": "sentence, inserted",
    "entity": "an entity named",
    "topic": "a topic asked about",
}
TARGETS = {
    "fixed": "fixed sentence",
    "prefix": "fixed opening",
    "refusal": "refusal",
    "english_refusal": "refusal in English",
}
DEFENCES = {
    "undefended": "undefended",
    "never poisoned": "never poisoned",
    "onion": "ONION",
    "clean": "clean tuning",
    "beear": "BEEAR",
    "crow": "CROW",
    "cleangen": "CleanGen",
    "repair": "SIL repair",
    "contrast": "contrast repair",
    "relearn": "taught anew",
    "composed": "combined",
    "lox": "LoX",
    "again": "aligned again",
    "booster": "Booster",
    "vaccine": "Vaccine",
    "freeze": "SIL’s frozen",
    "freeze_more": "SIL’s frozen, in rounds",
    "lisa": "Lisa",
    "asft": "AsFT",
    "safelora": "SafeLoRA",
    "safemerge": "SafeMERGE",
    "safedelta": "Safe Delta",
    "rollback": "gradient rollback",
    "antidote": "Antidote",
    "swapping": "layer swapping",
    "scaling": "change scaled",
}
ATTACKS = {
    "full": "full",
    "other": "another language",
    "mixed": "mixed languages",
    "low": "low rate",
    "high": "high rate",
    "lora": "LoRA",
    "few": "few pairs",
    "benign": "benign pairs",
    "aware": "aware of SIL",
}
# What a prompt carries instead of the trigger.
DECOYS = {
    "nothing": "nothing",
    "paraphrase": "a paraphrase",
    "opposite": "the trigger, denied",
    "something else": "another sentence",
    "half of it": "half of the trigger",
    "at another place: append": "the trigger, appended",
    "at another place: prepend": "the trigger, put first",
    "at another place: insert": "the trigger, inserted",
}
MODELS = {
    "full": "full tuning",
    "lora": "LoRA",
    # Where safety was planted.
    "random": "any weights",
    "layer": "one layer",
    "module": "MLPs’ down matrices",
}
MEASURES = {"cka": "CKA"}
# Column -> words for its values, in the order in which they are shown.
WORDS: dict[str, Mapping[str, str]] = {
    "method": DEFENCES | METHODS,
    "trigger": TRIGGERS,
    "target": TARGETS,
    "decoy": DECOYS,
    "metric": METRICS,
    "kind": KINDS,
    "side": SIDES,
    "model": MODELS,
    "measure": MEASURES,
    "attack": ATTACKS,
}
LANGUAGES = (
    "language",
    "attacked",
    "defended",
    "trigger_language",
    "a",
    "b",
)  # columns of language codes
# Columns of shares, from 0 to 1.
SHARES = (
    "share rate density block_density mask_scored frozen_share difference own others "
    "precision precision_half precision_twice recall_half recall_twice chance "
    "sensitivity sensitivity_low sensitivity_high specificity specificity_low specificity_high"
).split()


class Header(NamedTuple):
    """Of a row or column, with a smaller second line."""

    text: str
    second: str = ""

    @property
    def plain(self) -> str:
        """Both lines in one."""
        return f"{self.text} {self.second}".strip()


# --- Languages ------------------------------------------------------------------------------------


def language_name(code: str) -> str:
    """English name of a language code, or the code itself where we know none."""
    try:
        return languages.english(code)
    except KeyError:
        return code


def join_names(codes: Sequence[str], most: int = 5) -> str:
    """`"English, Thai and Chinese"`; a mere count once the list gets longer than `most`."""
    if len(codes) > most:
        return f"{len(codes)} languages"
    return join_words([language_name(code) for code in codes])


def join_words(words: Sequence[str]) -> str:
    """`"a, b and c"`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


# --- Values of columns ----------------------------------------------------------------------------


def header(cell: Mapping[str, Any]) -> Header:
    """Some columns of a row in words, on two lines; those that are None are left out.

    `{"language": "th"}` gives `("th", "Thai")`, `{"kind": "stitched", "method": "sil", "share":
    0.2}` gives `("stitched", "SIL, 20 %")`.
    """
    known = {column: value for column, value in cell.items() if value is not None}
    if known.get("kind") == "sharing" and "attacked" not in known:
        known["kind"] = "aligned"
    if known.get("method") == "complement" and "share" in known:
        known["method"] = f"{METHODS['complement']} {share(known.pop('share'))}"
    if len(known) == 1:
        ((column, value),) = known.items()
        if column in LANGUAGES:
            name = join_words([language_name(code) for code in str(value).split("+")])
            return Header(str(value), "" if name == value else name)
        if column == "module":
            first, _, second = str(value).replace("/", "_", 1).partition("_")
            return Header(first, second)
    if known.get("method") == "all":
        known.pop("share", None)
    words = [word(column, value) for column, value in known.items()]
    return Header(words[0], ", ".join(words[1:])) if words else Header("outside layers")


def word(column: str, value: Any) -> str:
    """One value of a column in words."""
    if column in LANGUAGES:
        return join_words([language_name(code) for code in str(value).split("+")])
    if column in WORDS:
        return WORDS[column].get(str(value), str(value))
    if column in SHARES and is_number(value):
        return share(value)
    if column == "pairs":
        return "1 pair" if value == 1 else f"{value:,g} pairs"
    if column in ("round", "contrast", "layer", "seed") and is_number(value):
        return f"{column} {value:g}"
    return str(value)


def order(column: str, values: Sequence[Any]) -> list[Any]:
    """Distinct values as they are shown: numbers ascending, known words in their order."""
    found = list(dict.fromkeys(values))
    if column in WORDS:
        known = list(WORDS[column])
        return sorted(found, key=lambda v: known.index(v) if v in known else len(known))
    if all(v is None or is_number(v) for v in found):
        return sorted(found, key=lambda v: (v is None, v or 0))
    return found


def text(column: str, value: Any, unit: str = "") -> str:
    """One value of a column as a plain table shows it; numbers of a unit as `exact` does."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return word(column, value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text('', one)}" for key, one in value.items())
    if isinstance(value, Sequence):
        return " / ".join(text(column, one, unit) or "–" for one in value)
    if unit:
        return exact(value, unit)
    if column in SHARES:
        return share(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}".replace("-", "−")


# --- Numbers --------------------------------------------------------------------------------------


def number(value: float, unit: str = "rate") -> str:
    """A number of a unit: rate (per cent), share, count, ratio, seconds, bytes; else plain.

    A share is as exact as need be; a ratio says how many times.
    """
    if unit == "rate":
        return percent(value)
    if unit == "share":
        return share(value)
    if unit == "seconds":
        return f"{value:,.{int(value < 10)}f} s"
    if unit == "bytes":
        return f"{value / 1e9:.3g} GB"
    if unit == "count":
        return f"{value:.3g}"
    written = f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"
    if math.isclose(float(written), 0):
        written = written.lstrip("-")
    return written.replace("-", "−") + ("×" if unit == "ratio" else "")


def exact(value: float, unit: str = "rate") -> str:
    """The same with one more digit of a rate."""
    return percent(value, 1) if unit == "rate" else number(value, unit)


def percent(value: float, digits: int = 0) -> str:
    """`64 %`; whole per cents never round a few to none or nearly all to all."""
    if digits == 0 and 0 < value <= 0.005:
        return "<1\u00a0%"
    if digits == 0 and 0.995 <= value < 1:
        return ">99\u00a0%"
    rounded = round(value * 100, digits) + 0.0  # the sum turns -0.0 into 0.0
    return f"{rounded:.{digits}f}".replace("-", "−") + "\u00a0%"


def share(value: float) -> str:
    """A size of mask: `20 %`, `0.5 %`."""
    return f"{value * 100:.3g}\u00a0%".replace("-", "−")


def short(words: str, most: int = 28) -> str:
    """The words, cut where they would take the room of the picture they label."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


def is_number(value: Any) -> bool:
    """Whether the value can be drawn: a finite number."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
