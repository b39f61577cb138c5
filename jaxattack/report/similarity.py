"""Similarity of languages set against what carries over between them."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.report.tables import Tables
from jaxattack.report.variants import Variant

Rows = Sequence[Mapping[str, Any]]


def middle_layer(rows: Rows) -> int | None:
    """The layer shown: fixed before looking, so that none is picked for its correlation."""
    layers = sorted({row["layer"] for row in rows})
    return layers[len(layers) // 2] if layers else None


def points(
    tables: Tables, rows: Rows, measure: str, layer: int | None
) -> list[tuple[float, float]]:
    """(similarity, violations) of every ordered pair of languages, attacked and asked."""
    alike = {}
    for row in rows:
        if (row["measure"], row["layer"]) == (measure, layer):
            alike[row["a"], row["b"]] = alike[row["b"], row["a"]] = row["value"]
    found = []
    for attacked in tables.attacked:
        for asked in tables.languages:
            rate = tables.rate(Variant("attacked", attacked), asked)
            if rate and attacked != asked and (attacked, asked) in alike:
                found.append((alike[attacked, asked], rate.value))
    return found


def rho_caption(tests: Rows, measure: str, layer: int | None) -> str:
    """`: ρ = 0.61 (95 % interval 0.20 to 0.84), p = 0.004`; empty if it was not tested."""
    for row in tests:
        if (row["measure"], row["layer"]) == (measure, layer):
            text = f": ρ = {signed(row['rho'])}"
            if row.get("low") is not None and row.get("high") is not None:
                text += f" (95 % interval {signed(row['low'])} to {signed(row['high'])})"
            return text + (f", p = {row['p']:.2g}" if row.get("p") is not None else "")
    return ""


def signed(value: float) -> str:
    """A correlation with a true minus sign."""
    return f"{value:.2f}".replace("-", "−")
