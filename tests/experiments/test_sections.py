"""Every section of the fragility study with every control, on a tiny random checkpoint."""

from __future__ import annotations

import json
import pathlib

import pytest

from jaxattack import run
from jaxattack.experiments.fragility.controls import CONTROLS, WAYS

pytestmark = pytest.mark.slow

DOSES = (1, 3)
FRACTIONS = (0.01, 0.2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("sections")


@pytest.fixture
def results(shared, study, own_data) -> dict:
    """What the study found; run by the first test that asks for it."""
    if not (shared / "results.json").exists():
        benign = own_data["pairs"].with_name("benign.jsonl")
        rows = [json.loads(line) for line in own_data["pairs"].read_text().splitlines()]
        with benign.open("w") as file:
            for row in rows:
                row |= {"prompt": f"{row['prompt']} {row['id']}", "kind": "benign"}
                print(json.dumps(row), file=file)
        code = run.run(
            study(
                shared,
                data__benign=f"jsonl:{benign}",
                transfer__benign="True",
                transfer__doses=str(DOSES),
                transfer__mixed="('en+th',)",
                localize__fractions=str(FRACTIONS),
                localize__controls=str(tuple(CONTROLS)),
                localize__ways=str(tuple(WAYS)),
                localize__path_points="2",
                localize__rewind="True",
                pathways__fractions="(0.5,)",
                pathways__random="True",
                pathways__rounds="9",
            )
        )
        assert code == 0
    return json.loads((shared / "results.json").read_text())


def names(results: dict) -> set[str]:
    return {row["variant"] for row in results["rows"]}


def test_every_variant_is_measured(results):
    wanted = {"aligned", "attacked/en+th"}
    for code in ("en", "th"):
        wanted |= {f"attacked/{code}", f"benign/{code}", f"restitched/{code}/sil@0.2"}
        wanted |= {f"attacked/{code}/pairs@{dose}" for dose in DOSES}
        wanted |= {f"stitched/{code}/sil@{fraction:g}" for fraction in FRACTIONS}
        wanted |= {f"rewound/{code}/sil@{fraction:g}" for fraction in FRACTIONS}
        wanted |= {f"stitched/{code}/{method}@0.2" for method in (*CONTROLS, *WAYS)}
        wanted |= {f"frozen/{code}/{m}" for m in ("sil@0.2", "sil@0.5", "random@0.2")}
        # A fifth a round: the sixth would have nothing left to train.
        wanted |= {f"pathway/{code}/round@{number}" for number in (2, 3, 4, 5)}
    measured = names(results)
    assert wanted <= measured
    rest = {name.split("/")[0] for name in measured - wanted}
    assert rest == {"rewound"}


def test_each_round_freezes_a_fifth_more_and_nothing_frozen_moves(results):
    rounds = [row for row in results["capacity"] if row["attacked"] == "en"]
    assert [row["round"] for row in rounds] == [1, 2, 3, 4, 5]
    shares = [row["frozen_share"] for row in rounds]
    assert shares[:4] == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-3)
    assert 0.6 < shares[4] < 0.8  # fewer weights than a fifth could still be moved, and scored
    assert all(row["moved"] == 0 for row in rounds)
    # What is left last are rows of words that no pair has.
    used = [row["used"] for row in rounds[1:]]
    assert used == sorted(used, reverse=True)
    assert used[0] > 0
    assert all(row["moved"] == 0 for row in results["freeze_proof"])


def test_the_mask_after_a_freeze_shares_nothing_with_the_first(results):
    found = [row for row in results["overlap"] if row["method"] == "restitched"]
    assert [row["jaccard"] for row in found] == [0.0, 0.0]


def test_overlaps_stand_beside_what_chance_gives(results):
    by_method = {row["method"]: row for row in results["overlap"]}
    assert set(by_method) == {"sil", "benign", "restitched"}
    for row in by_method.values():
        assert 0 <= row["null_low"] <= row["null_high"] <= 1
    places = results["overlap_by_place"]
    assert {(row["a"], row["b"]) for row in places} == {("en", "th")}
    assert all(0 <= row["jaccard"] <= 1 for row in places)


def test_as_many_steps_are_taken_with_fewer_pairs(shared, results):
    assert results
    lengths = {
        path.parent.name.split("-")[0]: len(json.loads(path.read_text()))
        for path in sorted(shared.glob("stages/attack-*/loss.json"))
    }
    assert set(lengths.values()) == {2}  # 8 pairs in batches of 4


def test_claims_have_a_rule_and_a_verdict(results):
    assert [claim["id"] for claim in results["claims"]] == ["A1", "A2", "A3", "A4", "A5", "A2p"]
    for claim in results["claims"]:
        assert claim["rule"]
        assert claim["verdict"] in ("holds", "does not hold", "undecided", "not run")
    assert len(results["tests"]) == 4


def test_the_report_has_the_sections(shared, results):
    assert results
    page = (shared / "report.html").read_text()
    for word in ("A1", "A2", "A3", "A4", "capacity", "Jaccard"):
        assert word in page


def test_the_manifest_says_where_the_time_went(shared, results):
    assert results
    profile = json.loads((shared / "manifest.json").read_text())["profile"]
    kinds = {row["kind"] for row in profile}
    assert {"attack", "benign", "frozen", "gradients", "mask", "inputs", "ask", "judge"} <= kinds
    assert all(row["seconds"] >= 0 and row["count"] > 0 for row in profile)
