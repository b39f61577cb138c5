import pytest

from jaxattack.report.headlines import headline, tiles
from jaxattack.report.reading import statements
from jaxattack.report.tables import tabulate

from .synthetic import synthetic


def read(**levels):
    """Topic -> statement, for synthetic results with these knobs."""
    results = synthetic(**levels)
    return {s.topic: s for s in statements(tabulate(results), results)}


@pytest.mark.parametrize(
    ("attacked", "line", "words"),
    [
        ((1.0, 0.7), "broken in the others", "The damage carries over:"),
        ((1.0, 0.3), "partly broken", "carries over in part"),
        ((1.0, 0.02), "stays in the language", "does not carry over"),
    ],
)
def test_transfer_wording_follows_the_rates(attacked, line, words):
    assert line in headline(tabulate(synthetic(attacked=attacked)))
    assert words in read(attacked=attacked)["Transfer"].text


def test_transfer_figures_are_the_rows():
    text = read(attacks=("en",), languages=["en", "de", "th"], attacked=(1.0, 0.5))
    text = text["Transfer"].text.replace("\u00a0", " ")
    assert text.startswith("Attacking in English raises violations in English from 0 % to 100 %")
    # Places 1 and 2 of the wobble: 0.5 * 0.7 and 0.5 * 1.0 of 24 prompts.
    assert "from 0 % to 42 % on average (from 33 % in German to 50 % in Thai)" in text
    assert "of 2 unattacked cells 2 have" in text


def test_an_attack_that_failed_is_said_first():
    failed = {"attacked": (0.05, 0.0), "frozen": (0.0, 0.0)}
    assert headline(tabulate(synthetic(**failed))) == "The attack did not take"
    assert read(**failed)["Attack"].caution
    assert "Transfer" not in read(**failed)


def test_nothing_or_one_language_measured():
    assert headline(tabulate({})) == "No attack was measured"
    assert statements(tabulate({}), {}) == []
    assert tiles(tabulate({})) == []
    alone = synthetic(languages=["en"], attacks=("en",))
    assert headline(tabulate(alone)) == "The attack breaks the language it was made in"
    assert "No other language" in read(languages=["en"], attacks=("en",))["Transfer"].text
    two = read(languages=["en", "de"], attacks=("en",))["Transfer"].text
    assert "in the language it never saw" in two


@pytest.mark.parametrize(
    ("sil", "words"),
    [((1.0, 0.6), "nearly all"), ((0.8, 0.3), "a part"), ((0.2, 0.0), "do not carry")],
)
def test_localization(sil, words):
    assert words in read(sil=sil)["Localization"].text


def test_a_smaller_mask_that_is_enough_is_named():
    results = synthetic(sizes=(0.05, 0.05, 0.2, 0.5))
    for row in results["rows"]:
        if "sil@0.05" in row["variant"] and row["metric"] == "violation_rate":
            row["value"] = 1.0
    text = next(s.text for s in statements(tabulate(results), results) if s.topic == "Localization")
    assert "5\u00a0% reach" in text


def test_controls():
    assert "well apart" in read()["Controls"].text
    close = read(magnitude=(1.0, 0.6))["Controls"]
    assert close.caution
    assert "not separated from: largest change." in close.text


def test_an_attack_after_which_a_control_does_as_well_is_named():
    results = synthetic()
    for row in results["rows"]:
        if row["variant"] == "stitched/th/magnitude@0.2" and row["metric"] == "violation_rate":
            row["value"] = 1.0
    found = next(s for s in statements(tabulate(results), results) if s.topic == "Controls")
    assert found.caution
    assert "In the mean SIL is well apart" in found.text
    assert "not after attacking Thai (largest change" in found.text
    without = synthetic()
    others = ("random", "matched_random", "magnitude")
    without["rows"] = [
        r for r in without["rows"] if not any(f"/{m}@" in r["variant"] for m in others)
    ]
    told = {s.topic: s for s in statements(tabulate(without), without)}["Controls"]
    assert told.caution
    assert "No control mask" in told.text


@pytest.mark.parametrize(
    ("complement", "words", "caution"),
    [
        ((0.0, 0.0), "does little", False),
        ((0.7, 0.3), "lies outside", False),
        ((0.7, 0.0), "some of the attack in its own language, not its transfer", False),
        ((1.0, 0.64), "does not need the mask", True),
    ],
)
def test_complement(complement, words, caution):
    statement = read(complement=complement)["Complement"]
    assert words in statement.text
    assert statement.caution is caution


@pytest.mark.parametrize(
    ("frozen", "words"),
    [
        ((0.92, 0.0), "finds another way; its transfer is gone"),
        ((0.4, 0.0), "still gets through in part; its transfer is gone"),
        ((0.0, 0.0), "The freeze stops the attack"),
        ((0.1, 0.6), "protects the attacked language but not the others"),
        ((1.0, 0.6), "does not stop the attack"),
        ((0.4, 0.4), "weakens the attack"),
    ],
)
def test_freezing(frozen, words):
    assert words in read(frozen=frozen)["Freezing"].text


def test_a_freeze_that_moved_is_not_read():
    results = synthetic()
    results["freeze_proof"][0]["moved"] = 7
    told = {s.topic: s for s in statements(tabulate(results), results)}
    assert "Freezing" not in told
    assert told["Freeze broken"].caution
    assert "7 of 280,000" in told["Freeze broken"].text


@pytest.mark.parametrize(
    ("rewound", "words"),
    [
        ((0.0, 0.0), "This undoes the attack"),
        ((0.4, 0.2), "most of"),
        ((0.8, 0.02), "undoes the transfer, but not the whole attack in its own"),
        ((1.0, 0.6), "does not undo"),
    ],
)
def test_rewinding(rewound, words):
    assert words in read(rewound=rewound)["Rewinding"].text


def test_overlap_against_chance():
    assert "share weights" in read()["Overlap"].text
    results = synthetic()
    for row in results["overlap"]:
        row["jaccard"] = row["chance"]
    told = {s.topic: s for s in statements(tabulate(results), results)}
    assert "hardly more than chance" in told["Overlap"].text
    assert "Overlap" not in read(attacks=("en",))


def test_utility_and_replies_earn_cautions():
    assert not read()["Utility"].caution
    assert read(damage=0.3)["Utility"].caution
    assert "Utility" not in read(benign=False)
    assert "Valid replies" not in read()
    assert "frozen" in read(valid=0.5)["Valid replies"].text


def test_not_refusing_is_told_from_answering():
    assert "Not refusing" not in read()
    results = synthetic()
    for row in results["rows"]:
        if row["metric"] == "non_refusal_rate" and row["variant"].startswith("attacked"):
            row["value"] = 1.0
    told = {s.topic for s in statements(tabulate(results), results)}
    assert "Not refusing" in told


def test_baseline():
    assert not read()["Before"].caution
    unsafe = read(aligned=(0.3, 0.3))["Before"]
    assert unsafe.caution
    assert "at most" in unsafe.text
    results = synthetic()
    results["rows"] = [row for row in results["rows"] if row["variant"] != "aligned"]
    told = {s.topic: s for s in statements(tabulate(results), results)}
    assert "not measured" in told["Before"].text


def test_scope_names_seeds_and_prompts():
    assert "one training run" in read()["Scope"].text
    assert "3 training seeds (unseen languages: seed 0:" in read(seeds=(0, 1, 2))["Scope"].text
