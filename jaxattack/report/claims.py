"""The claims of the study with their verdicts: ready to be shown, and the headline they make."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxattack.report.labels import is_number, join_words, number

# In the order of a headline, with the sign that repeats the colour.
UNTESTABLE = "not testable here"
SIGNS = {"holds": "✓", "does not hold": "✗", "undecided": "?", "not run": "–", UNTESTABLE: "–"}
UNKNOWN = "not measured"
_WORDS = {
    "holds": ("holds", "hold"),
    "does not hold": ("does not hold", "do not hold"),
    "undecided": ("is undecided", "are undecided"),
}
_COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Tile(NamedTuple):
    """One key figure."""

    value: str
    label: str
    note: str


class Bar(NamedTuple):
    """Where an interval lies on its scale, each in per cent of the scale's width."""

    low: float
    high: float
    value: float
    threshold: float | None


class Evidence(NamedTuple):
    """One figure that decides a claim, written out."""

    what: str
    value: str
    interval: str  # with what it covers
    threshold: str
    seeds: str  # the figure of each, or of each checkpoint
    bar: Bar | None
    side: str = ""  # of a deciding figure: the verdict that it gives


@dataclass(frozen=True)
class Claim:
    """One claim: what was found, and by which rule."""

    id: str
    claim: str
    verdict: str
    rule: str
    evidence: tuple[Evidence, ...]
    reasons: tuple[str, ...] = ()  # why it is undecided
    needs: str = ""  # what has to be measured for a verdict
    cautions: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        """A sign for the verdict, for those who do not see its colour."""
        return SIGNS.get(self.verdict, "")

    @property
    def testable(self) -> bool:
        """Whether such a study could decide it; if not, the rule says what that needs."""
        return self.verdict != UNTESTABLE

    @property
    def style(self) -> str:
        """The verdict as the name of a CSS class."""
        return self.verdict.replace(" ", "-") if self.verdict in SIGNS else "not-run"


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """The claims in the order of the results."""
    return [
        Claim(
            str(claim["id"]),
            str(claim["claim"]),
            str(claim["verdict"]),
            str(claim.get("rule") or ""),
            tuple(_evidence(item) for item in claim.get("evidence") or ()),
            tuple(map(str, claim.get("reasons") or ())),
            str((claim.get("needs") or {}).get("text") or ""),
            tuple(map(str, claim.get("cautions") or ())),
        )
        for claim in results.get("claims") or ()
    ]


class Caution(NamedTuple):
    """What limits how the claims and figures may be read."""

    topic: str
    text: str
    evidence: tuple[Evidence, ...]


def cautions(results: Mapping[str, Any]) -> list[Caution]:
    """The cautions in the order of the results."""
    return [
        Caution(
            str(found.get("topic") or found["id"]),
            str(found["text"]),
            tuple(_evidence(item) for item in found.get("evidence") or ()),
        )
        for found in results.get("cautions") or ()
    ]


def claims_headline(found: Sequence[Claim]) -> str:
    """How many of the claims that were tested hold."""
    counts = Counter(claim.verdict for claim in found if claim.verdict in _WORDS)
    tested = [verdict for verdict in _WORDS if counts[verdict]]
    if not tested:
        return "No claim was tested"
    if len(tested) > 1:
        parts = [f"{_count(counts[v])} {_WORDS[v][counts[v] > 1]}" for v in tested]
        which = f"{_count(counts.total())} claims" + (
            " tested" if len(found) > counts.total() else ""
        )
        return f"Of {which} {join_words(parts)}"
    one, many = _WORDS[tested[0]]
    if counts.total() == 1:
        return f"The one claim tested {one}"
    whole = "Both" if counts.total() == 2 else f"All {_count(counts.total())}"
    return f"{whole} claims tested {many}"


def claim_tiles(found: Sequence[Claim]) -> list[Tile]:
    """The figure by which every claim that was tested has its verdict, where it could be told."""
    deciding = [(claim, _deciding(claim)) for claim in found if claim.verdict in _WORDS]
    return [
        Tile(evidence.value, evidence.what, f"{claim.id} {claim.sign} {claim.verdict}")
        for claim, evidence in deciding
        if evidence and evidence.value != UNKNOWN
    ]


def _deciding(claim: Claim) -> Evidence | None:
    """The first figure that gives the verdict; if none does by itself, the first."""
    agreeing = (evidence for evidence in claim.evidence if evidence.side == claim.verdict)
    return next(agreeing, next(iter(claim.evidence), None))


def _evidence(item: Mapping[str, Any]) -> Evidence:
    unit = str(item.get("unit") or "")
    value, low, high, threshold = (_number(item, k) for k in ("value", "low", "high", "threshold"))
    seeds = [number(float(seed), unit) for seed in item.get("seeds") or () if is_number(seed)]
    return Evidence(
        str(item.get("what") or ""),
        UNKNOWN if value is None else number(value, unit),
        _interval(low, high, str(item.get("over") or ""), unit),
        "" if threshold is None else f"{item.get('bound') or ''} {number(threshold, unit)}".strip(),
        f"{item.get('draws') or 'seeds'} {', '.join(seeds)}" if len(seeds) > 1 else "",
        _bar(value, low, high, threshold, unit),
        str(item.get("side") or ""),
    )


def _interval(low: float | None, high: float | None, over: str, unit: str) -> str:
    """An interval and its name; what is named otherwise is no confidence interval."""
    if low is None or high is None:
        return ""
    written = f"{number(low, unit)} to {number(high, unit)}"
    if over and not over.startswith("over "):
        return over if low == high else f"{written} ({over})"
    return " ".join(filter(None, ["95 % interval", written, over]))


def _bar(
    value: float | None,
    low: float | None,
    high: float | None,
    threshold: float | None,
    unit: str,
) -> Bar | None:
    if value is None or low is None or high is None:
        return None
    known = [0.0, value, low, high, *([] if threshold is None else [threshold])]
    if unit in ("rate", "ratio", "jaccard", "rho"):
        known += [-1.0, 1.0] if unit == "rho" or min(known) < 0 else [1.0]
    first, last = min(known), max(known) or 1.0

    def at(figure: float) -> float:
        return round(100 * (figure - first) / (last - first), 2)

    return Bar(at(low), at(high), at(value), None if threshold is None else at(threshold))


def _number(item: Mapping[str, Any], key: str) -> float | None:
    return float(item[key]) if is_number(item.get(key)) else None


def _count(many: int) -> str:
    return _COUNTS[many] if many < len(_COUNTS) else str(many)
