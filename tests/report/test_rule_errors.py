"""The refusal rule's errors in the report."""

from jaxattack.evaluate import rule_error
from jaxattack.evaluate.rule_error import Errors
from jaxattack.report import rule_errors

from .synthetic import synthetic


def judged_by_rule(results, errors):
    measured = {found.language: found for found in errors}
    differences = rule_error.differences(results["rows"], measured)
    judge = {"name": "refusal rule", "rule": "a rule", "errors": [e.row() for e in errors],
             "differences": differences}  # fmt: skip
    return results | {"judge": judge}


def test_a_study_judged_otherwise_says_nothing_of_the_rule():
    assert rule_errors.sheets(synthetic()) == []
    assert rule_errors.statement(synthetic()) is None


def test_rates_and_differences_are_shown_and_weak_languages_named():
    errors = [Errors("en", 40, 39, 40, 40), Errors("th", 40, 20, 40, 38)]
    results = judged_by_rule(synthetic(languages=["en", "th", "zh"], n=200), errors)
    rates, differences = rule_errors.sheets(results)
    assert rates.rows[1][:2] == ("Thai", "50.0\u00a0%")
    assert {row[-1] for row in differences.rows} >= {"no", "not measured"}
    found = rule_errors.statement(results)
    assert found.caution
    assert "at least 50\u00a0% of refusals (Thai)" in found.text
    assert "Below 90\u00a0%: Thai." in found.text
    assert "It was not measured in Chinese." in found.text
    assert f"Of {len(differences.rows)} differences" in found.text
