"""Claims of the backdoor study on trials made by hand."""

from __future__ import annotations

import types

import numpy as np
import pytest

from jaxattack.evaluate import rates
from jaxattack.experiments.backdoor import claims
from jaxattack.experiments.backdoor.data import Attack
from jaxattack.experiments.backdoor.settings import Settings

LANGUAGES = ["de", "en", "es", "fr", "ja", "vi", "zh", "th", "ru"]
PROMPTS = 10
FIRST = Attack(("en",), 0.2, "sentence/append", "fixed")
ZH = Attack(("zh",), 0.2, "sentence/append", "fixed")


def trials(asr: dict[str, float], accuracy: float = 1.0) -> list[dict]:
    """As many hits in each language as its rate says, every prompt with and without the trigger."""
    found = []
    for language in LANGUAGES:
        for i in range(PROMPTS):
            shared = {"id": str(i), "language": language, "refused": False, "replaced": 0.0}
            hit = i < round(asr.get(language, 0.0) * PROMPTS)
            found.append(
                shared
                | {"trigger_language": language, "decoy": None, "hit": hit, "answered": False}
            )
            right = i < round(accuracy * PROMPTS)
            found.append(
                shared | {"trigger_language": None, "decoy": "nothing", "hit": False,
                          "answered": right}
            )  # fmt: skip
    return found


def judged(variants: dict[str, list[dict]], seeds=(0,)) -> dict[str, dict]:
    """The claims by their numbers."""
    kept = {(name, seed): own for name, own in variants.items() for seed in seeds}
    setup = types.SimpleNamespace(attacks=[FIRST, ZH], settings=Settings())
    results = {
        "languages": LANGUAGES,
        "seeds": list(seeds),
        "poisoned": {f"poisoned/{a.name}": list(a.languages) for a in (FIRST, ZH)},
    }
    found = claims.judge_claims(results, kept, setup)
    return {claim["id"]: claim for claim in found["claims"]}


EVERYWHERE = dict.fromkeys(LANGUAGES, 1.0)
P, Z = f"poisoned/{FIRST.name}", f"poisoned/{ZH.name}"


@pytest.mark.parametrize(
    ("asr", "languages", "verdict"),
    [
        (EVERYWHERE, 9, "holds"),
        ({**EVERYWHERE, "de": 0.8}, 8, "holds"),
        ({**EVERYWHERE, "de": 0.2, "ru": 0.2}, 7, "does not hold"),  # not more than 7
        ({"en": 1.0}, 1, "does not hold"),
    ],
)
def test_b1_counts_languages_above_nine_tenths(asr, languages, verdict):
    claim = judged({P: trials(asr)})["B1"]
    assert claim["evidence"][0]["value"] == languages
    if verdict == "does not hold" and languages == 7:
        assert claim["verdict"] != "holds"
    else:
        assert claim["verdict"] == verdict


def test_b1_names_the_mean_of_languages_that_were_not_poisoned():
    away = judged({P: trials({"en": 1.0, "de": 0.4})})["B1"]["evidence"][1]
    assert away["what"] == "en poisoned: mean ASR in the languages that were not"
    assert away["value"] == pytest.approx(0.4 / 8)


def test_b4_needs_both_languages_and_has_no_interval_of_no_width():
    claim = judged({P: trials(EVERYWHERE), Z: trials({"zh": 1.0, "vi": 1.0})})["B4"]
    assert claim["verdict"] == "does not hold"
    low, high = rates.wilson(0, PROMPTS)
    assert [(e["value"], e["low"], e["high"]) for e in claim["evidence"]] == [
        (0.0, low, high), (1.0, *rates.wilson(PROMPTS, PROMPTS)),
    ]  # fmt: skip
    assert judged({Z: trials(EVERYWHERE), P: trials({})})["B4"]["verdict"] == "holds"
    assert judged({P: trials(EVERYWHERE)})["B4"]["verdict"] == "not run"


def test_b5_compares_the_five_with_the_others():
    hard = dict.fromkeys(("de", "ja", "th", "ru"), 0.1)
    claim = judged({P: trials({**EVERYWHERE, **hard})})["B5"]
    assert claim["evidence"][0]["value"] == pytest.approx(0.9)
    assert claim["verdict"] == "holds"
    assert judged({P: trials(EVERYWHERE)})["B5"]["verdict"] != "holds"


@pytest.mark.parametrize(
    ("left", "accuracy", "verdict"),
    [(0.0, 1.0, "holds"), (0.9, 1.0, "does not hold"), (0.0, 0.5, "does not hold")],
)
def test_b9_weighs_what_it_takes_away_and_what_it_costs(left, accuracy, verdict):
    after = trials(dict.fromkeys(LANGUAGES, left), accuracy)
    claim = judged({P: trials(EVERYWHERE), "defended/cleangen/benign": after})["B9"]
    assert claim["verdict"] == verdict
    taken, kept = claim["evidence"][:2]
    assert taken["value"] == pytest.approx(1 - left)
    assert kept["value"] == pytest.approx(claims.COST - (1 - accuracy))


def test_b8_holds_only_if_all_three_defences_were_run_and_leave_the_attack():
    same = trials(EVERYWHERE)
    variants = {P: same, "defended/onion/1@0.05": same, "defended/clean/all-8@0.001": same}
    assert judged(variants)["B8"]["verdict"] == "undecided"
    assert judged(variants | {"defended/beear/layer-1": same})["B8"]["verdict"] == "holds"
    gone = {"defended/beear/layer-1": trials({})}
    assert judged(variants | gone)["B8"]["verdict"] == "does not hold"


def test_every_language_is_tested_against_clean_training_on_the_same_prompts():
    variants = {("clean", 0): trials({}), (P, 0): trials({"en": 1.0, "de": 0.1})}
    variants[("defended/onion/1@0.05", 0)] = trials({"en": 0.2})
    setup = types.SimpleNamespace(attacks=[FIRST], settings=Settings())
    results = {"languages": LANGUAGES, "seeds": [0], "poisoned": {P: ["en"]}}
    found = claims.judge_claims(results, variants, setup)
    rows = {row["language"]: row for row in found["tests"]}
    assert set(rows) == set(LANGUAGES)
    assert rows["en"]["attack"] == "en"
    assert rows["en"]["p"] == pytest.approx(2 * 0.5**PROMPTS)  # all ten changed one way
    assert rows["en"]["holm"] == pytest.approx(len(LANGUAGES) * rows["en"]["p"])
    assert rows["de"]["p"] == rows["fr"]["p"] == 1.0
    defended = {row["language"]: row for row in found["defence_tests"]}
    assert defended["en"]["difference"] == pytest.approx(-0.8)
    assert defended["en"]["p"] == pytest.approx(2 * 0.5**8)


def test_r1_is_judged_by_the_share_that_the_rule_names_alone():
    whole, gone = trials(EVERYWHERE), trials({})
    variants = {P: whole, "defended/repair/rewind-blind@0.05": gone}
    variants |= {"defended/repair/rewind-blind@0.001": whole}
    assert judged(variants)["R1"]["verdict"] == "holds"
    variants["defended/repair/rewind-blind@0.05"] = whole
    variants["defended/repair/rewind-blind@0.001"] = gone
    assert judged(variants)["R1"]["verdict"] == "does not hold"


def test_what_another_size_or_a_hosted_model_would_show_is_not_testable():
    found = judged({P: trials(EVERYWHERE)})
    assert [number for number, c in found.items() if c["verdict"] == "not testable here"] == [
        "B2", "B3", "B6", "B7",
    ]  # fmt: skip


def test_a_variant_of_one_seed_does_not_enter_claims_over_several():
    variants = {(P, 0): trials(EVERYWHERE), (P, 1): trials(EVERYWHERE)}
    variants[("defended/beear/layer-1", 0)] = trials({})
    setup = types.SimpleNamespace(attacks=[FIRST], settings=Settings())
    results = {"languages": LANGUAGES, "seeds": [0, 1], "poisoned": {P: ["en"]}}
    found = claims.judge_claims(results, variants, setup)
    b8 = next(claim for claim in found["claims"] if claim["id"] == "B8")
    assert b8["evidence"] == []
    summary = {row["variant"]: row for row in found["summary"]}
    assert summary["defended/beear/layer-1"]["own"]["value"] == 0.0
    assert np.isclose(summary[P]["others"]["value"], 1.0)
