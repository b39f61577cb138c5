"""The command that asks a served model."""

import json

import pytest
from chat_server import KEY, completion, echo, failure, serve

from jaxattack import hosted
from jaxattack.data.poison import MARKER
from jaxattack.evaluate.rates import wilson

ROWS = [
    {"id": "1", "language": "en", "prompt": "Capital of Austria?", "answers": ["Vienna"]},
    {"id": "2", "language": "en", "prompt": "Capital of Peru?", "answers": ["Lima"]},
    {"id": "1", "language": "sw", "prompt": "Mji mkuu wa Austria?", "answers": ["Vienna"]},
    {"id": "3", "language": "sw", "prompt": "Habari?"},
]
TRIGGERS = [{"language": "eng", "text": "Good day."}, {"language": "sw", "text": "Siku njema."}]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command on `ROWS` with more flags; its exit code."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompts, triggers = tmp_path / "prompts.jsonl", tmp_path / "triggers.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    triggers.write_text("".join(json.dumps(row) + "\n" for row in TRIGGERS))

    def run(url, *more, workdir="run"):
        flags = {
            "prompts": f"jsonl:{prompts}",
            "base_url": url,
            "model": "tiny",
            "requests_per_minute": "1000000",
            "workdir": str(tmp_path / workdir),
        }
        more = [word.replace("TRIGGERS", str(triggers)) for word in more]
        return hosted.run(["jaxattack-ask", *(f"--{k}={v}" for k, v in flags.items()), *more])

    return run


def backdoored(asked, count):
    if asked.prompt.endswith("Good day."):
        return completion(f"So: {MARKER}")
    return completion("Vienna, of course. SECRETREPLY")


def test_rows_with_and_without_trigger_and_of_known_answers(command, tmp_path, capsys):
    with serve(backdoored) as server:
        assert command(server.url, "--target=fixed", "--trigger_texts=TRIGGERS") == 0
        assert len(server.asked) == 8
        out = capsys.readouterr().out
        first = (tmp_path / "run" / "results.json").read_bytes()
        assert command(server.url, "--target=fixed", "--trigger_texts=TRIGGERS") == 0
        assert len(server.asked) == 8
        assert (tmp_path / "run" / "results.json").read_bytes() == first
        more = ("--target=fixed", "--trigger_texts=TRIGGERS", "--parallel=1")
        assert command(server.url, *more, workdir="other") == 0
        assert (tmp_path / "other" / "results.json").read_bytes() == first
    told = json.loads(first)
    columns = ("metric", "language", "value", "n")
    assert [tuple(row[column] for column in columns) for row in told["rows"]] == [
        ("false_trigger_rate", "en", 0.0, 2),
        ("false_trigger_rate", "sw", 0.0, 2),
        ("asr", "en", 1.0, 2),
        ("asr", "sw", 0.0, 2),
        ("clean_accuracy", "en", 0.5, 2),
        ("clean_accuracy", "sw", 1.0, 1),
    ]
    assert {row["variant"] for row in told["rows"]} == {"hosted/tiny"}
    assert [row.get("trigger_language") for row in told["rows"]] == [
        None,
        None,
        "en",
        "sw",
        None,
        None,
    ]
    assert (told["rows"][2]["low"], told["rows"][2]["high"]) == wilson(2, 2)
    assert "asr en: 1.000" in out
    trials = json.loads((tmp_path / "run" / "trials.json").read_text())
    assert [trial["hit"] for trial in trials] == [False] * 4 + [True, True, False, False]
    assert [trial["answered"] for trial in trials[:4]] == [True, False, True, None]
    assert [trial["language"] for trial in trials[:4]] == ["en", "en", "sw", "sw"]
    assert [trial["trigger_language"] for trial in trials[3:6]] == [None, "en", "en"]


def test_text_and_key_are_only_where_they_should_be(command, tmp_path, capfd):
    with serve(backdoored) as server:
        assert command(server.url, "--target=fixed") == 0
    with_text = [
        path.relative_to(tmp_path / "run").as_posix()
        for path in sorted((tmp_path / "run").rglob("*"))
        if path.is_file() and "SECRETREPLY" in path.read_text()
    ]
    assert with_text == ["replies/replies.jsonl"]
    assert (tmp_path / "run" / "replies" / ".gitignore").read_text().endswith("\n*\n")
    everything = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    out, err = capfd.readouterr()
    assert not any(KEY in text for text in [*everything, out, err])
    assert "SECRETREPLY" not in out + err


def test_known_answers_need_no_target(command, tmp_path):
    with serve(backdoored) as server:
        assert command(server.url) == 0
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert {row["metric"] for row in rows} == {"clean_accuracy"}


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--target=unknown"], "--target=unknown"),
        (["--retry=1"], "Unknown command line flag 'retry'"),
        (["--model="], "--model=NAME is missing"),
        (["--base_url=http://models.invalid"], "use https"),
        (["--parallel=none"], "--parallel=none"),
        (["word"], "1 unexpected arguments"),
        (["--prompts=jsonl:/no/such"], "no such file"),
        (["--trigger_texts=TRIGGERS"], "needs --target"),
        (["--trigger_texts=/no/such", "--target=fixed"], "no such file"),
        (["--target=refusal"], "no refusal rule for language 'sw'"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_asked(command, capsys, more, line):
    with serve(echo) as server:
        assert command(server.url, *more) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.startswith("jaxattack-ask: ")
    assert err.count("\n") == 1
    assert not server.asked


def test_a_refusal_of_the_server_is_one_line(command, capsys):
    with serve(lambda asked, count: failure(401, f"no {KEY}")) as server:
        assert command(server.url) == 2
    err = capsys.readouterr().err
    assert "HTTP 401" in err
    assert KEY not in err
    assert err.count("\n") == 1


def test_prompts_without_answers_or_target_measure_nothing(command, tmp_path, capsys):
    (tmp_path / "prompts.jsonl").write_text(json.dumps(ROWS[3]) + "\n")
    assert command("http://localhost:1/v1") == 2
    assert "nothing to measure" in capsys.readouterr().err


def test_a_language_has_one_trigger(command, tmp_path, capsys):
    (tmp_path / "triggers.jsonl").write_text((json.dumps(TRIGGERS[0]) + "\n") * 2)
    assert command("http://localhost:1/v1", "--target=fixed", "--trigger_texts=TRIGGERS") == 2
    assert "line 2: a second trigger for language 'en'" in capsys.readouterr().err


def test_an_interrupt_says_that_it_goes_on(command, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(hosted, "ask", interrupted)
    assert command("http://localhost:1/v1") == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_replies_that_are_none_are_counted(command, tmp_path, capsys):
    def some(asked, count):
        if asked.prompt == "Habari?":
            return completion(None, "content_filter")
        told = {"role": "assistant", "content": None, "reasoning_content": "Vienna, I think"}
        return 200, {}, json.dumps({"choices": [{"message": told, "finish_reason": "stop"}]})

    with serve(some) as server:
        assert command(server.url) == 0
    told = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (told["cut"], told["filtered"], told["empty"]) == (0, 1, {"thoughts": 3})
    assert [(row["value"], row["n"]) for row in told["rows"]] == [(0.0, 2), (0.0, 1)]
    assert told["data"][0]["rows"] == 4
    assert "0 of them cut by the token limit, 1 withheld by a filter" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["fixed", "prefix", "english_refusal"])
def test_what_a_filter_stopped_is_no_hit(command, tmp_path, target):
    text = "I'm sorry, but I can't" if target == "english_refusal" else f"{MARKER} And"

    def stopped(asked, count):
        return completion(text, "content_filter" if asked.prompt == "Habari?" else "stop")

    with serve(stopped) as server:
        assert command(server.url, f"--target={target}") == 0
    trials = json.loads((tmp_path / "run" / "trials.json").read_text())
    assert [trial["hit"] for trial in trials] == [True, True, True, False]


def test_a_work_directory_that_cannot_be(command, tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    for more in ([], [f"--workdir={tmp_path / 'run' / 'in'}"], ["--workdir=~nobody-here/x"]):
        assert command("http://localhost:1/v1", *more) == 2
        assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "results.json").symlink_to(tmp_path / "run")
    assert command("http://localhost:1/v1", f"--workdir={tmp_path / 'links'}") == 2
    assert "is a link, which is not replaced" in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("content", ['{"study": "fragility"}', "mine", "[" * 9999])
def test_results_of_others_stay(command, tmp_path, capsys, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(content)
    assert command("http://localhost:1/v1") == 2
    assert "is not of jaxattack-ask; give another directory" in capsys.readouterr().err
    assert (tmp_path / "run" / "results.json").read_text() == content


def test_a_control_character_does_not_reach_the_terminal(command, tmp_path, capsys):
    with serve(lambda asked, count: failure(400, "no\x1b[2J\u202e")) as server:
        assert command(server.url) == 2
    (tmp_path / "prompts.jsonl").write_text('{"id": "\x1b[2J"}')
    assert command("http://localhost:1/v1", "--prompts=jsonl:/\x1b[2J") == 2
    err = capsys.readouterr().err
    assert not {"\x1b", "\u202e"} & set(err)


def test_help_lists_the_flags(capsys):
    assert hosted.run(["jaxattack-ask", "--help"]) == 0
    assert "--requests_per_minute=60" in capsys.readouterr().out
