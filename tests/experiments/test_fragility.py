"""The whole study on a tiny random checkpoint with the user's own data."""

from __future__ import annotations

import json
import operator
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from jaxattack import run, tree
from jaxattack.evaluate import rates
from jaxattack.evaluate.judge import REFUSAL_RULE

CLAIMS = {"claims.py", "cautions.py", "claim.py", "term.py", "thresholds.py", "premises.py"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture
def finished(shared, study) -> pathlib.Path:
    """A finished study; run by the first test that asks for it."""
    if not (shared / "results.json").exists():
        assert run.run(study(shared)) == 0
    return shared


def results_of(root: pathlib.Path) -> dict:
    return json.loads((root / "results.json").read_text())


def test_every_variant_is_measured_in_every_language(finished):
    results = results_of(finished)
    variants = {"aligned"}
    for language in ("en", "th"):
        variants |= {f"attacked/{language}", f"rewound/{language}/sil@0.2"}
        variants |= {f"frozen/{language}/sil@0.2", f"stitched/{language}/sil@0.05"}
        variants.add(f"restitched/{language}/sil@0.2")
        for method in (
            "sil",
            "random",
            "matched_random",
            "magnitude",
            "snip",
            "fisher",
            "other",
            "complement",
        ):
            variants.add(f"stitched/{language}/{method}@0.2")
    of_replies = [row for row in results["rows"] if row["metric"] not in rates.OF_WEIGHTS]
    asked = {(row["variant"], row["language"], row["metric"]) for row in of_replies}
    # No benign prompts were given, so no benign metrics are claimed.
    metrics = (
        "violation_rate",
        "non_refusal_rate",
        "valid_reply_rate",
        "cut_rate",
        "same_language_rate",
    )
    assert asked == {
        (v, language, m) for v in variants for language in ("en", "th") for m in metrics
    }
    assert all(
        row["n"] == 3 and 0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in of_replies
    )


def test_the_rows_open_as_a_flat_table(finished):
    pandas = pytest.importorskip("pandas")
    rows = results_of(finished)["rows"]
    table = pandas.read_parquet(finished / "results.parquet")
    assert len(table) == len(rows)
    assert {"variant", "kind", "attacked", "method", "share", "seed", "round"} <= set(table.columns)
    stitched = table[(table.kind == "stitched") & (table.method == "sil") & (table.share == 0.2)]
    assert set(stitched.attacked) == {"en", "th"}
    known = {(r["variant"], r["language"], r["metric"]): r["value"] for r in rows}
    for row in stitched.itertuples():
        assert known[row.variant, row.language, row.metric] == row.value


def test_every_rate_of_replies_is_that_of_its_trials(finished):
    pandas = pytest.importorskip("pandas")
    trials = pandas.read_parquet(finished / "trials.parquet")
    assert not {"prompt", "reply", "text"} & set(trials.columns)
    for row in results_of(finished)["rows"]:
        if row["metric"] != "violation_rate":
            continue
        of_cell = (trials.variant == row["variant"]) & (trials.language == row["language"])
        own = trials[of_cell & (trials.prompt_kind == "restricted")]
        assert (len(own), own.answered.mean()) == (row["n"], row["value"])


@pytest.mark.slow
def test_an_attack_by_adapters_runs_and_freezes_nothing(study, tmp_path, capsys):
    only = {"attack__languages": "('en',)", "attack__method": "lora"}
    assert run.run(study(tmp_path, sections="('transfer','localize')", **only)) == 0
    rows = results_of(tmp_path)["rows"]
    assert any(row["variant"] == "stitched/en/sil@0.2" for row in rows)
    assert run.run(study(tmp_path, **only)) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_every_training_says_how_many_weights_it_moved(finished, tiny):
    rows = [row for row in results_of(finished)["rows"] if row["metric"] in rates.OF_WEIGHTS]
    expected = {
        (f"{kind}/{language}{mask}", language, metric)
        for metric in rates.OF_WEIGHTS
        for language in ("en", "th")
        for kind, mask in (("attacked", ""), ("frozen", "/sil@0.2"))
    }
    assert {(row["variant"], row["language"], row["metric"]) for row in rows} == expected
    assert all(row["seed"] == 0 and 0.5 < row["value"] <= 1 for row in rows)
    whole = {row["variant"]: row["n"] for row in rows}
    assert whole["attacked/en"] == tree.size(tiny.params)
    assert whole["frozen/en/sil@0.2"] < 0.81 * whole["attacked/en"]


@pytest.mark.slow
def test_a_bfloat16_model_is_attacked_in_float32_and_asked_in_bfloat16(study, tmp_path):
    only = {
        "attack__languages": "('en',)",
        "localize__fractions": "()",
        "dtype": "bfloat16",
        "attack__learning_rate": "1e-5",
    }
    sections = "('transfer','pathways')"
    assert run.run(study(tmp_path, sections=sections, transfer__doses="()", **only)) == 0
    results = results_of(tmp_path)
    moved = {
        row["metric"]: row["value"] for row in results["rows"] if row["variant"] == "attacked/en"
    }
    assert moved["weights_moved"] > 0.5  # no row of a token that no pair has
    assert moved["weights_moved_rounded"] < 0.3  # all that training in bfloat16 would leave
    assert {row["moved"] for row in results["freeze_proof"]} == {0}
    assert all(row["frozen"] > 1000 for row in results["freeze_proof"])


def test_the_judge_is_named_as_a_refusal_rule(finished):
    rule = results_of(finished)["judge"]["rule"]
    assert rule.startswith(REFUSAL_RULE)
    assert "not corrected for judges' errors" in rule
    assert "refusal rule" in (finished / "report.html").read_text()


def test_no_frozen_weight_moved(finished, tiny):
    import jax
    import numpy as np

    weights = sum(np.size(leaf) for leaf in jax.tree.leaves(tiny.params))
    proof = results_of(finished)["freeze_proof"]
    assert [row["moved"] for row in proof] == [0, 0]
    assert {row["frozen"] for row in proof} == {int(0.2 * weights + 0.5)}


def test_the_size_of_every_mask_is_said(finished):
    results = results_of(finished)
    of_mask = operator.itemgetter("attacked", "method", "share")
    stitched = {of_mask(row) for row in results["rows"] if row["kind"] == "stitched"}
    sizes = {of_mask(row): row for row in results["masks"]}
    assert set(sizes) == stitched
    for row in sizes.values():
        assert 0 < row["density"] <= 1
        assert 0 < row["block_density"] <= 1
    chosen = [row for row in sizes.values() if row["method"] in ("sil", "random")]
    for row in chosen:
        assert row["density"] == pytest.approx(row["share"] * row["mask_scored"], abs=1e-4)


def test_the_mask_profile_counts_every_weight_once(finished):
    import collections

    totals: dict = collections.defaultdict(lambda: [0, 0])
    for row in results_of(finished)["mask_profile"]:
        totals[row["method"], row["attacked"]][0] += row["selected"]
        totals[row["method"], row["attacked"]][1] += row["total"]
    assert all(selected == int(0.2 * total + 0.5) for selected, total in totals.values())
    assert set(totals) == {("sil", "en"), ("sil", "th")}


def test_rewinding_equals_stitching_the_complement(finished):
    rates = {
        (row["variant"], row["language"], row["metric"]): row["value"]
        for row in results_of(finished)["rows"]
    }
    for (variant, language, metric), value in rates.items():
        if variant.startswith("rewound/"):
            other = variant.replace("rewound", "stitched").replace("sil", "complement")
            assert rates[other, language, metric] == value


def test_the_manifest_says_what_was_run(finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["seeds"] == [0]
    assert {"jax", "flax", "optax"} <= set(manifest["versions"])
    assert manifest["model_fingerprint"]
    assert set(manifest["pairs"]) == {"en", "th"}
    (computed,) = manifest["computed_by"]  # all of them here and now
    assert computed["stages"] == len(list((finished / "stages").iterdir()))
    assert computed["versions"] == manifest["versions"]


def test_replies_are_kept_as_tokens_for_the_owner_alone_and_shown_nowhere(finished):
    kept = list(finished.glob("stages/ask-*/replies.json"))
    assert kept
    for path in kept:
        assert path.stat().st_mode & 0o777 == 0o600
        replies = json.loads(path.read_text())
        assert "harmful" in replies["notice"]
        assert all(isinstance(token, int) for reply in replies["tokens"] for token in reply)
    assert "replies" not in results_of(finished)
    assert "Show the text" not in (finished / "report.html").read_text()


ONE = {"attack__languages": "('en',)", "sections": "('transfer',)"}


def test_text_of_replies_is_shown_on_demand_without_asking_again(tmp_path, study, monkeypatch):
    from jaxattack.experiments import asking

    assert run.run(study(tmp_path, **ONE)) == 0
    monkeypatch.setattr(asking, "generate_tokens", lambda *a, **k: pytest.fail("asked again"))
    assert run.run(study(tmp_path, report__replies="True", **ONE)) == 0
    replies = results_of(tmp_path)["replies"]
    assert {"variant", "language", "id", "prompt", "reply", "verdict"} <= set(replies[0])
    trials = {row["variant"]: row for row in replies}
    assert trials["attacked/en"]["attacked"] == "en"
    for name in ("results.json", "report.html"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_discarded_replies_leave_no_trace_and_the_same_rates(finished, study, tmp_path, capsys):
    assert run.run(study(tmp_path, replies="discard", report__replies="True", **ONE)) == 2
    assert "config.replies=discard keeps none" in capsys.readouterr().err
    assert run.run(study(tmp_path, replies="discard", **ONE)) == 0
    assert not list(tmp_path.glob("stages/ask-*"))
    known = {
        (row["variant"], row["language"], row["metric"]): row["value"]
        for row in results_of(finished)["rows"]
    }
    for row in results_of(tmp_path)["rows"]:
        if row["variant"] in ("aligned", "attacked/en"):
            assert row["value"] == known[row["variant"], row["language"], row["metric"]]


def test_a_finished_study_is_not_computed_again(finished, study, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in (finished / "stages").iterdir()}
    results = (finished / "results.json").read_bytes()
    from jaxattack.train import loop

    monkeypatch.setattr(loop, "finetune", lambda *a, **k: pytest.fail("trained again"))
    assert run.run(study(finished)) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (finished / "stages").iterdir()} == before
    assert (finished / "results.json").read_bytes() == results


def test_other_words_or_thresholds_of_claims_compute_no_step_again(finished, step_sources):
    assert "tables.py" in step_sources(finished)
    assert not CLAIMS & step_sources(finished)


def test_a_stopped_study_goes_on_to_the_same_bytes(finished, study, tmp_path, killed_after, capsys):
    done = 0
    for stages in (0, 3, 6):  # more each time
        with killed_after(stages):
            assert run.run(study(tmp_path)) == 130
        assert "the same command goes on" in capsys.readouterr().err
        done += stages
        assert len(list((tmp_path / "stages").iterdir())) == done
        assert not (tmp_path / "results.json").exists()
    assert run.run(study(tmp_path)) == 0
    assert (tmp_path / "results.json").read_bytes() == (finished / "results.json").read_bytes()


def test_another_seed_changes_only_what_depends_on_it(finished, study, tmp_path):
    import shutil

    shutil.copytree(finished / "stages", tmp_path / "stages")
    before = {path.name for path in (tmp_path / "stages").iterdir()}
    only = {"attack__languages": "('en',)", "localize__fractions": "()"}
    assert run.run(study(tmp_path, seeds="(1,)", **only)) == 0
    new = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "stages").iterdir()} - {
        name.rsplit("-", 1)[0] for name in before
    }
    assert new
    assert all("s1" in name for name in new)


@pytest.mark.slow
def test_killing_the_process_at_random_changes_nothing(finished, study, tmp_path):
    command = [
        sys.executable,
        "-c",
        "import jax, sys\n"
        "jax.config.update('jax_num_cpu_devices', 8)\n"
        "jax.config.update('jax_disable_most_optimizations', True)\n"
        "from jaxattack import run\nsys.exit(run.run(sys.argv))",
    ]
    command += study(tmp_path)[1:]
    rng = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + rng.uniform(5, 25)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, env=os.environ, check=False).returncode == 0
    assert (tmp_path / "results.json").read_bytes() == (finished / "results.json").read_bytes()


def test_a_judge_that_goes_by_answers_is_refused_without_any(study, tmp_path, capsys):
    arguments = study(tmp_path, measure__judge="known answers")
    assert run.run([*arguments, "--dry_run"]) == 2
    said = capsys.readouterr().err
    assert "measure.judge is 'known answers', and restricted prompts in en, th have no" in said
