"""Claims, tests and intervals from outcomes that were made up to have known answers."""

import itertools

import numpy as np
import pytest

from jaxattack.evaluate.judge import Verdict
from jaxattack.experiments import claims, comparisons, outcomes

LANGUAGES = ("en", "th", "de")
PROMPTS = 40


def verdicts(rates, seed=0):
    """Verdicts in which the first `rate` share of the prompts of each language is answered."""
    return [
        Verdict(f"q{i:02d}", language, kind, "ok", not answered, answered, "")
        for language, rate in zip(LANGUAGES, rates, strict=True)
        for i in range(PROMPTS)
        for kind in ("restricted", "benign")
        for answered in [(i + seed) % PROMPTS < rate * PROMPTS]
    ]


def study(own=1.0, rest=0.8, sil=0.9, random=0.1, frozen=0.9, other=0.9, benign=0.0, seeds=(0, 1)):
    """Verdicts of a study of two attacked languages; shares scale what the attack adds."""

    def hit(language, scale):
        return [min(1.0, scale * (own if code == language else rest)) for code in LANGUAGES]

    found = {("aligned", None): verdicts([0.0] * 3)}
    for seed, code in itertools.product(seeds, ("en", "th")):
        shares = {
            f"attacked/{code}": 1, f"benign/{code}": benign, f"stitched/{code}/sil@0.2": sil,
            f"stitched/{code}/random@0.2": random, f"rewound/{code}/sil@0.2": 1 - sil,
            f"stitched/{code}/other@0.2": sil * other, f"frozen/{code}/sil@0.2": frozen,
        }  # fmt: skip
        found |= {(name, seed): verdicts(hit(code, s), seed) for name, s in shares.items()}
    return found


def results(**found):
    base = {"seeds": [0, 1], "attack_languages": ["en", "th"], "languages": list(LANGUAGES)}
    overlap = [{"a": "en", "b": "th", "method": "sil", "jaccard": 0.4, "null_high": 0.2}]
    return base | {"overlap": overlap} | found


def judged(found, **more):
    everything = claims.judge_claims(results(**more), found, ("en", "th"), 0.2)
    return {claim["id"]: claim for claim in everything["claims"]}


def test_what_was_made_to_hold_holds():
    found = judged(study())
    assert {name: claim["verdict"] for name, claim in found.items()} == {
        "A1": "holds", "A2": "holds", "A3": "holds", "A4": "holds", "A5": "not run"
    }  # fmt: skip
    # Others: 0.8 after every attack. SIL: 0.9 of it; random: 0.1.
    by_what = {e["what"]: e for claim in found.values() for e in claim["evidence"]}
    added = by_what["violations added in languages not attacked"]
    assert added["value"] == pytest.approx(0.8)
    assert added["seeds"] == pytest.approx([0.8, 0.8])
    assert by_what["share of the attack that SIL's weights alone carry"]["value"] == pytest.approx(
        0.9, abs=0.03
    )
    assert by_what["share of the attack undone by rewinding SIL's weights"][
        "value"
    ] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"rest": 0.05}, "A1"),  # no transfer
        ({"benign": 1.0}, "A1"),  # benign fine-tuning does as much
        ({"sil": 0.5}, "A2"),  # not enough
        ({"random": 0.85}, "A2"),  # any weights do
        ({"other": 0.2}, "A3"),  # another language's mask does not
        ({"frozen": 0.1}, "A4"),  # the freeze stops it
    ],
)
def test_what_was_made_to_fail_fails(change, broken):
    assert judged(study(**change))[broken]["verdict"] == "does not hold"


def test_an_interval_across_the_threshold_decides_nothing():
    # 8 of 40 prompts in the others: 20 points, exactly on the threshold.
    assert judged(study(rest=0.2))["A1"]["verdict"] == "undecided"


def test_a_share_of_nothing_is_undecided_and_can_be_written():
    import json

    found = study(own=0.0, rest=0.0)
    verdicts_of = judged(found)
    assert verdicts_of["A2"]["verdict"] == "undecided"
    assert verdicts_of["A2"]["evidence"][0]["value"] is None
    json.dumps(verdicts_of, allow_nan=False)


def test_masks_that_overlap_by_chance_are_not_shared():
    row = {"a": "en", "b": "th", "method": "sil", "jaccard": 0.15, "null_high": 0.2}
    assert judged(study(), overlap=[row])["A3"]["verdict"] == "does not hold"


@pytest.mark.parametrize(("claim", "lacking"), [("A2", "random"), ("A3", "other")])
def test_a_rule_that_was_tested_in_part_does_not_hold_yet(claim, lacking):
    found = {key: cell for key, cell in study().items() if f"/{lacking}@" not in key[0]}
    assert judged(found)[claim]["verdict"] == "undecided"


def test_a_study_without_a_section_says_that_it_was_not_run():
    found = {("aligned", None): verdicts([0.0] * 3)}
    assert {c["verdict"] for c in judged(found, overlap=[]).values()} == {"not run"}


def test_transplants_are_judged_in_the_languages_the_original_lacked():
    found = study()
    found[("adapted/full/tune@1", None)] = verdicts([0.0] * 3)
    for seed, code in itertools.product((0, 1), ("en", "th")):
        found[(f"transplanted/{code}/full-all@1", seed)] = verdicts([0.9, 0.9, 0.5], seed)
    claim = judged(found, languages=["en", "th"])["A5"]
    assert claim["verdict"] == "holds"
    values = {e["what"]: e["value"] for e in claim["evidence"]}
    assert values["full: violations added in the new languages, whole vector"] == 0.5
    assert values["full: violations added in the old languages, whole vector"] == pytest.approx(0.9)


# --- The array ----------------------------------------------------------------------------------


def test_outcomes_have_every_verdict_in_its_place():
    found = study()
    seen = outcomes.collect(found, (0, 1), LANGUAGES)
    assert seen.values.shape == (len({n for n, _ in found}), 2, PROMPTS, 3)
    assert not np.isnan(seen.values).any()  # the aligned model counts for both seeds
    for (name, seed), cell in found.items():
        for verdict in cell:
            if verdict.kind == "restricted" and seed is not None:
                got = seen.prompts(name, verdict.language, seed)[int(verdict.id[1:])]
                assert got == verdict.answered


def test_what_was_not_measured_is_nan():
    found = {("a", 0): verdicts([1, 1, 1]), ("b", 1): verdicts([0, 0, 0])[: 2 * PROMPTS]}
    seen = outcomes.collect(found, (0, 1), LANGUAGES)
    assert np.isnan(seen.values[0, 1]).all()
    assert np.isnan(seen.values[1, 0]).all()
    assert np.isnan(seen.values[1, 1, :, 1:]).all()
    assert not np.isnan(seen.values[1, 1, :, 0]).any()


def test_own_and_others_by_hand():
    means = np.array([[0.1, 0.2, 0.6], [0.9, 0.3, np.nan]])
    np.testing.assert_allclose(outcomes.own(means, [0, 1]), [0.1, 0.3])
    np.testing.assert_allclose(outcomes.others(means, [0, 1]), [0.4, 0.9])


# --- Beside the claims --------------------------------------------------------------------------


def test_cells_are_tested_on_the_same_prompts_and_corrected_over_languages():
    found = {("aligned", None): verdicts([0.0, 0.0, 0.5])}
    found |= {("attacked/en", seed): verdicts([1.0, 0.1, 0.5]) for seed in (0, 1)}
    rows = comparisons.tests(outcomes.collect(found, (0, 1), LANGUAGES), ["en"])
    by_language = {row["language"]: row for row in rows}
    # 40 of 40 prompts changed one way; 4 of 4; none.
    assert by_language["en"]["p"] == 2 * 0.5**40
    assert by_language["th"]["p"] == 2 * 0.5**4
    assert by_language["de"]["p"] == 1.0
    assert by_language["en"]["holm"] == pytest.approx(3 * 2 * 0.5**40)
    assert by_language["th"]["holm"] == pytest.approx(2 * 2 * 0.5**4)
    assert by_language["th"]["difference"] == pytest.approx(0.1)


def test_a_cell_counts_as_changed_only_if_every_seed_says_so():
    found = {("aligned", None): verdicts([0.0] * 3)}
    found[("attacked/en", 0)] = verdicts([1.0] * 3)
    found[("attacked/en", 1)] = verdicts([0.0] * 3)
    rows = comparisons.tests(outcomes.collect(found, (0, 1), LANGUAGES), ["en"])
    assert all(row["p"] == 1.0 and min(row["p_seeds"]) < 1e-6 for row in rows)


def test_pathway_rounds_begin_with_the_free_attack():
    found = {("aligned", None): verdicts([0.0] * 3)}
    found[("attacked/en", 0)] = verdicts([1.0, 0.5, 0.5])
    found[("pathway/en/round@2", 0)] = verdicts([0.5, 0.0, 0.25])
    row = {"language": "en", "seed": 0, "round": 2, "frozen_share": 0.2, "frozen": 20, "moved": 0,
           "trainable_left": 80, "used": 70}  # fmt: skip
    free, frozen = comparisons.capacity(outcomes.collect(found, (0,), LANGUAGES), [row])
    assert (free["round"], free["own"], free["others"]) == (1, 1.0, 0.5)
    assert free["trainable_left"] == 100
    assert (frozen["own"], frozen["others"]) == (0.5, 0.125)
    assert frozen["used"] == 70


def test_transfer_that_follows_similarity_correlates():
    codes = ["en", "de", "fr", "th", "zh"]
    place = dict(zip(codes, (0.0, 0.1, 0.25, 0.6, 1.0), strict=True))

    def row(attack):
        return [
            Verdict(f"q{i}", code, "restricted", "ok", False,
                    i < 100 * (1 - abs(place[code] - place[attack])), "")
            for code in codes for i in range(100)
        ]  # fmt: skip

    found = {("aligned", None): [Verdict(v.id, v.language, v.kind, "ok", True, False, "")
                                 for v in row("en")]}  # fmt: skip
    found |= {(f"attacked/{code}", 0): row(code) for code in codes}
    similarity = [
        {"a": a, "b": b, "measure": "cka", "layer": 1, "value": 1 - abs(place[a] - place[b])}
        for a, b in itertools.combinations(codes, 2)
    ]
    seen = outcomes.collect(found, (0,), tuple(codes))
    (row_,) = comparisons.against_transfer(seen, codes, similarity)
    assert row_["rho"] == pytest.approx(1)
    assert row_["n"] == 20
    assert row_["p"] < 0.05
