import math

import pytest

from jaxattack.report.rates import Rate, average, describe, percent
from jaxattack.report.tables import everywhere, pairs, reach, tabulate
from jaxattack.report.variants import Variant, parse_variant

from .synthetic import LANGUAGES, synthetic


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("aligned", Variant("aligned")),
        ("attacked/en", Variant("attacked", "en")),
        ("stitched/en/sil@0.2", Variant("stitched", "en", "sil", 0.2)),
        ("frozen/th/sil@nan", Variant("frozen/th/sil@nan")),
        ("poisoned/en,de/x/y@0.1", Variant("poisoned/en,de/x/y@0.1")),
        ("", Variant("")),
    ],
)
def test_parse_variant(name, variant):
    assert parse_variant(name) == variant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.004, "<1"),
        (0.64, "64"),
        (0.999, ">99"),
        (1, "100"),
        (-0.03, "−3"),
        (-1e-9, "0"),
    ],
)
def test_percent_never_rounds_to_none_or_all(value, text):
    assert percent(value) == f"{text}\u00a0%"


def test_a_single_cell_keeps_its_interval_and_a_mean_has_a_spread():
    one = Rate(0.5, 0.4, 0.6, 24)
    assert average([one, None]) == one
    both = average([one, Rate(1.0, 0.9, 1.0, 24)])
    assert both == Rate(0.75, 0.5, 1.0, 48, cells=2)
    assert "95 % interval" in describe(one)
    assert "mean of 2" in describe(both)


def test_seeds_are_averaged_and_not_pooled():
    tables = tabulate(synthetic(seeds=(0, 1)))
    rate = tables.rate(Variant("attacked", "en"), "de")
    values = dict(rate.seeds)
    assert rate.n == 24
    assert rate.value == pytest.approx((values[0] + values[1]) / 2)
    assert rate.low < min(values.values()) <= max(values.values()) < rate.high
    assert "seed 1" in describe(rate)


def test_pairs_split_own_from_others():
    tables = tabulate(synthetic())
    found = pairs(tables, Variant("attacked"))
    assert list(found) == ["en", "ru", "th", "zh"]
    assert found["en"].own.value == 1
    assert found["en"].others.cells == len(LANGUAGES) - 1
    assert pairs(tables, Variant("stitched", "", "unheard", 0.2)) == {}


def test_reach_is_relative_to_what_the_attack_added():
    tables = tabulate(synthetic(aligned=(0.25, 0.25), sil=(1.0, 0.64), random=(0.25, 0.25)))
    assert reach(tables, Variant("stitched", "", "sil", 0.2)) == pytest.approx(1)
    weak = tabulate(synthetic(attacked=(0.02, 0.0)))
    assert reach(weak, Variant("stitched", "", "sil", 0.2)) is None


def test_main_fraction_is_where_most_variants_meet():
    assert tabulate(synthetic()).fraction == 0.2
    assert tabulate({}).fraction is None


def test_unjudged_cells_are_left_out():
    results = synthetic(attacks=("en",))
    for row in results["rows"]:
        if row["language"] == "de":
            row["value"] = None if row["metric"] == "violation_rate" else math.nan
    tables = tabulate(results)
    assert "de" not in tables.languages
    assert everywhere(tables, Variant("aligned")).cells == len(LANGUAGES) - 1
