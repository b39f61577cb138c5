"""The page around any study's template, and every call a template may make."""

import re
from html.parser import HTMLParser

import pytest
from matplotlib.text import Text

from jaxattack.report import figures
from jaxattack.report.axes import LOOKS, Options, looks_of
from jaxattack.report.chart import draw_lines
from jaxattack.report.heat import heat
from jaxattack.report.page import render, write_report
from jaxattack.report.table import Table

HOSTILE = '<script>alert("1")</script>&\'"--> $x$ id="a" #1b1e26'
TEMPLATE = """
{{ fact("attacked in", rows.values("attacked") | names) }}
{% if rows %}
{% call section("all", "What is there?", claim="A1") %}
{{ heat(rows, "attacked", "language", name="heat", caption="Heat", bounds=true) }}
{{ lines(rows, "share", "method", name="lines", caption="Lines", log=true,
         levels={"all": rows.rate(), "none": none}) }}
{{ dots(rows, ["attacked", "side"], "method", name="dots", caption="Dots", whiskers=true,
        joined=true, written=true, chance="chance", null=["null_low", "null_high"], each="seed") }}
{{ scatter(rows, "share", "value", "attacked", name="scatter", caption="Scatter") }}
{{ bars(rows, "attacked", name="bars", caption="Bars") }}
{{ lines(part("losses").steps("loss"), "step", "attacked", name="loss", caption="Loss", bare=true,
         unit="", log_y=true, each="seed") }}
{{ table(rows, {"attacked": "attack", "share": "size", "value": "value"}, caption="Plain") }}
{{ rates(rows, {"attacked": "attack"}, caption="Rates",
         columns={"own": rows.where(side="own"), "others": rows.where(side="others")}) }}
{% endcall %}
{% endif %}
"""


class Outline(HTMLParser):
    """Tags and ids of a page, with a check that they nest."""

    VOID = ("meta", "path", "use", "rect")

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.open = [], [], []
        self.feed(text)
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def results(languages=("en", "th"), **others):
    rows = [
        {"attacked": a, "language": b, "method": m, "share": s, "seed": seed, "metric": "x"}
        | {"value": 0.5, "low": 0.3, "high": 0.7, "n": 24, "chance": 0.1}
        | {"null_low": 0.05, "null_high": 0.15, "variant": f"{a}/{m}"}
        for a in languages
        for b in languages
        for m in ("sil", "random")
        for s in (0.1, 0.2)
        for seed in (0, 1)
    ]
    losses = [
        {"attacked": a, "seed": s, "loss": [3.0, 1.0, 0.5]} for a in languages for s in (0, 1)
    ]
    claim = {"id": "A1", "claim": "It carries over.", "verdict": "holds", "rule": "Over 20 %."}
    figure = {
        "what": "share",
        "value": 0.5,
        "low": 0.3,
        "high": 0.7,
        "unit": "rate",
        "threshold": 0.2,
    }
    caution = {"id": "scope", "topic": "Scope", "text": "One seed.", "evidence": [figure]}
    return {
        "study": "made-up",
        "rows": rows,
        "losses": losses,
        "languages": list(languages),
        "claims": [claim | {"evidence": [figure]}],
        "cautions": [caution],
        "judge": {"name": "known answers", "completed_by_us": ["Judging."]},
        "lost": {"file:x": {"no text": 3}},
    } | others


@pytest.fixture(scope="module")
def full():
    return render(results(), {"git": "0123"}, {"attack": {"epochs": 5}}, TEMPLATE)


def test_every_call_gives_a_figure_or_a_table(full):
    html, images = full
    outline = Outline(html)
    names = ["bars", "dots", "heat", "lines", "loss", "scatter"]
    assert sorted(images) == [f"{name}.png" for name in names]
    assert all(image.startswith(b"\x89PNG") for image in images.values())
    assert (
        outline.tags.count("svg") == 5 + 2
    )  # the heat table is one; a claim's and a caution's bar
    assert outline.tags.count("table") == 1 + 2 + 3  # lost, configuration and manifest
    for text in ("English and Thai", "It carries over.", "One seed.", "file:x.no text", "0123"):
        assert text in html
    assert "attack.epochs" in html
    assert "seed 0: 50.0\u00a0%, seed 1" in html
    assert html.index('id="cautions"') < html.index('href="#all"') < html.index('id="all"')


@pytest.mark.parametrize("found", [{}, {"rows": [], "judge": {}}, {"claims": [], "replies": None}])
def test_parts_may_be_missing(found):
    html, images = render(found, {}, {}, TEMPLATE)
    Outline(html)
    assert images == {}
    assert "no rows" in html


def test_hostile_strings_are_escaped():
    found = results((HOSTILE, "y$y"), study=HOSTILE)
    found["judge"] = {"name": HOSTILE, "rule": HOSTILE, "completed_by_us": [HOSTILE]}
    found["lost"] = {HOSTILE: {HOSTILE: 1}}
    for one in (*found["claims"], *found["cautions"]):
        one |= dict.fromkeys(set(one) - {"evidence"}, HOSTILE)
    keys = ("variant", "language", "id", "prompt", "reply", "verdict", "reply_hash")
    found["replies"] = [dict.fromkeys(keys, HOSTILE)]
    html, _ = render(found, {HOSTILE: HOSTILE}, {HOSTILE: {HOSTILE: [HOSTILE]}}, TEMPLATE)
    assert "script" not in Outline(html).tags
    assert "#1b1e26" in html.split("</style>")[1]  # text is not recoloured


def test_the_page_loads_nothing_and_its_references_resolve(full):
    html, _ = full
    assert not re.search(r"https?://|@import|<link|<img|<script|<iframe|url\((?!#)", html)
    wanted = set(re.findall(r'(?:xlink:href="#|url\(#|href="#)([^")]+)', html))
    assert wanted <= set(Outline(html).ids)
    # A colour of the light theme left in a picture would not follow the dark one.
    pictures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", re.sub(r'(href="#|id="|url\(#)[^")]*', "", pictures))


def test_same_input_same_bytes_and_nothing_stale(tmp_path):
    template = tmp_path / "page.html.j2"
    template.write_text(TEMPLATE)
    for name in ("a", "b"):
        write_report(tmp_path / name, results(), {}, {}, template)
    first, second = tmp_path / "a", tmp_path / "b"
    files = [p.relative_to(first) for p in first.rglob("*") if p.is_file()]
    assert len(files) == 7
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()
    write_report(first, {}, {}, {}, template)
    assert [p.name for p in (first / "figures").iterdir()] == []


def test_replies_only_when_given(undrawn):
    html, _ = render(results(), {}, {}, TEMPLATE)
    assert "is not shown" in html
    assert "Content warning" not in html
    reply = {"variant": "attacked/en", "language": "de", "id": "q1", "prompt": "Frage?"}
    reply |= {"reply": "Der Taler.", "verdict": "violation", "reply_hash": "ab12"}
    html, _ = render(results(replies=[reply]), {}, {}, TEMPLATE)
    assert html.index("Content warning") < html.index("Der Taler.") < html.index("ab12")
    assert "is not shown" not in html


def test_two_figures_of_one_name_are_refused():
    twice = '{{ heat(rows, "attacked", "language", name="x", caption="") }}' * 2
    with pytest.raises(ValueError, match="two figures"):
        render(results(), {}, {}, twice)


@pytest.mark.parametrize("languages", [("en",), ("en", "th"), ("de", "en", "fr", "ja", "th", "vi")])
def test_no_text_of_a_table_s_picture_is_cut(languages):
    caption = "Planted behaviour without the trigger, in per cent, by language of the prompt"
    drawn = heat(Table(results(languages)["rows"]), "attacked", "language", caption)
    figure = figures._draw_heat(drawn)
    figure.draw_without_rendering()
    whole = figure.bbox.padded(1)
    for text in figure.findobj(Text):
        if text.get_text():
            box = text.get_window_extent()
            assert whole.contains(*box.min), text
            assert whole.contains(*box.max), text


@pytest.mark.parametrize("count", [3, 25])
def test_every_line_is_named(count):
    rows = [{"x": i, "name": f"n{n}", "value": 0.1} for n in range(count) for i in range(2)]
    figure = draw_lines(Table(rows), "x", ["name"], "value", Options())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"n{n}" for n in range(count)]


@pytest.mark.parametrize("count", [2, 6, 20])
def test_no_two_series_of_a_chart_look_alike(count):
    """Those with a look of their own among those that take what is left."""
    names = [(name,) for name in ("safedelta", "sil", "random", *map(str, range(count)))]
    looks = looks_of(names)
    assert list(looks) == names
    assert looks[("sil",)] == LOOKS["sil"]
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(names)


def test_two_values_decide_on_the_colour_and_on_the_line():
    looks = looks_of([("a", "own"), ("a", "others"), ("b", "own"), ("b", "others")])
    assert looks["a", "own"][:2] == looks["a", "others"][:2] != looks["b", "own"][:2]
    assert [look.line for look in looks.values()] == ["-", "--", "-", "--"]
