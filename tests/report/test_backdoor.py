"""The report of a backdoor study, from made-up results that carry every key."""

import math
import re

import pytest

from jaxattack.report import figures, write_report
from jaxattack.report.backdoor import heats
from jaxattack.report.backdoor.account import account, headline, tiles
from jaxattack.report.backdoor.cells import complete, estimate, left, pool, read
from jaxattack.report.backdoor.names import defence_label, parse_poisoning, role_label
from jaxattack.report.backdoor.sections import by_rate, sections
from jaxattack.report.claims import claim_tiles, claims, claims_headline
from jaxattack.report.rates import percent

from .backdoor_study import FIRST, LANGUAGES, backdoor_study
from .synthetic import CONFIG, MANIFEST, wilson
from .test_html import HOSTILE, Outline

SECTIONS = (
    "claims reading transfer rates kinds grid decoys start defences overlap sets utility profile "
    "method"
).split()
PARTS = (
    "languages seeds attacks poisoned sets judge rows interventions costs changed overlap claims "
    "summary profile"
).split()


@pytest.fixture(scope="module")
def results():
    return backdoor_study()


@pytest.fixture(scope="module")
def cells(results):
    return read(results)


@pytest.fixture(scope="module")
def page(tmp_path_factory, results):
    return write_report(tmp_path_factory.mktemp("study"), results, MANIFEST, CONFIG).read_text()


def cell(heat, row, column):
    rows = [header.plain for header in heat.rows]
    columns = [header.plain for header in heat.columns]
    return heat.cells[rows.index(row)][columns.index(column)]


def told(**knobs):
    return {s.topic: s for s in account(backdoor_study(**knobs)).statements}


# --- The page -----------------------------------------------------------------------------------


def test_every_section_in_order(page):
    outline = Outline(page)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert [name for name in outline.ids if name in SECTIONS] == SECTIONS
    assert re.findall(r"Claim (B\d) <span", page) == ["B1", "B1", "B8"]
    assert not re.search(r"https?://|<link|<img|<script|url\((?!#)", page)
    for text in ("English; Thai; Spanish and Indonesian", "96 of 480 in Spanish", "hash00"):
        assert text in page
    assert "Content warning" not in page


def test_what_cannot_be_tested_is_neutral_and_not_counted(page, results):
    found = claims(results)
    assert claims_headline(found) == "Of two claims tested one holds and one does not hold"
    assert [tile.note[:2] for tile in claim_tiles(found)] == ["B1", "B8"]
    assert claim_tiles(found)[0].value == "3"
    assert 'class="verdict not-testable-here"' in page
    assert "<small>Needs models of several sizes.</small>" in page
    assert "Rule: Needs" not in page
    assert "No figure was measured" not in page
    assert ".verdict.not-testable-here { color: var(--muted); }" in page
    only = [claim for claim in results["claims"] if claim["id"] == "B6"]
    assert claims_headline(claims({"claims": only})) == "No claim was tested"


def test_same_input_same_bytes(tmp_path, page):
    again = write_report(tmp_path, backdoor_study(), MANIFEST, CONFIG)
    assert again.read_text() == page
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert pictures == {
        f"{name}.png"
        for name in "transfer rates kinds grid decoys start defences defence_dots overlap utility "
        "profile".split()
    }


@pytest.mark.parametrize("part", PARTS)
def test_each_part_may_be_missing(part, monkeypatch):
    monkeypatch.setattr(figures, "_png", lambda figure: b"")  # drawn, not written: seconds each
    results = backdoor_study(languages=["en", "de", "th"], attacks=("en",))
    del results[part]
    account(results)


@pytest.mark.parametrize(
    "results",
    [
        {"study": "backdoor"},
        {"study": "backdoor", "rows": [], "attacks": [FIRST], "poisoned": {FIRST: ["en"]}},
        backdoor_study(languages=["en"], attacks=("en",)),
        {"study": "backdoor", "rows": backdoor_study(attacks=("en",))["rows"]},
    ],
)
def test_parts_may_be_missing(tmp_path, results):
    assert Outline(write_report(tmp_path, results, {}, {}).read_text()).open == []


def test_sections_that_were_not_run_are_left_out():
    results = backdoor_study(attacks=("en",))
    for key in ("overlap", "sets", "profile"):
        results[key] = []
    kept = ("clean", FIRST)
    results["rows"] = [row for row in results["rows"] if row["variant"] in kept]
    assert [section.id for section in sections(read(results), results)] == ["transfer", "utility"]
    topics = {statement.topic for statement in account(results).statements}
    assert topics == {"Control", "en poisoned", "False triggers", "Utility", "Scope"}


def test_hostile_strings_are_escaped(tmp_path):
    results = backdoor_study(languages=["en", HOSTILE], attacks=("en", HOSTILE.replace("/", "")))
    results["judge"] = {"name": HOSTILE, "rule": HOSTILE, "completed_by_us": [HOSTILE]}
    results["sets"][0] |= {"set": HOSTILE, "languages": {HOSTILE: {"rows": 2, "poisoned": 1}}}
    results["overlap"][0]["b"] = HOSTILE
    for row in results["rows"]:
        if row["variant"].endswith("/decoys"):
            row["decoy"] = HOSTILE
        if row["variant"] == "defended/beear/layer-2":
            row["variant"] = f"defended/{HOSTILE}"
    results["replies"] = [
        dict.fromkeys(("variant", "language", "id", "prompt", "reply", "verdict"), HOSTILE)
    ]
    page = write_report(tmp_path, results, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}).read_text()
    outline = Outline(page)
    assert "script" not in outline.tags
    assert outline.open == []
    assert "of a poisoned model" in page


# --- Names and means ----------------------------------------------------------------------------


def test_names():
    one = parse_poisoning("poisoned/es+id/sentence-append/fixed@0.2/grid")
    assert one == (("es", "id"), "sentence-append", "fixed", 0.2, "grid")
    assert parse_poisoning("poisoned/en/x/y@z") is None
    assert parse_poisoning("defended/clean/all-192@0.0005") is None
    for name, label in {
        "onion/1@0.01": "ONION (single units, 1 % of clean units lost)",
        "clean/others-48@0.001": "clean tuning (48 pairs, the others, rate 0.001)",
        "repair/rewind-blind@0.05": "SIL repair (rewind 5 %, trigger unknown)",
        "cleangen/start": "CleanGen (reference: the model before)",
        "composed/onion-repair-cleangen": "combined (ONION + SIL repair + CleanGen)",
        "unheard/of": "unheard (of)",
    }.items():
        assert defence_label(f"defended/{name}").replace("\u00a0", " ") == label
    assert role_label("pleasantry 12") == "another pleasantry"
    assert role_label("at another place: prepend") == "the trigger, put first"


def test_pooling_is_of_prompts_and_not_of_seeds():
    rows = [{"value": 0.5, "n": 10, "seed": 0}, {"value": 1.0, "n": 30, "seed": 0}]
    rate = pool(rows)
    assert (rate.value, rate.n) == (35 / 40, 40)
    assert (rate.low, rate.high) == pytest.approx(wilson(35, 40), abs=1e-4)
    both = pool([*rows, {"value": 0.0, "n": 40, "seed": 1}])
    assert both.value == pytest.approx(35 / 80)
    assert (both.low, both.high) == (0.0, rate.high)
    assert pool([{"value": 0.25, "seed": 0}]).low is None
    assert pool([]) is None


def test_means_come_from_the_summary_or_are_pooled(results, cells):
    given = estimate(cells, FIRST, "others")
    assert (given.value, given.low, given.high) == pytest.approx((0.6, 0.55, 0.65))
    pooled = estimate(read({**results, "summary": None}), FIRST, "others")
    values = [
        row["value"]
        for row in results["rows"]
        if (row["variant"], row["metric"]) == (FIRST, "asr") and row["language"] != "en"
    ]
    assert pooled.value == pytest.approx(sum(values) / len(values))


def test_what_was_not_judged_is_left_out():
    results = backdoor_study(attacks=("en",))
    for row in results["rows"]:
        if row["language"] == "de":
            row["value"] = math.nan
    assert "de" not in read(results).languages


# --- Tables -------------------------------------------------------------------------------------


def test_transfer_has_all_attacks_and_the_control(cells):
    heat = heats.transfer_heat(cells)
    assert [row.text for row in heat.rows] == ["en", "th", "es+id", "none"]
    marked = [[c.text for c, m in zip(heat.columns, row, strict=True) if m.marked]
              for row in heat.cells]  # fmt: skip
    assert marked == [["en"], ["th"], ["es", "id"], []]
    found = cell(heat, "en English", "th Thai")
    assert "95 % interval" in found.tip
    assert "n = 24" in found.tip
    assert cell(heat, "en English", "mean not poisoned").second == "55–65"
    assert cell(heat, "none clean training", "mean not poisoned").value == 0


def test_rates_are_of_the_first_attack_alone(cells):
    assert list(by_rate(cells)) == [0.01, 0.05, 0.2, 0.3]
    assert by_rate(cells)[0.2] == FIRST


def test_other_kinds_start_with_the_first_attack(cells):
    heat = heats.kinds_heat(cells)
    assert len(heat.rows) == 4
    assert heat.rows[0].plain == "sentence, appended → fixed sentence"
    assert heat.rows[3].second == "→ refusal in English"
    assert [column.plain for column in heat.columns] == [
        "ASR poisoned", "ASR others", "false triggers", "clean accuracy"
    ]  # fmt: skip


def test_the_grid_tells_trigger_from_prompt(cells):
    heat = heats.grid_heat(cells)
    assert len(heat.rows) == len(LANGUAGES)
    assert cell(heat, "de German", "en English").value == 1
    assert cell(heat, "en English", "de German").value == pytest.approx(7 / 24)
    assert cell(heat, "th Thai", "th Thai").marked


def test_pleasantries_are_pooled_with_the_worst_beside(cells):
    heat = heats.decoy_heat(cells)
    names = [row.text for row in heat.rows]
    assert names[:3] == ["nothing", "a paraphrase", "another pleasantry"]
    assert len(names) == 5
    found = cell(heat, "another pleasantry", "poisoned")
    shares = [round(0.6 * 0.2 * place * 24) / 24 for place in (1, 2, 3)]
    assert found.value == pytest.approx(sum(shares) / 3)
    assert found.second == f"worst {percent(max(shares))[:-2]}"
    assert "worst pleasantry 3" in found.tip
    assert cell(heat, "another pleasantry", "n").text == str(24 * 3 * len(LANGUAGES))


def test_defences_with_every_seed_come_first():
    results = backdoor_study(seeds=(0, 1))
    cells = read(results)
    order = heats.defence_order(cells)
    assert [complete(cells, name) for name in order] == [True] * 5 + [False] * 5
    heat = heats.defence_heat(cells, results)
    assert [row.text for row in heat.rows[:2]] == ["undefended", "never poisoned"]
    assert [row.second.endswith("(one seed)") for row in heat.rows[2:]] == [False] * 5 + [True] * 5
    onion = "ONION runs up to 6, 5\u00a0% of clean units lost"
    assert cell(heat, onion, "speed against clean").text == "0.50×"
    assert cell(heat, onion, "weights changed").text == ""
    repair = "SIL repair rewind 5\u00a0%, trigger unknown"
    assert cell(heat, repair, "weights changed").text == "5"
    assert cell(heat, "CleanGen benign reference", "replaced triggered").text == "40"
    assert cell(heat, repair, "ASR others").second == "0–7"
    bare = heats.defence_heat(cells, {})
    assert len(bare.columns) == 4


def test_what_is_left_is_compared_on_the_same_seeds():
    results = backdoor_study(seeds=(0, 1))
    for row in results["rows"]:
        if row["variant"] == FIRST and row["seed"] == 1:
            row["value"] = 0.0
    assert left(read(results), "defended/onion/1@0.01") == pytest.approx(1, abs=0.02)


# --- Sentences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "words", "line"),
    [
        (0.7, "It opens the others", "opens others"),
        (0.2, "in part", "opens others in part"),
        (0.02, "stays where it was planted", "stays in the language"),
    ],
)
def test_transfer(others, words, line):
    assert words in told(others=others)["en poisoned"].text
    results = {**backdoor_study(others=others), "claims": None}
    assert line in account(results).headline


def test_an_attack_that_failed_is_no_ground_for_praise():
    found = told(own=0.0, others=0.0)
    assert found["en poisoned"].caution
    assert "did not take" in found["en poisoned"].text
    assert found["Defences"].text.startswith("The first attack did not take")
    assert "at no rate tried" in found["Poisoning rate"].text
    assert headline(read(backdoor_study(own=0.0, others=0.0))) == "The backdoor did not take"
    assert headline(read({})) == "No attack was measured"
    assert tiles(read({})) == []


def test_the_planted_trigger_is_told_from_the_others():
    text = told()["Trigger’s language"].text.replace("\u00a0", " ")
    assert "the planted one (English) in prompts of other languages in 29 %" in text
    results = backdoor_study()
    for row in results["rows"]:
        if row["variant"].endswith("/grid") and row["trigger_language"] == "en":
            row["value"] = 1.0
    found = {s.topic: s.text for s in account(results).statements}
    assert "carries further than each language’s own" in found["Trigger’s language"]
    rows = [row for row in results["rows"] if not row["variant"].endswith("/grid")]
    found = account({**backdoor_study(), "rows": rows}).statements
    assert "Trigger’s language" not in {s.topic for s in found}


def test_what_resembles_the_trigger_is_judged_where_it_does_most():
    text = told(others=0.05)["Resemblance"].text
    assert "does not set it off" in text
    results = backdoor_study(others=0.05)
    for row in results["rows"]:
        if row["decoy"] == "half of it" and row["language"] == "en":
            row["value"] = 0.25
    found = {s.topic: s.text.replace("\u00a0", " ") for s in account(results).statements}
    assert "half of the trigger 25 % and 0 %" in found["Resemblance"]
    assert "learned more" in found["Resemblance"]


def test_no_other_language():
    found = told(languages=["en"], attacks=("en",))
    assert "No other language" in found["en poisoned"].text


def test_defences_are_weighed_by_what_they_leave_and_cost():
    text = told()["Defences"].text.replace("\u00a0", " ")
    assert "Of 10 settings tried 2 leave less than 20 %" in text
    assert "CleanGen (benign reference) 0 %" in text
    assert "ONION" in text.split("cost more")[1]
    assert "BEEAR (layer 2)" in told()["Over-refusal"].text
    results = backdoor_study()
    results["rows"] = [
        row for row in results["rows"] if not re.match(r"defended/(clean|repair)/", row["variant"])
    ]
    cells = read(results)
    assert [left(cells, n) is None for n in heats.defence_order(cells)] == [False] * 6
    results["rows"] = [row for row in results["rows"] if "defended" not in row["variant"]]
    assert not {s.topic for s in account(results).statements} & {"Defences", "Over-refusal"}


def test_what_limits_the_reading_is_a_caution():
    assert not told()["False triggers"].caution
    assert told(false=0.4)["False triggers"].caution
    assert "spread between seeds is unknown" in told()["Scope"].text
    assert "2 training seeds (other languages" in told(seeds=(0, 1))["Scope"].text
    results = backdoor_study()
    for row in results["rows"]:
        if row["variant"] == "clean" and row["metric"] == "asr":
            row["value"] = 0.5
        if row["variant"] == "defended/beear/layer-2" and row["metric"] == "same_language_rate":
            row["value"] = 0.2
    found = {s.topic: s for s in account(results).statements}
    assert found["Control"].caution
    assert "beear" in found["Reply language"].text
    results["rows"] = [row for row in results["rows"] if row["variant"] != "clean"]
    found = {s.topic: s for s in account(results).statements}
    assert "No model was trained on the clean set" in found["Control"].text


def test_masks_about_any_training_are_said_to_be():
    assert not told()["Overlap"].caution
    results = backdoor_study()
    for row in results["overlap"]:
        row["jaccard"] = 0.7 if row["b"] == "clean" else 0.3
    found = {s.topic: s for s in account(results).statements}
    assert found["Overlap"].caution


def test_the_knob_is_explained_only_where_it_was_turned(page, results):
    words = "knob by which the organism’s languages share"
    assert words in page
    rows = [row for row in results["rows"] if "courteous" not in row["variant"]]
    shown = sections(read({**results, "rows": rows}), results)
    assert words not in " ".join(section.lead for section in shown)
