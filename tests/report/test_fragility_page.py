"""The fragility study's page on made-up results of every kind."""

import html
import re
from importlib import resources

import pytest

from jaxattack.report.page import render

from .conftest import leave_undrawn
from .fragility_study import LANGUAGES, fragility_study
from .test_page import HOSTILE, Outline

TEMPLATE = (resources.files("jaxattack.experiments.fragility") / "page.html.j2").read_text()
SECTIONS = (
    "transfer dose controls sharing methods weights ways planted overlap where similarity "
    "freeze capacity adaptation utility loss profile"
).split()
FIGURES = (
    "adaptation capacity_others capacity_own controls dose freeze frozen_others frozen_own loss "
    "mask_benign mask_sil methods overlap overlap_kinds overlap_place planted planted_cells "
    "planted_ranking profile rewound_others rewound_own rho sharing similarity_cka "
    "similarity_cosine stitched_others stitched_own transfer utility ways"
).split()


def page(results):
    text, images = render(results, {}, {}, TEMPLATE)
    return text, Outline(text), sorted(name.removesuffix(".png") for name in images)


@pytest.fixture(scope="module")
def full():
    with pytest.MonkeyPatch.context() as patch:
        leave_undrawn(patch)
        return page(fragility_study())


@pytest.mark.slow
def test_every_figure_can_be_drawn():
    _, outline, images = page(fragility_study())
    assert images == FIGURES
    assert outline.tags.count("svg") > 18


def test_every_section_and_figure_is_there(full):
    text, outline, images = full
    assert [name for name in outline.ids if name in SECTIONS] == SECTIONS
    assert images == FIGURES
    for words in (
        "attacked in</dt><dd>English, Russian, Thai and Chinese",
        "20\u00a0% of all weights are 41\u00a0% of the layers’ weights",
        "hold down to 65\u00a0% of the weights asked for",
        "0 of 8,960,000 frozen weights moved",
        "The aligned model learned Italian and Hindi",
        "1,553 seconds in all stages",
        "n = 24 prompts in every cell",
    ):
        assert words in text, words


def tips(text, words):
    return [
        tip for tip in map(html.unescape, re.findall('data-tip="([^"]*)"', text)) if words in tip
    ]


def test_figures_are_those_of_the_rows(full):
    text = full[0].replace("\u00a0", " ")
    (square,) = tips(text, "en English, en English: 100.0 %")
    assert "95 % interval 86.2 % to 100.0 %; n = 24 for each seed; seed 0: 100.0 %" in square
    assert "after Holm 0.0004" in square
    # Stitched random: half in its own language, nothing elsewhere; 'all weights' as attacked.
    assert (
        "mean of 4, from 50.0 % to 50.0 %" in tips(text, "random, stitched own language: 50.0 %")[0]
    )
    assert tips(text, "all weights, rewound own language: 0.0 %")
    assert tips(text, "no weights, rewound own language: 100.0 %")
    # 1,000 of 16,384 in layer 0; half of the mask of three layers and the embedding is layer 2's.
    assert tips(text, "layer 0, attention q: 6.1 % (seeds from 6.1 % to 6.1 %; n = 65,536")
    assert tips(text, "layer 2, of mask: 48.6 %")
    assert tips(text, "layer 1, attention q: 0.25 (mean of 6, from 0.25 to 0.25")


@pytest.mark.parametrize(
    ("kinds", "sections"),
    [
        ({"aligned"}, ["utility"]),
        ({"attacked"}, ["transfer", "dose", "controls", "utility"]),
        ({"aligned", "attacked", "stitched"}, ["transfer", "dose", "controls", "methods"]),
        ({"rewound", "frozen", "benign"}, ["controls", "methods", "freeze", "utility"]),
        ({"adapted", "transplanted", "sharing"}, ["sharing", "adaptation", "utility"]),
    ],
)
def test_what_was_not_run_is_left_out(undrawn, kinds, sections):
    results = fragility_study(("en", "th"), (0,), ["de", "en", "th"])
    rows = [row for row in results["rows"] if row["kind"] in kinds]
    _, outline, _ = page({"rows": rows, "languages": results["languages"]})
    assert [name for name in outline.ids if name in SECTIONS and name in sections] == sections
    assert not {*outline.ids} & {"overlap", "where", "similarity", "capacity", "loss", "profile"}


def test_tables_without_rows(undrawn):
    results = fragility_study(("en", "th"), (0, 1), ["de", "en", "th"]) | {"rows": []}
    _, outline, _ = page(results)
    assert {"overlap", "where", "similarity", "capacity", "loss", "profile"} <= {*outline.ids}


def test_one_attack_has_no_two_masks(undrawn):
    results = fragility_study(("en",), (0,), ["de", "en"], shares=(0.2,)) | {"overlap": []}
    text, _, images = page(results)
    assert "no two masks to compare" in text
    assert "overlap" not in images
    assert "by seed" not in text
    page(fragility_study(("en",), (0,), ["en"], shares=(0.2,)))


def test_many_pairs_of_masks_make_a_matrix(undrawn):
    text, _, _ = page({"overlap": fragility_study(LANGUAGES[:7], (0,))["overlap"]})
    assert tips(text, "de German, en English: 0.30; by chance 0.11; random from 0.11; to 0.12")


def test_values_may_be_missing(undrawn):
    results = fragility_study(("en", "th"), (0, 1), ["de", "en", "th"])
    for place, row in enumerate(results["rows"]):
        if place % 7 == 3:
            row |= {"value": None if place % 2 else float("nan"), "low": None, "high": None}
    for name, column in (("overlap", "null_low"), ("capacity", "moved"), ("masks", "mask_scored")):
        results[name] = [row | {column: None} for row in results[name]]
    for row in results["similarity_vs_transfer"]:
        row |= {"p": None, "low": None}
    results["attack_loss"][0]["loss"] = []
    results["attack_pairs"] = {"en": 10, "th": 20}
    page(results)


def test_hostile_codes_and_names_are_escaped(undrawn):
    code = HOSTILE.replace("/", "").replace("+", "")
    results = fragility_study((code, "y$y"), (0,), [code, "y$y", "xx"])
    results["mask_profile"][0] |= {"module": HOSTILE, "method": HOSTILE}
    _, outline, _ = page(results)
    assert "script" not in outline.tags
