"""Tasks of lm-evaluation-harness on our model, beside its own backend for transformers."""

import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
import yaml

from jaxattack import checkpoint, utility
from jaxattack.errors import UserError

WORDS = "blue red seven river stone the a of is my house and small Straße 河 नदी".split()


def sentences(count, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Definitions of three tasks, of each kind one, with rows beside them."""
    pytest.importorskip("lm_eval")
    folder = tmp_path_factory.mktemp("tasks")
    rng = np.random.default_rng(0)
    choices = [sentences(4, 100 + i) for i in range(12)]
    rows = [
        {"question": text, "choices": own, "answer": int(rng.integers(4))}
        for text, own in zip(sentences(12, 1), choices, strict=True)
    ]
    rows[3]["question"] = " ".join(sentences(30, 2))  # longer than the model reads
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "doc_to_text": "{{question}}\nAnswer:",
        "metadata": {"version": 1.0},
    }
    found = {
        "picked": {
            "output_type": "multiple_choice",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        },
        "letters": {
            "output_type": "multiple_choice",
            "doc_to_choice": ["A", "B", "C", "D"],
            "doc_to_target": "answer",
            "num_fewshot": 2,
            "fewshot_split": "test",
            "metric_list": [{"metric": "acc"}],
        },
        "written": {
            "output_type": "generate_until",
            "doc_to_target": "{{choices[0]}}",
            "generation_kwargs": {"until": ["e", "河"], "max_gen_toks": 100, "do_sample": False},
            "metric_list": [{"metric": "bleu"}],
        },
        "whole": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{question}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
    }
    for name, own in found.items():
        text = yaml.safe_dump({"task": name, **shared, **own}, allow_unicode=True)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def evaluated(tasks):
    """A function from a model under the harness to its results and samples."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    def evaluate(lm, names, **options):
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        return lm_eval.simple_evaluate(lm, tasks=names, task_manager=manager, **options)

    return evaluate


@pytest.fixture(scope="module")
def both(tiny, tasks):
    """Our model under the harness, and the harness's own backend, which needs accelerate too."""
    pytest.importorskip("accelerate")
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from jaxattack.evaluate.harness import JaxLM

    theirs = huggingface.HFLM(pretrained=str(tiny.directory), device="cpu", dtype="float32")
    return JaxLM(tiny.model, tiny.params, tiny.tokenizer), theirs


def requests(kind, arguments):
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=given, idx=0) for given in arguments]


@pytest.mark.parametrize("chat", [False, True])
def test_tasks_have_the_figures_of_the_hf_backend(both, evaluated, chat):
    names = ["picked", "letters", "written", "whole"][: 3 if chat else 4]
    ours, theirs = (
        evaluated(lm, names, apply_chat_template=chat, bootstrap_iters=0) for lm in both
    )
    assert ours["results"].keys() == theirs["results"].keys() == set(ours["samples"])
    for task, found in ours["results"].items():
        expected = theirs["results"][task]
        for metric, value in found.items():
            same = value == expected[metric] or value == pytest.approx(expected[metric], 1e-5)
            assert same, (task, metric)
        for one, other in zip(ours["samples"][task], theirs["samples"][task], strict=True):
            assert one["arguments"] == other["arguments"]
            _check(one["resps"], other["resps"])


def _check(ours, theirs):
    """Answers of a task's requests: texts, or likelihoods with or without a flag."""
    for (one,), (other,) in zip(ours, theirs, strict=True):
        if isinstance(one, str):
            assert one == other
            continue
        one, other = (np.atleast_1d(np.asarray(found, float)) for found in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-4)


def test_texts_at_the_edges(both):
    contexts = ("", "Hello", "Hello ", "<bos>", "Straße 河\n\n", " ".join(sentences(60, 5)))
    given = [(a, b) for a in contexts for b in (" blue", "\n", "a", " my house" * 9)]
    ours, theirs = (lm.loglikelihood(requests("loglikelihood", given)) for lm in both)
    np.testing.assert_allclose([one[0] for one in ours], [one[0] for one in theirs], 1e-6, 1e-4)
    assert [one[1] for one in ours] == [one[1] for one in theirs]


@pytest.mark.parametrize("count", [1, 40])
def test_whole_texts_of_one_window_and_of_many(both, count):
    texts = [(" ".join(sentences(count, seed)),) for seed in range(3)]
    ours, theirs = (
        lm.loglikelihood_rolling(requests("loglikelihood_rolling", texts)) for lm in both
    )
    np.testing.assert_allclose(ours, theirs, 1e-6)


@pytest.mark.parametrize(
    "wanted",
    [
        {"until": ["s", "my house"], "max_gen_toks": 100, "do_sample": False, "top_p": 1.0},
        {"until": "e", "max_gen_toks": 1, "temperature": 0.0},
        {"max_gen_toks": 9},
    ],
)
def test_replies_end_alike(both, wanted):
    given = [(text, wanted) for text in [*sentences(9, 3), " ".join(sentences(60, 4))]]
    ours, theirs = (lm.generate_until(requests("generate_until", given)) for lm in both)
    assert ours == theirs
    assert any(ours)


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "user", "content": "Hello?"}],
        [{"role": "user", "content": " Hello? "}, {"role": "assistant", "content": "The "}],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "b"},
        ],
    ],
)
def test_dialogues_are_written_alike(both, turns):
    ask = turns[-1]["role"] == "user"
    ours, theirs = (lm.apply_chat_template(turns, add_generation_prompt=ask) for lm in both)
    assert ours == theirs
    assert both[0].tok_encode(ours) == both[1].tok_encode(ours)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"do_sample": True, "temperature": 0.7}, "a task wants do_sample=True"),
        ({"temperature": 0.7}, "a task wants do_sample=True"),
        ({"num_beams": 4}, "a task wants num_beams=4"),
        ({"max_gen_toks": 256}, "the model reads 256"),
    ],
)
def test_what_is_not_greedy_is_refused(tiny, tasks, wanted, said):
    from jaxattack.evaluate.harness import JaxLM

    lm = JaxLM(tiny.model, tiny.params, tiny.tokenizer)
    with pytest.raises(UserError, match=said):
        lm.generate_until(requests("generate_until", [("Hello", wanted)]))


# --- The command --------------------------------------------------------------------------------


@pytest.fixture
def command(tiny, monkeypatch, capsys):
    """A function from arguments to the exit code, what was printed and what was complained."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxattack-lm-eval", *arguments])
        with pytest.raises(SystemExit) as stop:
            utility.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture
def flags(tiny, tasks, monkeypatch):
    import lm_eval.tasks

    # Of the tasks that come with the harness the command reads all names, which takes seconds.
    few = functools.partial(lm_eval.tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", few)
    return f"--model={tiny.directory}", f"--include_path={tasks}"


def test_a_table_and_a_file(command, flags, tmp_path, tiny):
    out = tmp_path / "found.json"
    code, text, _ = command(*flags, "--tasks=picked,wr*ten", "--limit=5", f"--out={out}")
    assert code == 0
    assert all(word in text for word in ("|picked ", "|written", "acc_norm", str(out)))
    found = json.loads(out.read_text(encoding="utf-8"))
    assert set(found["results"]) == {"picked", "written"}
    assert found["n-samples"]["picked"] == {"original": 12, "effective": 5}
    assert found["config"]["model"] == "jaxattack"
    assert found["config"]["model_args"]["pretrained"] == str(tiny.directory)


def test_weights_of_a_stage_take_the_place_of_the_model(command, flags, tmp_path, tiny):
    changed = tiny.params | {"head": -tiny.params["head"]}
    checkpoint.save(tmp_path / "stage" / "params", changed)
    checkpoint.save(tmp_path / "other" / "params", {"embed": changed["embed"][:5]})
    seen = []
    for stage in ([], [f"--weights={tmp_path / 'stage'}"]):
        out = tmp_path / f"{len(stage)}.json"
        code, _, _ = command(*flags, "--tasks=whole", f"--out={out}", *stage)
        assert code == 0
        seen.append(json.loads(out.read_text())["results"]["whole"]["word_perplexity,none"])
    assert seen[0] != pytest.approx(seen[1], rel=0.1)
    for name, said in (("other", "not those of this model"), ("none", "it has no params")):
        code, _, err = command(*flags, "--tasks=whole", f"--weights={tmp_path / name}")
        assert code == 2
        assert said in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tasks=pickd"], "has no task 'pickd'; did you mean picked"),
        (["--tasks=,"], "--tasks is empty"),
        (["--tasks=picked", "--limit=0"], "--limit is 0"),
        (["--tasks=picked", "--mesh=all"], "--mesh=all: write it as"),
        (["--tasks=picked", "--batch_size=0"], "--batch_size is 0"),
        (["--tasks=picked", "--max_length=-3"], "--max_length is -3"),
        (["--tasks=picked", "--out=/no/such/folder/found.json"], "there is no such folder"),
        (["--tasks=picked", "--include_path=/no/such"], "no such folder"),
        (["--tasks=picked", "--model=/no/such"], "no such directory"),
    ],
)
def test_mistakes_are_one_line(command, flags, arguments, said):
    code, _, err = command(*flags, *arguments)
    assert code == 2
    assert said in err.splitlines()[-1]


def test_a_task_whose_data_is_not_there(command, flags, tasks, tmp_path):
    text = (tasks / "picked.yaml").read_text(encoding="utf-8")
    path = tmp_path / "lost.yaml"
    path.write_text(text.replace("picked", "lost").replace("rows.jsonl", "gone.jsonl"))
    code, _, err = command(flags[0], f"--tasks={path}")
    assert code == 2
    assert "cannot be loaded" in err.splitlines()[-1]


def test_without_the_harness_a_line_says_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "jaxattack.evaluate.harness", raising=False)
    import jaxattack.evaluate

    monkeypatch.delattr(jaxattack.evaluate, "harness", raising=False)
    code, _, err = command("--model=none", "--tasks=none")
    assert code == 2
    assert 'pip install "jaxattack[lm-eval]"' in err
    assert err.count("\n") == 1


def test_a_model_that_cannot_be_asked(tiny, tasks):
    from jaxattack.evaluate.harness import JaxLM

    with pytest.raises(UserError, match="no tokenizer"):
        JaxLM(tiny.model, tiny.params, None)
    alibi = dataclasses.replace(tiny.model.config, rope=None)
    tall = dataclasses.replace(tiny.model, config=alibi)
    assert JaxLM(tall, tiny.params, tiny.tokenizer).max_length > 0
