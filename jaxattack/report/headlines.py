"""The finding in one line and the key figures: of the claims where there are any."""

from collections.abc import Sequence

from jaxattack.report.claims import Claim, Tile, claim_tiles, claims_headline
from jaxattack.report.findings import (
    after_attacks,
    control_reaches,
    levels,
    mask_reach,
    masked,
    transfer,
    value_of,
)
from jaxattack.report.rates import percent
from jaxattack.report.tables import Tables, everywhere
from jaxattack.report.variants import Variant, share
from jaxattack.report.wording import CARRIES, PARTLY, TOOK


def headline(tables: Tables, claims: Sequence[Claim] = ()) -> str:
    """The finding in one line."""
    if claims:
        return claims_headline(claims)
    before, after = levels(tables, "aligned"), levels(tables, "attacked")
    if after.own is None:
        return "No attack was measured"
    if after.own.value - value_of(before.own) < TOOK:
        return "The attack did not take"
    carried = transfer(before, after)
    if carried is None:
        return "The attack breaks the language it was made in"
    if carried >= CARRIES:
        return "Attacked in one language, broken in the others"
    if carried >= PARTLY:
        return "Attacked in one language, partly broken in the others"
    return "The attack stays in the language it was made in"


def tiles(tables: Tables, claims: Sequence[Claim] = ()) -> list[Tile]:
    """Key figures, those that were measured."""
    if claims:
        return claim_tiles(claims)
    before, after = levels(tables, "aligned"), levels(tables, "attacked")
    found = []
    if base := everywhere(tables, Variant("aligned")):
        found.append(Tile(percent(base.value), "violations, aligned model", "mean of languages"))
    if after.own:
        note = "in the attacked language"
        found.append(Tile(percent(after.own.value), "violations after the attack", note))
    if after.others:
        note = f"{percent(before.others.value)} before" if before.others else "mean"
        found.append(Tile(percent(after.others.value), "in languages never attacked", note))
    sil = mask_reach(tables, "sil")
    if sil is not None:
        best = max(control_reaches(tables).values(), default=None)
        note = "no control was run" if best is None else f"best control {percent(best)}"
        label = f"of the attack by SIL’s {share(tables.fraction or 0)}"
        found.append(Tile(percent(sil), label, note))
    frozen = masked(tables, "frozen")
    if frozen.own:
        note = f"{percent(frozen.others.value)} in the others" if frozen.others else "own language"
        found.append(Tile(percent(frozen.own.value), "violations, SIL’s frozen", note))
    benign = everywhere(tables, Variant("aligned"), "benign_accuracy")
    attacked = after_attacks(tables, "benign_accuracy")
    if benign and attacked:
        note = f"{percent(benign.value)} before"
        found.append(Tile(percent(attacked.value), "benign accuracy, attacked", note))
    return found
