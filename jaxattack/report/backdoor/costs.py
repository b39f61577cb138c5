"""What a defence costs beside accuracy: weights changed, speed, tokens put right."""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any


def changed_share(results: Mapping[str, Any]) -> dict[str, float]:
    """Share of the weights a defence changed."""
    rows = [row for row in results.get("changed") or () if row.get("weights")]
    return _means((row["variant"], row["changed"] / row["weights"]) for row in rows)


def speeds(results: Mapping[str, Any]) -> dict[str, float]:
    """Tokens per second as a multiple of the clean model's, undefended, on the same prompts."""
    per_second = {}
    for row in results.get("costs") or ():
        seconds = row["filtering"] + row["decoding"]
        if seconds > 0 and row["tokens"]:
            per_second[row["variant"], row.get("seed")] = row["tokens"] / seconds
    base = {seed: value for (name, seed), value in per_second.items() if name == "clean"}
    found = [(name, v / base[seed]) for (name, seed), v in per_second.items() if seed in base]
    return _means(found)


def replaced(results: Mapping[str, Any], prompts: str) -> dict[str, float]:
    """Share of tokens that a guard replaced, mean over languages."""
    rows = [row for row in results.get("interventions") or () if row["prompts"] == prompts]
    return _means((row["variant"], row["value"]) for row in rows)


def _means(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for name, value in found:
        groups.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in groups.items()}
