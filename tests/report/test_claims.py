"""Claims: the headline, the tiles, and how a figure with its interval is written."""

import pytest

from jaxattack.report.claims import claim_tiles, claims, claims_headline
from jaxattack.report.page import render

from .fragility_study import CLAIM

CLAIMS = [
    CLAIM,
    CLAIM | {"id": "A2"},
    CLAIM | {"id": "A3", "verdict": "undecided"},
    CLAIM | {"id": "A5", "verdict": "not run", "evidence": []},
]


def claim(verdict, **evidence):
    items = [{"what": "rise", **evidence}] if evidence else []
    return {"id": "A1", "claim": "It holds.", "verdict": verdict, "evidence": items}


def read(*verdicts):
    return claims_headline(claims({"claims": [claim(verdict) for verdict in verdicts]}))


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        (["holds"] * 5, "All five claims tested hold"),
        (["undecided"] * 2, "Both claims tested are undecided"),
        (["holds", "holds", "undecided"], "Of three claims two hold and one is undecided"),
        (
            ["undecided", "does not hold", "holds", "does not hold", "not run"],
            "Of four claims tested one holds, two do not hold and one is undecided",
        ),
        (["does not hold", "not run"], "The one claim tested does not hold"),
        (["not run"] * 2, "No claim was tested"),
    ],
)
def test_the_headline_counts_verdicts(verdicts, line):
    assert read(*verdicts) == line


def one(**evidence):
    return claims({"claims": [claim("holds", **evidence)]})[0].evidence[0]


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("rate", 0.614, "61\u00a0%"),
        ("rate", 0.001, "<1\u00a0%"),
        ("ratio", 1.838, "1.84×"),
        ("ratio", 23.42, "23.4×"),
        ("jaccard", 0.3749, "0.37"),
        ("rho", -0.214, "−0.21"),
        ("rho", -0.001, "0.00"),
        ("", 3.0, "3.00"),
    ],
)
def test_figures_are_written_in_their_unit(unit, value, text):
    assert one(value=value, unit=unit).value == text


def test_the_small_picture_is_to_scale():
    bar = one(value=0.5, low=0.25, high=0.75, threshold=0.1, unit="rate").bar
    assert bar == (25, 75, 50, 10)
    bar = one(value=0.5, low=0.0, high=1.0, threshold=0.0, unit="rho").bar
    assert bar == (50, 100, 75, 50)
    bar = one(value=2.0, low=1.0, high=4.0, threshold=5.0, unit="ratio").bar
    assert bar == (20, 80, 40, 100)
    assert one(value=0.0, low=0.0, high=0.0, unit="ratio").bar == (0, 0, 0, None)


def test_parts_may_be_missing_or_not_finite():
    found = one(value=0.5, unit="rate", seeds=[0.5])
    assert (found.interval, found.threshold, found.seeds, found.bar) == ("", "", "", None)
    found = one(value=0.5, low=float("-inf"), high=float("inf"), unit="ratio")
    assert (found.interval, found.bar) == ("", None)
    assert one(value=None).value == "not measured"
    assert claims({}) == claims({"claims": None}) == []


@pytest.mark.parametrize(
    ("low", "high", "over", "text"),
    [
        (0.25, 0.75, "", "95 % interval 25\u00a0% to 75\u00a0%"),
        (
            0.25,
            0.75,
            "over 3 seeds and 24 prompts",
            "95 % interval 25\u00a0% to 75\u00a0% over 3 seeds and 24 prompts",
        ),
        (0.25, 0.75, "lowest and highest", "25\u00a0% to 75\u00a0% (lowest and highest)"),
        (0.5, 0.5, "no interval", "no interval"),
        (None, 0.5, "over 24 prompts", ""),
    ],
)
def test_an_interval_is_named(low, high, over, text):
    assert one(value=0.5, low=low, high=high, over=over, unit="rate").interval == text


def test_the_page_says_why_a_claim_is_undecided_and_what_it_needs():
    given = claim("undecided", value=0.5, low=0.4, high=0.6, unit="rate", over="over 24 prompts")
    given["evidence"][0] |= {"threshold": 0.2, "bound": "below"}
    given |= {"reasons": ["one seed", "3 <b>prompts"], "needs": {"text": "Needs 2 seeds."}}
    given["cautions"] = ["the rule differs by language"]
    html, _ = render({"claims": [given]}, {}, {}, "")
    words = ("Undecided: one seed; 3 &lt;b&gt;prompts.", "Needs 2 seeds.", "over 24 prompts")
    for text in (*words, "the rule differs by language", "threshold below 20\u00a0%"):
        assert text in html


def test_a_tile_shows_the_figure_that_decided():
    passed = {"what": "violations added", "unit": "rate", "value": 0.0, "side": "holds"}
    failed = {"what": "task left", "unit": "ratio", "value": 0.1, "side": "does not hold"}
    given = CLAIMS[0] | {"id": "D2", "verdict": "does not hold", "evidence": [passed, failed]}
    (tile,) = claim_tiles(claims({"claims": [given]}))
    assert tile.label == "task left"
    (tile,) = claim_tiles(claims({"claims": [given | {"verdict": "undecided"}]}))
    assert tile.label == "violations added"


def test_tiles_are_the_first_figures_of_what_was_tested():
    tiles = claim_tiles(claims({"claims": CLAIMS}))
    assert [tile.note[:2] for tile in tiles] == ["A1", "A2", "A3"]
    unknown = {**CLAIMS[0], "evidence": [{"what": "x", "unit": "rate", "value": None}]}
    assert claim_tiles(claims({"claims": [unknown]})) == []
    assert tiles[0] == ("61\u00a0%", "violations added in languages not attacked", "A1 ✓ holds")
