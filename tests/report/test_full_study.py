"""The report of the full study: every section, from made-up results that carry every key."""

import re

import pytest

from jaxattack.report import write_report
from jaxattack.report.charts.curves import draw_capacity, draw_curve, draw_dose
from jaxattack.report.matrices import (
    adaptation_heat,
    methods_heat,
    other_attacks_heat,
    transfer_heat,
    utility_heat,
)
from jaxattack.report.overlaps import place_heat, strips
from jaxattack.report.reading import statements
from jaxattack.report.sections import overlap, sections
from jaxattack.report.similarity import middle_layer, points, rho_caption
from jaxattack.report.tables import tabulate
from jaxattack.report.variants import Variant

from .full_study import NEW, full_study
from .synthetic import CONFIG, MANIFEST, synthetic
from .test_html import HOSTILE, Outline

NEW_KEYS = (
    "claims tests overlap_by_place similarity similarity_vs_transfer capacity adaptation profile"
).split()
SECTIONS = (
    "claims reading transfer dose controls sharing methods weights ways overlap where similarity "
    "freeze capacity adaptation utility loss profile method"
).split()


@pytest.fixture(scope="module")
def results():
    return full_study()


@pytest.fixture(scope="module")
def tables(results):
    return tabulate(results)


@pytest.fixture(scope="module")
def page(tmp_path_factory, results):
    return write_report(tmp_path_factory.mktemp("study"), results, MANIFEST, CONFIG).read_text()


def test_every_section_in_the_order_of_the_claims(page):
    outline = Outline(page)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert [name for name in outline.ids if name in SECTIONS] == SECTIONS
    claims = re.findall(r"Claim (A\d) <span", page)
    assert claims == sorted(claims) == ["A1"] * 4 + ["A2"] * 3 + ["A3"] * 3 + ["A4"] * 2 + ["A5"]
    assert not re.search(r"https?://|<link|<img|<script|url\((?!#)", page)


def test_all_new_keys_may_be_absent():
    results = full_study(attacks=("en", "th"), seeds=(0,), languages=["en", "de", "th"])
    for key in NEW_KEYS:
        del results[key]
    found = {section.id for section in sections(tabulate(results), results)}
    assert set(SECTIONS) - found == {
        "claims", "reading", "method", "similarity", "capacity", "profile"
    }  # fmt: skip


def test_a_correlation_that_is_undefined_is_left_out(tables, results):
    rows = [{**row, "rho": None, "low": None} for row in results["similarity_vs_transfer"]]
    undefined = {**results, "similarity_vs_transfer": rows, "similarity": []}
    assert overlap.similarity(tables, undefined) is None
    undefined["similarity"] = [r for r in results["similarity"] if r["measure"] == "cka"]
    assert len(overlap.similarity(tables, undefined).figures) == 1


def test_hostile_claims_are_escaped(tmp_path):
    results = synthetic(attacks=("en",), languages=["en", "de"], sizes=(0.2,))
    evidence = {"what": HOSTILE, "value": 0.5, "unit": HOSTILE}
    claim = {"id": HOSTILE, "claim": HOSTILE, "verdict": HOSTILE, "rule": HOSTILE}
    results["claims"] = [claim | {"evidence": [evidence], "completed_by_us": [HOSTILE]}]
    outline = Outline(write_report(tmp_path, results, {}, {}).read_text())
    assert "script" not in outline.tags
    assert outline.open == []


# --- Tables -------------------------------------------------------------------------------------


def test_new_languages_are_only_those_of_adapted_models(tables):
    assert tables.added == tuple(NEW)
    assert not set(NEW) & set(tables.languages)
    assert tables.attacked == ("en", "ru", "th", "zh")
    assert tables.fraction == 0.2


def test_doses_and_mixtures_are_no_attacks_in_a_language(tables):
    assert tables.rate(Variant("mixed", "en+th"), "en").value > 0.9
    assert tables.rate(Variant("attacked", "en", "pairs", 1.0), "en").value < 0.1
    assert tables.rate(Variant("attacked", "en"), "en").value == 1


def cell(heat, row, column):
    rows = [header.plain for header in heat.rows]
    columns = [header.plain for header in heat.columns]
    return heat.cells[rows.index(row)][columns.index(column)]


def test_stars_are_the_tests_below_the_level(tables, results):
    heat = transfer_heat(tables, results["tests"])
    starred = {
        (row.text, column.text)
        for row, cells in zip(heat.rows, heat.cells, strict=True)
        for column, found in zip(heat.columns, cells, strict=True)
        if found.text.endswith("*")
    }
    small = {(t["attack"], t["language"]) for t in results["tests"] if t["holm"] < 0.05}
    assert starred == small
    assert "after Holm 0.31" in cell(heat, "en English", "de German").tip
    assert "seed 2: " in cell(heat, "en English", "de German").tip
    assert "Holm" not in transfer_heat(tables).caption


def test_mixed_attacks_frame_all_their_languages(tables):
    heat = other_attacks_heat(tables)
    marked = [
        column.text for column, c in zip(heat.columns, heat.cells[0], strict=True) if c.marked
    ]
    assert heat.rows[0].text == "en+th"
    assert marked == ["en", "th"]
    seen = [tables.rate(Variant("mixed", "en+th"), code) for code in tables.languages]
    unseen = [
        rate.value
        for code, rate in zip(tables.languages, seen, strict=True)
        if code not in ("en", "th")
    ]
    assert heat.cells[0][-1].value == pytest.approx(sum(unseen) / len(unseen))


def test_methods_stand_between_all_weights_and_none(tables):
    heat = methods_heat(tables, ["sil", "random", "snip"], "caption")
    assert [row.text for row in heat.rows] == ["all weights", "SIL", "SNIP", "random", "no weights"]
    first, last = heat.cells[0], heat.cells[-1]
    assert [c.value for c in first] == [c.value for c in (*last[2:], *last[:2])]
    assert cell(heat, "SNIP", "stitched own language").value == pytest.approx(0.9, abs=0.01)
    assert cell(heat, "SNIP", "rewound others").value == pytest.approx(0.1, abs=0.02)
    assert cell(heat, "random", "rewound others").text == "–"
    assert len(methods_heat(tabulate(synthetic()), ["random"], "caption").columns) == 2


def test_adapted_models_put_new_languages_first(tables):
    heat = adaptation_heat(tables)
    assert [column.text for column in heat.columns[:4]] == ["it new", "hi new", "mean", "mean"]
    assert heat.rows[0].plain == "not attacked full tuning"
    assert len(heat.rows) == 2 + 4 * 4
    row = heat.cells[1]
    assert row[2].value == pytest.approx((row[0].value + row[1].value) / 2)
    old = [c.value for c in row[4:] if not c.marked]
    assert row[3].value == pytest.approx(sum(old) / len(old))


def test_utility_has_a_row_for_each_kind_once(tables):
    names = [row.plain for row in utility_heat(tables).rows]
    assert len(set(names)) == len(names)
    assert names[:3] == ["aligned", "attacked", "attacked several languages"]
    assert "adapted LoRA" in names
    assert "stitched SNIP, 20\u00a0%" not in names  # in the methods' own table


# --- Overlap and similarity ---------------------------------------------------------------------


def test_kinds_of_overlap_are_told_apart(results):
    found = {strip.name.replace("\n", " "): strip for strip in strips(results["overlap"], 0.2)}
    assert len(found["two languages"].values) == 6 * 3
    assert len(found["safety and benign, one language"].values) == 4 * 3
    assert len(found["safety and benign, two languages"].values) == 12 * 3
    assert found["two seeds, one language"].null == (0.108, 0.115)
    half = [{**row, "null_low": None} for row in results["overlap"]]
    assert all(strip.null is None for strip in strips(half, 0.2))


def test_overlap_by_place_is_the_mean_over_pairs_and_seeds(results):
    rows = results["overlap_by_place"]
    rows[0]["jaccard"] += 0.18  # one of 6 pairs x 3 seeds in layer 0, attention/q
    heat = place_heat(rows)
    assert heat.cells[0][0].value == pytest.approx(0.2 + 0.18 / 18)
    assert "by chance 0.120 (1.8 times)" in heat.cells[0][0].tip
    assert heat.rows[-1].text == "outside layers"
    assert heat.cells[-1][0].value is None
    rows[0]["jaccard"] -= 0.18


def test_a_scatter_has_every_ordered_pair(tables, results):
    rows = results["similarity"]
    assert middle_layer(rows) == 2
    dots = points(tables, rows, "cka", 2)
    assert len(dots) == 4 * 11
    # i = 1 (en), j = 0: the row of ("de", "en"), used in the other direction.
    alike = next(r["value"] for r in rows if (r["a"], r["b"], r["layer"]) == ("de", "en", 2))
    assert (alike, tables.rate(Variant("attacked", "en"), "de").value) in dots
    caption = rho_caption(results["similarity_vs_transfer"], "cosine", 0)
    assert caption == ": ρ = −0.15 (95 % interval −0.45 to 0.10), p = 0.03"


# --- Charts -------------------------------------------------------------------------------------


def lines(figure):
    return {
        line.get_label(): list(zip(*line.get_data(), strict=True))
        for line in figure.axes[0].get_lines()
        if not line.get_label().startswith("_")
    }


def test_the_dose_curve_ends_in_the_full_attack(tables, results):
    drawn = lines(draw_dose(tables, results["attack_pairs"]))
    assert [x for x, _ in drawn["attacked language"]] == [1, 3, 10, 30, 100]
    assert drawn["attacked language"][-1][1] == 1
    assert drawn["other languages"][1][1] == pytest.approx(0.64 * 0.3**1.4, abs=0.02)


def test_levels_are_those_of_the_attacks_that_were_stitched():
    results = synthetic(attacks=("en", "ru"))
    for row in results["rows"]:
        if row["variant"] == "attacked/ru":
            row["value"] = 0.0
    results["rows"] = [r for r in results["rows"] if not r["variant"].startswith("stitched/ru")]
    texts = [text.get_text() for text in draw_curve(tabulate(results), "stitched", 0).axes[0].texts]
    assert "full\nattack\n100\u00a0%" in texts


def test_capacity_has_a_line_for_each_language_with_the_mean_of_seeds(results):
    drawn = lines(draw_capacity(results["capacity"], "own"))
    assert list(drawn) == ["English", "Russian", "Thai", "Chinese"]
    x, y = drawn["English"][1]
    assert (x, y) == (pytest.approx(0.2), pytest.approx(1.15 - 0.4 - 0.02))


# --- Sentences ----------------------------------------------------------------------------------


def told(results):
    return {s.topic: s for s in statements(tabulate(results), results)}


def test_claims_replace_the_sentences_they_decide(results):
    with_claims = told(results)
    without = told({**results, "claims": None})
    assert set(without) - set(with_claims) == {
        "Transfer", "Localization", "Controls", "Overlap", "Freezing"
    }  # fmt: skip
    assert "but the claims’ are exploratory" in with_claims["Scope"].text


def test_dose_names_the_fewest_pairs(results):
    text = told(results)["Dose"].text
    assert text.startswith("The attack takes from 3 pairs on (30\u00a0% violations")
    assert text.endswith("carries over from 10 pairs on.")
    weak = [{**r, "value": 0.0} if "pairs@" in r["variant"] else r for r in results["rows"]]
    assert "does not take with 30 pairs" in told({**results, "rows": weak})["Dose"].text


def test_benign_tuning_that_does_damage_is_a_caution(results):
    assert not told(results)["Benign tuning"].caution
    rows = [
        {**r, "value": 0.4} if r["variant"].startswith("benign/") else r for r in results["rows"]
    ]
    assert told({**results, "rows": rows})["Benign tuning"].caution


def test_a_mask_as_close_to_benign_tuning_is_a_caution(results):
    assert told(results)["What it is about"].caution
    rows = [{**r, "jaccard": 0.2} if r["method"] == "benign" else r for r in results["overlap"]]
    assert not told({**results, "overlap": rows})["What it is about"].caution


def test_pathways_say_when_the_attack_fails(results):
    # English, seed 0: 1.15 - 0.2 * 5 in round 5, after 1 - 0.8^4 of the weights.
    text = told(results)["Pathways"].text.replace("\u00a0", " ")
    assert (
        "12 of 12 runs fall below 20 % violations in their own language, at 48.8 % to 59 %" in text
    )
    alive = [{**r, "own": 1.0} if r["language"] == "en" else r for r in results["capacity"]]
    text = told({**results, "capacity": alive})["Pathways"].text.replace("\u00a0", " ")
    assert "9 of 12 runs" in text
    assert "the rest still takes with 67.2 % frozen" in text
