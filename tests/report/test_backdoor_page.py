"""The page of a backdoor study, from made-up results that carry every table."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import jaxattack.experiments.backdoor
from jaxattack.report import figures
from jaxattack.report.page import render

from .backdoor_tables import FIRST, LANGUAGES, made_up
from .test_page import HOSTILE, Outline

TEMPLATE = Path(jaxattack.experiments.backdoor.__file__).with_name("page.html.j2")
SECTIONS = (
    "claims transfer rates kinds grid decoys start inversion defences overlap sets utility profile "
    "method"
).split()


class Reader(HTMLParser):
    """The heat tables of a page: `heats[caption][row, column]` is `(text, second, tip, class)`."""

    def __init__(self, page):
        super().__init__()
        self.heats, self.columns, self.texts, self.row = {}, [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "table" and found.get("class") == "heat":
            self.columns = []
        if tag in ("figcaption", "th", "td"):
            self.texts, self.found = [], found
        if tag == "tr":
            self.place = 0

    def handle_data(self, data):
        self.texts.append(data)

    def handle_endtag(self, tag):
        text = " ".join(part for part in self.texts if part.strip())
        if tag == "figcaption":
            self.heat = self.heats.setdefault(text, {})
        elif tag == "th" and self.found.get("scope") == "col":
            self.columns.append(text)
        elif tag == "th":
            self.row = text
        elif tag == "td" and "data-tip" in self.found:
            self.place += 1
            first, *second = [part for part in self.texts if part.strip()] or [""]
            square = first, "".join(second), self.found["data-tip"], self.found["class"]
            self.heat[self.row, self.columns[self.place]] = square


def shown(results):
    """The page without its pictures."""
    with pytest.MonkeyPatch.context() as patch:
        nothing = figures.Picture(b"")
        patch.setattr(figures, "render", lambda *_: nothing)
        patch.setattr(figures, "render_heat", lambda *_: nothing)
        return render(results, {}, {}, TEMPLATE.read_text())[0].replace("\u00a0", " ")


def heats(page):
    return Reader(page).heats


@pytest.fixture(scope="module")
def page():
    return shown(made_up((0, 1)))


def test_every_section_in_order(page):
    ids = Outline(page).ids
    assert [name for name in ids if name in SECTIONS] == SECTIONS
    assert re.findall(r"Claim (B\d) <span", page) == ["B1", "B1", "B8"]
    for text in ("English; Thai; Spanish and Indonesian", "hash00"):
        assert text in page
    assert "Content warning" not in page
    assert not re.search(r"https?://|<link|<img|<script|url\((?!#)", page)


@pytest.mark.parametrize(
    "parts",
    [
        ["languages", "seeds", "attacks", "sets", "judge"],
        ["rows", "changed", "costs", "interventions", "tests"],
        ["summary", "defence_tests", "overlap", "claims", "profile"],
    ],
)
def test_each_part_may_be_missing(parts):
    results = made_up(languages=("en", "de", "th"), attacks=("en",))
    assert set(results) >= set(parts)
    Outline(shown({name: part for name, part in results.items() if name not in parts}))


@pytest.mark.parametrize(
    "results",
    [
        {"study": "backdoor"},
        {"study": "backdoor", "rows": [], "attacks": [FIRST.columns()], "summary": []},
        made_up(languages=("en",), attacks=("en",)),
        {"study": "backdoor", "rows": made_up(attacks=("en",))["rows"]},
    ],
)
def test_parts_may_be_missing(results):
    Outline(shown(results))


def test_sections_that_were_not_run_are_left_out():
    results = made_up(attacks=("en",))
    for key in "overlap inversion sets profile costs changed interventions".split():
        results[key] = []
    for key in ("rows", "summary"):
        kept = ("clean", FIRST.variant)
        results[key] = [row for row in results[key] if row["variant"] in kept]
    ids = Outline(shown(results)).ids
    assert [name for name in ids if name in SECTIONS] == ["claims", "transfer", "utility", "method"]


def hostile():
    """Results whose every string is one that a page must not take for its own."""
    results = made_up(languages=("en", HOSTILE), attacks=("en", HOSTILE.replace("+", "")))
    results["judge"] = {"name": HOSTILE, "rule": HOSTILE, "completed_by_us": [HOSTILE]}
    results["sets"][0] |= {"set": HOSTILE, "languages": {HOSTILE: {"rows": 2, "poisoned": 1}}}
    results["replies"] = [
        dict.fromkeys(("variant", "language", "id", "prompt", "reply", "verdict"), HOSTILE)
    ]
    for key, columns in {
        "rows": ("decoy", "trigger", "target", "method", "words", "variant"),
        "summary": ("trigger", "target", "method", "words", "variant", "model"),
        "overlap": ("kind", "method"),
        "inversion": ("text_hash",),
        "profile": ("kind",),
        "interventions": ("prompts_are",),
    }.items():
        for row in results[key][::2]:
            row |= {name: HOSTILE for name in columns if row.get(name) not in (None, "nothing")}
    return results


def test_hostile_strings_are_escaped_and_the_same_input_gives_the_same_bytes():
    template, about = TEMPLATE.read_text(), ({HOSTILE: HOSTILE}, {HOSTILE: [HOSTILE]})
    html, images = render(hostile(), *about, template)
    assert "script" not in Outline(html).tags
    assert "Content warning" in html
    names = (
        "transfer rates kinds grid decoys start inversion inverted defences defence_dots".split()
    )
    assert set(images) == {f"{name}.png" for name in (*names, "overlap", "utility", "profile")}
    assert (html, images) == render(hostile(), *about, template)


# --- Figures ------------------------------------------------------------------------------------


def test_transfer_has_all_attacks_and_the_control(page):
    heat = heats(page)["Attack success in per cent, each language asked with its own trigger"]
    rows = list(dict.fromkeys(row for row, _ in heat))
    own = {"en English": ["en"], "th Thai": ["th"], "es+id Spanish and Indonesian": ["es", "id"]}
    assert rows == [*own, "none"]
    for row, codes in own.items():
        marked = [
            c.split()[0] for (r, c), square in heat.items() if r == row if "marked" in square[3]
        ]
        assert marked == codes
    text, _, tip, _ = heat["en English", "th Thai"]
    assert text == "60*"
    for part in ("95 % interval", "n = 24 for each seed", "seed 1: 62.5 %", "after Holm 0.03"):
        assert part in tip
    assert heat["en English", "de German"][0] == "44*"
    assert heat["en English", "mean others"][:2] == ("61", "56–66")
    assert heat["none", "mean others"][0] == "0"


def test_tests_that_say_nothing_have_no_star():
    results = made_up()
    for row in results["tests"]:
        row["holm"] = 0.2
    assert "*<small>" not in shown(results)


def test_other_kinds_are_of_the_first_attack_alone(page):
    heat = heats(page)["Per cent, by what sets the backdoor off and what it does"]
    assert [row for row, _ in heat][::4] == [
        "sentence, appended fixed sentence",
        "sentence, appended fixed opening",
        "sentence, inserted fixed sentence",
        "a topic asked about fixed sentence",
    ]
    columns = [column for _, column in heat][:4]
    assert columns == ["ASR poisoned", "ASR others", "clean accuracy", "false triggers"]


def test_the_grid_tells_trigger_from_prompt(page):
    heat = heats(page)["Attack success in per cent, by language of the trigger and of the prompt"]
    assert len(heat) == len(LANGUAGES) * (len(LANGUAGES) + 1)
    assert heat["de German", "en English"][0] == "100"
    assert heat["en English", "de German"][0] == "29"
    assert "marked" in heat["th Thai", "th Thai"][3]
    assert heat["en English", "mean other prompts"][0] == "29"


def test_pleasantries_stand_alone_and_pooled(page):
    heat = heats(page)["Planted behaviour without the trigger, per cent"]
    rows = list(dict.fromkeys(row for row, _ in heat))
    assert rows[:4] == ["nothing", "a paraphrase", "half of the trigger", "the trigger, put first"]
    assert rows[4:] == ["pleasantry 1", "pleasantry 2", "pleasantry 3", "all pleasantries"]
    shares = [round(0.6 * 0.2 * place * 24) / 24 for place in (1, 2, 3)]
    assert heat["all pleasantries", "poisoned"][0] == f"{100 * sum(shares) / 3:.0f}"
    assert "n = 72 for each seed" in heat["all pleasantries", "poisoned"][2]


def test_inversion_tells_languages_apart_and_in_how_many_seeds_it_is_found(page):
    found = heats(page)
    q = found["Highest Q in per cent, by the language of the prompts"]
    assert q["poisoned", "de German"][0] == "99"
    assert "marked" in q["poisoned", "en English"][3]
    assert q["poisoned", "mean others"][0] == "93"  # without English
    assert q["clean training", "th Thai"][0] == "52"
    hits = found["What was planted is found, per cent of the seeds"]
    assert hits["poisoned", "de German"][0] == "100"
    assert hits["poisoned", "es Spanish"][0] == "50"
    assert hits["clean training", "de German"][0] == "0"


def test_defences_with_every_seed_come_first(page):
    found = heats(page)
    heat = found["Per cent, before and after each defence"]
    rows = list(dict.fromkeys(row for row, _ in heat))
    onion = "ONION runs up to 6, 5 % of clean units lost"
    repair = "SIL repair rewind 5 %, trigger unknown"
    assert rows[:3] == ["undefended", "never poisoned", onion]
    assert len(rows) == 2 + 5
    assert heat[onion, "speed against clean"][:2] == ("0.50×", "")
    assert heat[onion, "weights changed"][0] == "–"
    assert heat[repair, "weights changed"][0] == "4.9 %"
    assert heat["CleanGen benign reference", "replaced triggered"][0] == "40"
    assert heat[repair, "ASR others"][1] == "0–7"
    once = found["Settings that were run with one seed only, per cent"]
    assert once["SIL repair scale 1 %, trigger known", "weights changed"][0] == "0.5 %"
    assert len({row for row, _ in once}) == 5


def test_one_seed_has_one_table_of_defences():
    found = heats(shown(made_up()))
    assert "Settings that were run with one seed only, per cent" not in found
    assert len({row for row, _ in found["Per cent, before and after each defence"]}) == 12


def test_costs_that_were_not_measured_have_no_column():
    results = made_up()
    for key in ("changed", "costs", "interventions"):
        del results[key]
    page = shown(results)
    heat = heats(page)["Per cent, before and after each defence"]
    assert {column for _, column in heat} == {
        "ASR poisoned",
        "ASR others",
        "ASR left of it",
        "clean accuracy",
        "clean refused",
    }
    assert "Speed:" not in page


def test_of_an_attack_that_failed_nothing_is_left_to_show():
    results = made_up(own=0.0, others=0.0)
    assert not [row for row in results["summary"] if row["metric"] == "asr_left"]
    page = shown(results)
    heat = heats(page)["Per cent, before and after each defence"]
    assert "ASR left of it" not in {column for _, column in heat}
    assert "Left of it:" not in page
    assert "a mark for each setting" not in page


def test_what_was_not_judged_is_left_out():
    results = made_up(attacks=("en",))
    for row in results["rows"]:
        if row["language"] == "de":
            row["value"] = float("nan")
    caption = "Attack success in per cent, each language asked with its own trigger"
    assert "de German" not in {column for _, column in heats(shown(results))[caption]}


def test_the_knob_is_explained_only_where_it_was_turned(page):
    words = "knob by which the organism’s languages share"
    assert words in page
    results = made_up()
    results["summary"] = [r for r in results["summary"] if "courteous" not in r["variant"]]
    assert words not in shown(results)


def test_rates_are_of_the_first_attack_alone_and_ascend(page):
    section = page.split('<section id="rates"')[1].split("</section>")[0]
    rates = re.findall(r"<tr><td>([\d.]+ %)</td>", section)
    assert list(dict.fromkeys(rates)) == ["1 %", "5 %", "20 %", "30 %"]
    assert len(rates) == 4 * 7  # ASR there, elsewhere and everywhere, four rates without trigger
