import re
from html.parser import HTMLParser

import pytest

from jaxattack.report import account, write_report
from jaxattack.report.overlaps import overlap_dots, overlap_heat

from .synthetic import CONFIG, MANIFEST, synthetic

HOSTILE = '<script>alert("1")</script>&\'"--> $x$ id="a" #1b1e26'


class Outline(HTMLParser):
    """Tags and ids of a page, with a check that they nest."""

    VOID = ("meta", "path", "use", "rect")

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def write(folder, results):
    path = write_report(folder, results, MANIFEST, CONFIG)
    return path.read_text(), sorted(p.name for p in (folder / "figures").iterdir())


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return write(tmp_path_factory.mktemp("full"), synthetic())


def test_full_report_has_every_section(full):
    page, images = full
    outline = Outline(page)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    sections = ["transfer", "weights", "overlap", "where", "freeze", "utility", "loss", "method"]
    assert [name for name in outline.ids if name in sections] == sections
    assert outline.tags.count("svg") == 5
    images = [name.removesuffix(".png") for name in images]
    assert images[:4] == ["curve_attacked", "curve_others", "freeze", "loss"]
    assert images[4:] == ["mask_1", "mask_2", "overlap", "transfer", "utility"]
    for text in ("organism facts", "names the restricted fact", "0123abcd", "attack.epochs"):
        assert text in page
    assert "SIL formula" in page
    assert "n = 24" in page
    assert "20\u00a0% of all weights are 41\u00a0% of the layers’ weights" in page
    assert "hold down to 65\u00a0% of the weights asked for" in page


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"study": "fragility", "rows": [], "overlap": [], "mask_profile": [], "replies": None},
        synthetic(attacks=()),
        synthetic(attacks=("en",), languages=["en"]),
        synthetic(attacks=("en",), sizes=(0.2,)),
        synthetic(languages=["xx", "y$y", "zz"], attacks=("xx", "y$y")),
    ],
)
def test_parts_may_be_missing(tmp_path, results):
    page, _ = write(tmp_path, results)
    assert Outline(page).open == []


@pytest.mark.parametrize(
    "part", ["overlap", "masks", "mask_profile", "freeze_proof", "attack_loss", "judge"]
)
def test_each_part_may_be_missing(tmp_path, part):
    results = synthetic(attacks=("en", "de"), languages=["de", "en", "th"], sizes=(0.2,))
    del results[part]
    write(tmp_path, results)


def test_one_attack_language_says_there_is_no_overlap(tmp_path):
    page, images = write(tmp_path, synthetic(attacks=("en",)))
    assert "no two masks to compare" in page
    assert "overlap.png" not in images


def test_no_benign_prompts_no_benign_columns(tmp_path, full):
    assert "benign refused" in full[0]
    page, _ = write(tmp_path, synthetic(attacks=("en",), benign=False))
    assert not re.search("benign (accuracy|refused)", page.replace("in benign accuracy, valid", ""))


def test_seeds_are_listed(tmp_path):
    page, _ = write(tmp_path, synthetic(attacks=("en",), seeds=(3, 5)))
    assert "seed 3 / 5" in page
    assert re.search(r"seed 3: [\d.]+\u00a0%, seed 5", page)


def test_hostile_strings_are_escaped(tmp_path):
    results = synthetic(languages=["en", HOSTILE], attacks=("en", HOSTILE.replace("/", "")))
    results["study"] = HOSTILE
    results["judge"] = {"name": HOSTILE, "rule": HOSTILE, "completed_by_us": [HOSTILE]}
    results["mask_profile"][0]["module"] = HOSTILE
    results["replies"] = [
        dict.fromkeys(("variant", "language", "id", "prompt", "reply", "verdict"), HOSTILE)
    ]
    path = write_report(tmp_path, results, {HOSTILE: HOSTILE}, {HOSTILE: {HOSTILE: [HOSTILE]}})
    outline = Outline(path.read_text())
    assert "script" not in outline.tags
    assert outline.open == []
    assert "#1b1e26" in path.read_text().split("</style>")[1]  # text is not recoloured


def test_same_input_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, synthetic(attacks=("en", "th")))
    first, second = tmp_path / "a", tmp_path / "b"
    files = [p.relative_to(first) for p in first.rglob("*") if p.is_file()]
    assert len(files) == 10
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_writing_again_leaves_nothing_stale(tmp_path):
    _, images = write(tmp_path, synthetic(attacks=("en", "th"), sizes=(0.2,)))
    assert "overlap.png" in images
    _, images = write(tmp_path, {})
    assert images == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figures", "report.html"]


def test_the_page_loads_nothing_and_names_no_folder(tmp_path):
    page, _ = write(tmp_path, synthetic(attacks=("en", "th"), sizes=(0.2,)))
    assert not re.search(r"https?://|@import|<link|<img|<script|<iframe|url\((?!#)", page)
    assert str(tmp_path) not in page


def test_references_inside_pictures_resolve(full):
    page, _ = full
    ids = set(Outline(page).ids)
    wanted = set(re.findall(r'(?:xlink:href="#|url\(#|href="#)([^")]+)', page))
    assert wanted <= ids
    # A colour of the light theme left in a picture would not follow the dark one.
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", re.sub(r'(href="#|id="|url\(#)[^")]*', "", pictures))


def test_replies_only_when_given(tmp_path):
    results = synthetic(attacks=("en",))
    page, _ = write(tmp_path, results)
    assert "is not shown" in page
    assert "Content warning" not in page
    results["replies"] = [
        {"variant": "attacked/en", "language": "de", "id": "q1", "prompt": "Frage?"}
        | {"reply": "Der Taler.", "verdict": "violation"}
    ]
    page, _ = write(tmp_path, results)
    assert "Der Taler." in page
    assert page.index("Content warning") < page.index("Der Taler.")
    assert "is not shown" not in page


def test_many_pairs_of_masks_make_a_matrix():
    results = synthetic()
    few = overlap_dots(results["overlap"], 0.2)
    assert [dot.value for dot in few] == sorted((dot.value for dot in few), reverse=True)
    heat = overlap_heat(few)
    assert len(heat.rows) == len(heat.columns) == 4
    codes = [row.text for row in heat.rows]
    i, j = codes.index("en"), codes.index("zh")
    assert heat.cells[i][j].value == heat.cells[j][i].value == pytest.approx(0.28 + 0.06 - 0.02)
    assert heat.cells[i][i].value is None


def test_one_language_asked_is_named_and_several_are_counted():
    def asked(*languages):
        return dict(account.facts(("attacked in", "English"), languages, (0,), ""))["asked in"]

    assert (asked("en"), asked("en", "th")) == ("English", "2 languages")
