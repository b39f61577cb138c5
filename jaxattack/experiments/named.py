"""Temporary: from the names of variants to cells, until the studies have cells of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import Cell


def cell_named(name: str, seed: int | None = None) -> Cell:
    """The cell of a variant's name."""
    kind, *rest = name.split("/")
    if kind == "start":
        return Cell("poisoned", seed, model=rest[0]) if rest else Cell("start", seed)
    if kind == "poisoned":
        languages, trigger, last, *prompts = rest
        target, _, rate = last.partition("@")
        return Cell(
            kind, seed, attacked=languages, trigger=trigger.replace("-", "/", 1),
            target=target, rate=float(rate), prompts=prompts[0] if prompts else None,
        )  # fmt: skip
    if kind == "defended":
        method, setting = rest
        share = None
        if method in ("onion", "repair"):
            setting, _, number = setting.partition("@")
            share = float(number)
        return Cell(kind, seed, method=method, setting=setting, share=share)
    if kind == "adapted":
        return Cell(kind, seed, model=rest[0])
    if not rest:
        return Cell(kind, seed)
    language, chosen = rest[0], rest[1] if len(rest) > 1 else ""
    method, _, number = chosen.rpartition("@")
    if kind == "sharing":
        attacked = None if language == "aligned" else language
        return Cell(kind, seed, attacked=attacked, contrast=float(number))
    if kind == "transplanted":
        model, _, method = method.rpartition("-")
        return Cell(kind, seed, attacked=language, model=model, method=method, share=float(number))
    if kind == "pathway":
        return Cell(kind, seed, attacked=language, round=int(number))
    if method == "pairs":
        return Cell(kind, seed, attacked=language, pairs=int(number))
    share = float(number) if number else None
    return Cell(kind, seed, attacked=language, method=method or None, share=share)


def trials_of(found: Mapping[tuple[str, int | None], Sequence[Any]]) -> dict[Cell, list[Trial]]:
    """Trials of variants, those of a backdoor study as they were read, as trials of cells."""
    return {cell_named(*key): [_trial(one) for one in own] for key, own in found.items()}


def _trial(one: Any) -> Trial:
    if isinstance(one, Trial):
        return one
    same = one.get("same_language", True)
    return Trial(
        str(one["id"]), "benign", one["language"], one.get("triage", "ok"), one["refused"],
        one["answered"], one.get("reply_hash", ""), "" if same else "another", one["hit"],
        one["trigger_language"], one["decoy"], one["replaced"],
    )  # fmt: skip


def with_cells(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with columns of cells beside the names of variants."""
    found = dict(results)
    for key in ("rows", "freeze_proof", "changed"):
        found[key] = [
            cell_named(row["variant"], row.get("seed")).columns() | row
            for row in results.get(key) or ()
        ]
    for key, columns in (
        ("overlap", {"fraction": "share"}),
        ("capacity", {"language": "attacked"}),
        ("masks", {"language": "attacked", "fraction": "share"}),
    ):
        found[key] = [
            row | {new: row[old] for old, new in columns.items() if old in row}
            for row in results.get(key) or ()
        ]  # fmt: skip
    return found


def with_names(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The claims as the report reads them: what a test is of by its name."""
    found = dict(claims)
    for key, column in (("tests", "attacked"), ("defence_tests", "variant")):
        if key in claims:
            found[key] = [{"attack": row[column]} | row for row in claims[key]]
    found["capacity"] = [{"language": r["attacked"]} | r for r in claims.get("capacity") or ()]
    return found
