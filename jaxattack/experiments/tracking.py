"""What `--track` tells of a run: a curve for every training, and in the end what was found.

Numbers, names of stages and settings, and no text that was read or written. Nothing is told of
steps that were there already, and what cannot be told changes no run.
"""

from __future__ import annotations

import contextlib
import contextvars
import pathlib
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jaxattack import distributed, meter, trackers
from jaxattack.errors import printable
from jaxattack.experiments import logbook
from jaxattack.meter import Stride
from jaxattack.trackers import Tracker, slug

# Rates that say how a study went, and the kinds of models of which a method is a defence.
RATES = ("violation_rate", "asr", "benign_accuracy", "clean_accuracy")
DEFENDED = ("defended", "worst", "shielded")
VERDICTS = {"holds": 1.0, "undecided": 0.5, "does not hold": 0.0}

_SECRET = re.compile(r"(?i)(?:^|_)(?:api_?key|key|token|secret|password|credentials?)$")
_PLAIN = re.compile(r"[!-~]{0,300}")  # words and places; a text has spaces, or other letters
_LOGIN = re.compile(r"(?<=://)[^/@]*@|(?<=[?&])[^=&]*=[^&#]*|\b(?:hf_|sk-)[\w-]{8,}")

_told: contextvars.ContextVar[list[Tracker]] = contextvars.ContextVar("trackers")


@contextlib.contextmanager
def opened(names: Iterable[str], root: pathlib.Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Tell trackers of every training in this context; of several processes the first does.

    Raises:
        UserError: one of them cannot begin.
    """
    if not names or not distributed.is_first():
        yield
        return
    shown = safe(config)
    there: list[Tracker] = []
    token, well = _told.set(there), False
    try:
        for name in names:
            there.append(trackers.TRACKERS[name](root, shown))
        with meter.watched_by(_watcher(there)):
            yield
        well = True
    finally:
        _told.reset(token)
        _each(there, lambda tracker: tracker.close(well))


def finish(results: Mapping[str, Any]) -> None:
    """Tell what a study found (see `found`)."""
    values = found(results)
    _each(_told.get([]), lambda tracker: tracker.summary(values))


def _watcher(there: list[Tracker]) -> meter.Watcher:
    times: dict[str, int] = defaultdict(int)

    def watch(stride: Stride) -> None:
        times[stride.label] += stride.begins
        again = times[stride.label]
        group = slug(stride.label) + (f"-{again}" if again > 1 else "")
        values = numbers(stride)
        _each(there, lambda tracker: tracker.point(group, stride.step, values))

    return watch


def _each(there: list[Tracker], act: Callable[[Tracker], None]) -> None:
    """Act on every tracker; one that fails is left out from then on, and so said."""
    for tracker in there.copy():
        try:
            act(tracker)
        except Exception as error:
            there.remove(tracker)
            reason = str(error) or type(error).__name__
            said = f"jaxattack: {trackers.FLAG}={tracker.name}: {reason}; it is told no more"
            print(printable(said), file=sys.stderr, flush=True)


def numbers(stride: Stride) -> dict[str, float]:
    """What is told of a step; speeds only where they are known."""
    values = {"loss": stride.loss}
    if stride.rate is not None:
        values["learning_rate"] = stride.rate
    if stride.seconds and stride.tokens:
        speed = stride.tokens / stride.seconds
        values |= logbook.speeds(speed, stride.weights, stride.devices)
    return {**values, **meter.memory()}


def found(results: Mapping[str, Any]) -> dict[str, float]:
    """What a study found, as numbers by name.

    `claims/ID/verdict`, 1 where it holds, 0 where not, 0.5 undecided; `claims/ID/FIGURE`; and
    `rates/METRIC/MODEL/LANGUAGE`, means over seeds, of the models that no mask was put into.
    """
    values: dict[str, float] = {}
    for claim in results["claims"]:
        name = f"claims/{slug(claim['id'])}"
        if claim["verdict"] in VERDICTS:
            values[f"{name}/verdict"] = VERDICTS[claim["verdict"]]
        figures = {f"{name}/{slug(one['what'])}": one["value"] for one in claim["evidence"]}
        values |= {what: float(value) for what, value in figures.items() if value is not None}
    rates: dict[str, list[float]] = defaultdict(list)
    for row in results["rows"]:
        plain = row.get("method") is None or row["kind"] in DEFENDED
        if row["metric"] in RATES and plain and row["value"] is not None:
            model, language = slug(row["variant"]), slug(row["language"])
            rates[f"rates/{row['metric']}/{model}/{language}"].append(float(row["value"]))
    return values | {name: sum(seeds) / len(seeds) for name, seeds in rates.items()}


def safe(config: Any) -> Any:
    """Settings without keys, logins and texts: what may be shown to who sees the curves."""
    if isinstance(config, Mapping):
        return {
            name: "(not shown)" if isinstance(value, str) and _SECRET.search(name) else safe(value)
            for name, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [safe(value) for value in config]
    if not isinstance(config, str):
        return config
    if not _PLAIN.fullmatch(config):
        return f"(a text of {len(config)} letters)"
    return _LOGIN.sub("(not shown)", config)
