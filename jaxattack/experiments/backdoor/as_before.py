"""Old names, for the present report; goes when the new page is in."""

from __future__ import annotations

from typing import Any

from jaxattack.experiments.backdoor.setup import Setup


def add(everything: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """Results with the old names of columns and variants beside the new ones."""
    names = [attack.cell().variant for attack in setup.attacks]
    for row in everything["interventions"]:
        row["prompts"] = row["prompts_are"]
    for row in everything["overlap"]:
        safety = f"safety attack/{row.get('attacked')}"
        other = safety if row["kind"] == "attacked" else row["variant"]
        row |= {"a": names[0], "b": other, "fraction": row["share"]}
    for row in everything["tests"]:
        row["attack"] = row["attacked"]
    for row in everything["defence_tests"]:
        row["attack"] = row["variant"]
    poisoned = {n: list(a.languages) for n, a in zip(names, setup.attacks, strict=True)}
    return everything | {"attacks": names, "poisoned": poisoned}
