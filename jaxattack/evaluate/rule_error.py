"""How often the refusal rule errs, by language, and what that leaves of a difference in rates.

    python -m jaxattack.evaluate.rule_error [sentences.jsonl]

measures the rule on sentences that it was not written from; by default on those of the package.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import itertools
import json
import math
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxattack.errors import UserError
from jaxattack.evaluate import calibration, refusals
from jaxattack.evaluate.calibration import Accuracy
from jaxattack.evaluate.rates import wilson
from jaxattack.evaluate.refusals import is_refusal
from jaxattack.signals import exit_code


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A reply of which it is known whether it refuses."""

    language: str
    refusal: bool
    text: str


@dataclasses.dataclass(frozen=True)
class Errors:
    """What the rule made of the sentences of a language."""

    language: str
    refusals: int
    seen: int  # of the refusals
    compliances: int
    passed: int  # of the compliances

    @property
    def sensitivity(self) -> float:
        """Share of the refusals that the rule sees."""
        return self.seen / self.refusals

    @property
    def specificity(self) -> float:
        """Share of the compliances that it does not take for refusals."""
        return self.passed / self.compliances

    @property
    def of_violations(self) -> Accuracy:
        """The same as of a judge that calls a violation what does not refuse."""
        return Accuracy(self.compliances, self.passed, self.refusals, self.seen)

    def row(self) -> dict[str, Any]:
        """Both shares with their Wilson intervals, for results.json."""
        low, high = wilson(self.seen, self.refusals)
        lowest, highest = wilson(self.passed, self.compliances)
        return {
            "language": self.language,
            "sensitivity": self.sensitivity,
            "sensitivity_low": low,
            "sensitivity_high": high,
            "refusals": self.refusals,
            "specificity": self.specificity,
            "specificity_low": lowest,
            "specificity_high": highest,
            "compliances": self.compliances,
        }


def read(text: str, name: str) -> list[Sentence]:
    """Sentences from JSON Lines with language, refusal (true or false) and text.

    Raises:
        UserError: a line is no such object, or its language has no rule; names the line.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            sentence = Sentence(row["language"], row["refusal"], row["text"])
        except (ValueError, LookupError, TypeError, RecursionError):
            sentence = Sentence("", False, "")
        if sentence.language not in refusals.languages() or not isinstance(sentence.refusal, bool):
            raise UserError(
                f"{name}, line {number}: give an object with language (one that has a refusal "
                "rule), refusal (true or false) and text"
            )
        found.append(sentence)
    return found


@functools.cache
def committed() -> tuple[Sentence, ...]:
    """The sentences of the package, written by another hand than the patterns."""
    file = importlib.resources.files("jaxattack.evaluate") / "refusal_sentences.jsonl"
    return tuple(read(file.read_text(encoding="utf-8"), file.name))


def measure(sentences: Iterable[Sentence], languages: Sequence[str]) -> dict[str, Errors]:
    """The rule's errors in those of the languages that have refusals and compliances."""
    found = {}
    by_language = {code: [s for s in sentences if s.language == code] for code in languages}
    for code, own in by_language.items():
        said = [(s.refusal, is_refusal(s.text, code)) for s in own]
        declined = [seen for refusal, seen in said if refusal]
        compliances = [not seen for refusal, seen in said if not refusal]
        if declined and compliances:
            found[code] = Errors(
                code, len(declined), sum(declined), len(compliances), sum(compliances)
            )
    return found


@functools.lru_cache(maxsize=16)
def of_languages(languages: tuple[str, ...]) -> dict[str, Errors]:
    """The rule's errors in these languages on the sentences of the package."""
    return measure(committed(), languages)


def caution(errors: Mapping[str, Errors]) -> str:
    """What to bear in mind where languages that the rule judged are compared; "" without errors."""
    if not errors:
        return ""
    seen = sorted(found.sensitivity for found in errors.values())
    passed = sorted(found.specificity for found in errors.values())
    return (
        f"the refusal rule sees {seen[0]:.0%} to {seen[-1]:.0%} of refusals and passes "
        f"{passed[0]:.0%} to {passed[-1]:.0%} of compliances, depending on the language"
    )


# --- What the errors leave of a rate and of a difference ----------------------------------------


def difference(
    a: tuple[int, int, Errors], b: tuple[int, int, Errors]
) -> tuple[float, float, float, bool]:
    """Difference of two languages' rates less the rule's errors, its 95 % interval, and a verdict.

    Each side is violated, n, and the rule's errors in its language; its rate and interval are
    `calibration.corrected`'s, and the interval of the difference is put together from them (MOVER,
    Zou and Donner 2008). The verdict is true if the difference is inside the rule's error: zero is
    in the interval.
    """
    (p, low, high), (q, lowest, highest) = (
        calibration.corrected(violated, n, errors.of_violations) for violated, n, errors in (a, b)
    )
    if math.isnan(p) or math.isnan(q):
        return math.nan, -1.0, 1.0, True
    down, up = _mover((p, low, high), (q, lowest, highest))
    return p - q, down, up, down <= 0 <= up


def _mover(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float]:
    """The interval of a difference, of two values with theirs: distances are added in squares."""
    (p, low, high), (q, lowest, highest) = a, b
    return (
        p - q - math.hypot(p - low, highest - q),
        p - q + math.hypot(high - p, q - lowest),
    )


def apart(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two observed proportions differ by more than their samples tell (Newcombe 1998)."""
    down, up = _mover(*((k / n, *wilson(k, n)) for k, n in (a, b)))
    return not down <= 0 <= up


def differences(
    rows: Iterable[Mapping[str, Any]], errors: Mapping[str, Errors]
) -> list[dict[str, Any]]:
    """Pairs of languages whose violation rates in one variant the samples tell apart.

    Each says whether the rule's own error would do for the difference; None where the rule was not
    measured in one of the languages.
    """
    cells: dict[tuple[str, int | None], list[tuple[str, int, int]]] = {}
    for row in rows:
        if row["metric"] == "violation_rate":
            cell = (row["language"], round(row["value"] * row["n"]), row["n"])
            cells.setdefault((row["variant"], row["seed"]), []).append(cell)
    found = []
    for (variant, seed), measured in cells.items():
        for (a, *counts), (b, *others) in itertools.combinations(measured, 2):
            if not apart((counts[0], counts[1]), (others[0], others[1])):
                continue
            pair = {
                "variant": variant,
                "seed": seed,
                "a": a,
                "b": b,
                "observed": counts[0] / counts[1] - others[0] / others[1],
            }
            if a in errors and b in errors:
                value, low, high, inside = difference(
                    (counts[0], counts[1], errors[a]), (others[0], others[1], errors[b])
                )
                pair |= {
                    "corrected": None if math.isnan(value) else value,
                    "low": low,
                    "high": high,
                    "inside_rule_error": inside,
                }
            else:
                pair |= {"corrected": None, "low": None, "high": None, "inside_rule_error": None}
            found.append(pair)
    return found


def main(argv: Sequence[str]) -> int:
    """Print what the rule makes of a file of sentences; exit code 2 for a mistake of the user's."""
    return exit_code("rule_error", "nothing was kept", lambda: _said(argv))


def _said(argv: Sequence[str]) -> int:
    sentences: Sequence[Sentence] = committed()
    if argv:
        try:
            text = pathlib.Path(argv[0]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{argv[0]}: {error}") from error
        sentences = read(text, argv[0])
    for found in measure(sentences, refusals.languages()).values():
        row = found.row()
        print(
            f"{found.language}  refusals seen {found.seen}/{found.refusals} "
            f"{found.sensitivity:.3f} [{row['sensitivity_low']:.3f}, "
            f"{row['sensitivity_high']:.3f}]  compliances passed "
            f"{found.passed}/{found.compliances} {found.specificity:.3f} "
            f"[{row['specificity_low']:.3f}, {row['specificity_high']:.3f}]"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
