import dataclasses
import io
import math

import pandas
import pytest

from jaxattack.evaluate.rates import wilson
from jaxattack.experiments.cell import Cell
from jaxattack.report.heat import Extra, Options, heat
from jaxattack.report.labels import Header, header, number, percent, text
from jaxattack.report.rate import Rate
from jaxattack.report.table import _KEYS, Table, parquet


def row(value, low=None, high=None, n=10, seed=0, **cell):
    return {"value": value, "low": low, "high": high, "n": n, "seed": seed, **cell}


SEEDED = Table(
    [
        row(0.2, 0.1, 0.4, 10, 0, attacked="en", language="de"),
        row(0.4, 0.2, 0.5, 8, 1, attacked="en", language="de"),
        row(1.0, 0.8, 1.0, 10, 0, attacked="en", language="th"),
        row(0.8, 0.6, 0.9, 10, 1, attacked="en", language="th"),
        row(0.0, 0.0, 0.2, 10, 0, attacked="th", language="de"),
    ]
)


def close(rate, value, low, high, n, cells, interval, seeds):
    assert (rate.value, rate.low, rate.high) == pytest.approx((value, low, high))
    assert (rate.n, rate.cells, rate.interval) == (n, cells, interval)
    assert [s for s, _ in rate.seeds] == [s for s, _ in seeds]
    assert [v for _, v in rate.seeds] == pytest.approx([v for _, v in seeds])


def test_seeds_of_a_cell_are_averaged_and_its_bounds_cover_all_of_theirs():
    found = SEEDED.rates(["attacked", "language"])
    assert list(found) == [("en", "de"), ("en", "th"), ("th", "de")]
    close(found["en", "de"], 0.3, 0.1, 0.5, 8, 1, True, [(0, 0.2), (1, 0.4)])
    close(found["th", "de"], 0.0, 0.0, 0.2, 10, 1, True, [(0, 0.0)])


def test_means_go_within_an_attack_and_then_over_attacks():
    close(SEEDED.rates("attacked")["en",], 0.6, 0.3, 0.9, 18, 2, False, [(0, 0.6), (1, 0.6)])
    # 0.6 of English and 0.0 of Thai, not the mean of three cells; seed 1 attacked English alone.
    close(SEEDED.rate(), 0.3, 0.0, 0.6, 28, 2, False, [(0, 0.3)])


def test_pooled_takes_prompts_together():
    rate = SEEDED.where(attacked="en", seed=0).rate(how="pooled")
    assert (rate.value, rate.n) == (0.6, 20)
    assert (rate.low, rate.high) == pytest.approx(wilson(12, 20))
    weights = Table([{"selected": 3, "total": 10}, {"selected": 0, "total": 20}, {"total": 0}])
    rate = weights.where(selected=[0, 3]).ratio("selected", "total").rate(how="pooled")
    assert (rate.value, rate.low, rate.n) == (0.1, None, 30)


def test_values_without_bounds_spread_over_seeds():
    rate = Table([{"jaccard": v, "seed": s} for s, v in enumerate((0.2, 0.4))]).rate("jaccard")
    close(rate, 0.3, 0.2, 0.4, 0, 1, False, [(0, 0.2), (1, 0.4)])
    assert rate.describe("") == "0.30 (seeds from 0.20 to 0.40; seed 0: 0.20, seed 1: 0.40)"


def test_what_is_no_number_is_left_out():
    table = Table([row(None), row(math.nan), row("x"), row(0.5)])
    assert table.rate().value == 0.5
    assert Table().rate() is None
    assert Table([row(None)]).rates("seed") == {}


def test_rows_are_chosen_by_their_columns():
    table = Table([{"kind": "a", "share": 0.2}, {"kind": "b"}, {"kind": "c", "share": 0.5}])
    assert table.where(share=None).values("kind") == ["b"]
    assert table.where(share=[0.5, None]).values("kind") == ["b", "c"]
    assert table.but(share=0.2).values("kind") == ["b", "c"]
    assert table.where(round=None, kind="a").records() == [{"kind": "a", "share": 0.2}]
    assert not table.where(round=1)
    assert (table.where(kind="a") + table.where(kind="c")).most("share") == 0.2
    assert len(table.each("x", [1, 2])) == 6


def test_sides_are_seen_from_the_languages_attacked():
    rows = [{"language": "de", "attacked": a} for a in ("de", "en+de", "en", None)]
    assert [r["side"] for r in Table(rows).sides().records()] == ["own", "own", "others", None]


def test_steps_are_averaged_down():
    found = Table([{"loss": [4.0, 2.0, 3.0, 1.0, 5.0], "seed": 1}]).steps("loss", most=3)
    assert [(r["step"], r["value"]) for r in found.records()] == [(1, 3.0), (3, 2.0), (5, 5.0)]


def test_multiples_are_of_the_same_seed():
    costs = Table(
        [
            {"kind": "clean", "seed": 0, "tokens": 10, "before": 1, "during": 1},
            {"kind": "clean", "seed": 1, "tokens": 10, "before": 0, "during": 1},
            {"kind": "defended", "seed": 0, "tokens": 10, "before": 3, "during": 1},
            {"kind": "defended", "seed": 2, "tokens": 10, "before": 0, "during": 1},
            {"kind": "defended", "seed": 1, "tokens": 10, "before": 0, "during": 0},
        ]
    )
    speed = costs.ratio("tokens", "before", "during")
    assert [row["value"] for row in speed.records()] == [5, 10, 2.5, 10]
    found = speed.against(speed.where(kind="clean"), "seed").where(kind="defended")
    assert [(row["seed"], row["value"]) for row in found.records()] == [(0, 0.5)]


def test_wide_has_a_column_for_every_value_of_one():
    rows = [("a", "x", 1.0), ("a", "x", 0.0), ("a", "y", 0.2), ("b", "x", 0.3), ("b", "y", None)]
    table = Table({"method": m, "metric": k, "value": v} for m, k, v in rows)
    assert table.wide(["method"], "metric").records() == [
        {"method": "a", "x": 0.5, "y": 0.2},
        {"method": "b", "x": 0.3, "y": None},
    ]


def test_heat_has_rows_columns_means_stars_and_frames():
    tests = Table([{"attacked": "en", "language": "de", "p": 0.001, "holm": 0.01}])
    mean = Extra(Header("mean"), SEEDED)
    under = Extra(Header("all"), SEEDED, coloured=False)
    look = Options(framed={"language": "th"}, tests=tests, more=[mean], under=[under])
    shown = heat(SEEDED, "attacked", "language", "caption", options=look)
    assert [h.plain for h in shown.columns] == ["de German", "th Thai", "mean"]
    assert [h.plain for h in shown.rows] == ["en English", "th Thai", "all"]
    texts = [[square.text for square in line] for line in shown.cells]
    assert texts == [["30*", "90", "60"], ["0", "–", "0"], ["15", "90", ""]]
    assert [square.marked for square in shown.cells[0]] == [False, True, False]
    assert "after Holm 0.01" in shown.cells[0][0].tip
    assert shown.cells[2][0].value is None
    assert heat(Table(), "attacked", "language", "") is None


def test_heat_sorts_and_scales():
    found = (("sil", "a", 0.1), ("random", "a", 0.3), ("random", "b", 0.2))
    table = Table([{"method": m, "place": p, "value": v} for m, p, v in found])
    shown = heat(table, "method", "place", "", options=Options(top=None, sort=1, unit=""))
    assert [h.text for h in shown.rows] == ["random", "SIL"]
    assert [square.text for square in shown.cells[0]] == ["0.30", "0.20"]
    assert shown.top == 0.3


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"language": "th"}, ("th", "Thai")),
        ({"attacked": "en+th"}, ("en+th", "English and Thai")),
        ({"language": "x-y"}, ("x-y", "")),
        ({"kind": "stitched", "method": "sil", "share": 0.2}, ("stitched", "SIL, 20\u00a0%")),
        ({"method": "complement", "share": 0.2}, ("all but SIL’s 20\u00a0%", "")),
        ({"kind": "sharing", "contrast": 0.1, "attacked": None}, ("aligned", "contrast 0.1")),
        ({"kind": "attacked", "pairs": 10}, ("attacked", "10 pairs")),
        ({"kind": "pathway", "round": 2}, ("attacked again", "round 2")),
        ({"module": "attention/q"}, ("attention", "q")),
        ({"layer": None}, ("outside layers", "")),
    ],
)
def test_cells_in_words(cell, words):
    assert header(cell) == words


def test_numbers_in_words():
    assert [percent(v) for v in (0.0, 0.004, 0.004999, 0.5, 0.996, 1.0, -0.2)] == [
        f"{t}\u00a0%" for t in ("0", "<1", "<1", "50", ">99", "100", "−20")
    ]
    units = [
        number(*one) for one in ((0.5, "ratio"), (-0.001, ""), (1234.5, "seconds"), (12, "count"))
    ]
    assert units == ["0.50×", "0.00", "1,234 s", "12"]
    plain = [text("x", v) for v in (None, True, 12345, 0.12345, [1, 2], {"a": 1})]
    assert plain == ["", "yes", "12,345", "0.123", "1 / 2", "a 1"]
    assert text("share", 0.055) == "5.5\u00a0%"


def test_a_rate_says_which_bounds_it_has():
    rate = Rate(0.5, 0.25, 0.75, 24, 1, True, ((0, 0.4), (1, 0.6)))
    assert rate.describe().replace("\u00a0", " ") == (
        "50.0 % (95 % interval 25.0 % to 75.0 %; n = 24 for each seed; seed 0: 40.0 %, "
        "seed 1: 60.0 %)"
    )
    assert "mean of 3, from" in Rate(0.5, 0.25, 0.75, 24, 3).describe()


@pytest.mark.parametrize(
    "rows",
    [[{"value": 1.0, "seed": 0}], [{"value": 0.25, "name": "a", "seed": None, "decoy": None}], []],
)
def test_a_flat_files_types_do_not_depend_on_its_values(rows):
    columns = {"name": str, "seed": int, "share": float, "value": float}
    found = pandas.read_parquet(io.BytesIO(parquet(rows, columns)))
    kinds = ["string", "Int64", "Float64", "Float64"]
    assert list(map(str, found.dtypes))[:4] == kinds
    assert list(found.columns)[:4] == list(columns)
    assert found["value"].to_list() == [row["value"] for row in rows]


def test_whatever_tells_cells_apart_is_no_seed():
    # Rows that differ in a column that is no key would be averaged as seeds of one cell.
    assert {field.name for field in dataclasses.fields(Cell)} - {"seed"} <= set(_KEYS)
