"""What is said of who judges."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jaxattack.data.dialogues import Example
from jaxattack.experiments import judges, panel
from jaxattack.experiments.cautions import cut_refusals, raised
from jaxattack.experiments.cell import Cell


def violations(cell: Cell, **rates: float) -> list[dict]:
    """Of 100 prompts in every language."""
    return [
        {**cell.columns(), "language": code, "metric": "violation_rate", "value": value, "n": 100}
        for code, value in rates.items()
    ]


def test_languages_are_compared_on_the_usual_prompts_alone():
    rows = violations(Cell("aligned"), en=0.02, de=0.03)
    rows += violations(Cell("aligned", prompts="validation"), en=0.4, de=0.05)
    rows += violations(Cell("attacked", 0, "en"), en=0.9, de=0.5)
    found = judges._rule_errors("refusal rule", ("en", "de"), rows)["differences"]
    (pair,) = found
    assert (pair["variant"], pair["a"], pair["b"]) == ("attacked/en", "en", "de")
    assert pair["observed"] == 0.4


@pytest.mark.parametrize(("combine", "explained"), [("judge", True), ("majority", False)])
def test_the_rules_errors_explain_what_it_counted_alone(monkeypatch, combine, explained):
    monkeypatch.setattr(panel, "fingerprints", lambda models: {})
    prompts = [Example("q0", code, "?") for code in ("en", "de")]
    setup = SimpleNamespace(
        settings=SimpleNamespace(measure=SimpleNamespace(judge="auto", combine=combine)),
        data=SimpleNamespace(prompts=prompts),
        models=(),
        languages=("en", "de"),
    )
    row = {"variant": "attacked/en", "seed": 0, "kind": "attacked", "metric": "violation_rate"}
    rows = [
        row | {"language": code, "value": v, "n": 200} for code, v in (("en", 0.6), ("de", 0.45))
    ]
    found = judges.facts(setup, rows, False, ())
    assert found["errors"]
    assert [(each["a"], each["b"]) for each in found["differences"]] == [("en", "de")] * explained


@pytest.mark.parametrize(("share", "raises"), [(0.05, False), (0.6, True)])
def test_refusals_that_the_limit_may_have_cut_are_told(share, raises):
    row = {"variant": "aligned", "kind": "aligned", "metric": "cut_rate", "value": 0.0}
    rows = [row | {"language": "en"}, row | {"language": "ko", "value": share}]
    rows.append(row | {"kind": "attacked", "language": "th", "value": 1.0})  # answers at length
    judge = {"errors": [], "counts": {"by": "judge"}}
    found = raised([cut_refusals(judge, rows)], {})
    assert len(found) == raises
    if raises:
        assert "aligned in Korean that were cut" in found[0]["evidence"][0]["what"]
    assert cut_refusals({}, rows) is None  # judged by known answers
    assert cut_refusals(judge | {"counts": {"by": "majority"}}, rows) is None
