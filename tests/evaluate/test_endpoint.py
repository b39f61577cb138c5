"""Asking a server over HTTP: order, tries, going on, pace, and a key that stays out of sight."""

import contextlib
import dataclasses
import email.utils
import errno
import gzip
import json
import os
import socket
import threading
import time

import pytest
from chat_server import KEY, completion, echo, failure, serve

from jaxattack.errors import UserError
from jaxattack.evaluate import endpoint as endpoint_module
from jaxattack.evaluate import kept, posting
from jaxattack.evaluate.endpoint import Endpoint, ask
from jaxattack.evaluate.judge import Reply

PROMPTS = [f"question {i}" for i in range(12)]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def waits():
    return []


def at(server, **changes):
    settings = {"requests_per_minute": 1e6, "timeout_seconds": 5} | changes
    return Endpoint(server.url, "tiny", **settings)


def long(waits):
    """Waits other than for the pace."""
    return [wait for wait in waits if wait > 0.1]


# --- The way it should go -----------------------------------------------------------------------


def test_replies_come_in_order_and_the_request_is_greedy(tmp_path):
    def slow_first(asked, count):
        time.sleep(0.05 if count == 0 else 0)
        return echo(asked, count)

    with serve(slow_first) as server:
        replies = ask(PROMPTS, at(server, max_new_tokens=7), tmp_path)
    assert replies == [Reply(f"re: {prompt}", False) for prompt in PROMPTS]
    asked = next(one for one in server.asked if one.prompt == PROMPTS[3])
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": PROMPTS[3]}],
        "temperature": 0,
        "max_tokens": 7,
    }


def test_nothing_is_asked_twice(tmp_path):
    with serve(echo) as server:
        first = ask(["a", "b", "a"], at(server), tmp_path)
        assert sorted(server.prompts) == ["a", "b"]
        again = ask(["a", "b", "a"], dataclasses.replace(at(server), parallel=1), tmp_path)
        assert len(server.asked) == 2
        ask(["a"], at(server, max_new_tokens=9), tmp_path)  # another request
        ask(["a"], dataclasses.replace(at(server), model="other"), tmp_path)
        assert len(server.asked) == 4
    assert first == again == [Reply("re: a", False), Reply("re: b", False), Reply("re: a", False)]


def test_the_newer_name_of_the_limit_is_taken_where_it_is_asked_for(tmp_path):
    def newer(asked, count):
        if "max_tokens" in asked.body:
            told = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return failure(400, told)
        return echo(asked, count)

    with serve(newer) as server:
        replies = ask(PROMPTS, at(server, parallel=1, max_new_tokens=7), tmp_path)
        assert replies == [Reply(f"re: {prompt}", False) for prompt in PROMPTS]
        assert [("max_tokens" in one.body) for one in server.asked] == [True] + [False] * 12
        assert {one.body.get("max_completion_tokens", 7) for one in server.asked} == {7}
        assert ask(PROMPTS, at(server, parallel=1, max_new_tokens=7), tmp_path) == replies
        assert len(server.asked) == 13
    always = failure(400, "Use 'max_completion_tokens' instead of 'max_tokens'.")
    with serve(lambda asked, count: always) as server, pytest.raises(UserError, match="HTTP 400"):
        ask(["q"], at(server), tmp_path)
    assert len(server.asked) == 2


def test_a_model_that_only_draws_at_random_is_refused(tmp_path):
    answer = failure(400, "Unsupported value: 'temperature' does not support 0 with this model.")
    says = "takes no temperature 0, and replies drawn at random"
    with serve(lambda asked, count: answer) as server, pytest.raises(UserError, match=says):
        ask(["q"], at(server), tmp_path)


def test_a_filter_does_not_end_the_asking(tmp_path):
    blocked = (400, {}, json.dumps({"error": {"code": "content_filter", "message": "no"}}))

    def some(asked, count):
        return blocked if asked.prompt == "b" else echo(asked, count)

    with serve(some) as server:
        for _ in range(2):
            assert ask(["a", "b"], at(server), tmp_path) == [
                Reply("re: a", False),
                Reply("", False, filtered=True),
            ]
    assert len(server.asked) == 2


def test_messages_are_sent_as_they_are(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "เท่าไร"}]
    with serve(echo) as server:
        assert ask([turns], at(server), tmp_path) == [Reply("re: เท่าไร", False)]
    assert server.asked[0].body["messages"] == turns


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (completion("half a", "length"), Reply("half a", True)),
        (completion(None, "length"), Reply("", True)),
        (completion(None, "content_filter"), Reply("", False, filtered=True)),
        (completion("", "stop"), Reply("", False)),
        (completion("an odd \ud83d"), Reply("an odd ?", False)),
    ],
)
def test_replies_that_are_cut_or_empty(tmp_path, answer, reply):
    with serve(lambda asked, count: answer) as server:
        assert ask(["q"], at(server), tmp_path) == [reply]
        assert ask(["q"], at(server), tmp_path) == [reply]
    assert len(server.asked) == 1


# --- Tries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_what_passes_is_tried_again(tmp_path, waits, status):
    def twice(asked, count):
        return failure(status, "busy") if count < 2 else echo(asked, count)

    with serve(twice) as server:
        assert ask(["q"], at(server), tmp_path, waits.append) == [Reply("re: q", False)]
    assert len(server.asked) == 3
    first, second = long(waits)
    assert 0.5 <= first <= 1 <= second <= 2


@pytest.mark.parametrize(
    "bad",
    [
        (200, {}, "<html>"),
        (200, {}, "[]"),
        (200, {}, '{"choices": []}'),
        (200, {}, '{"choices": [{"message": null}]}'),
        completion(None),
    ],
)
def test_malformed_answers_are_tried_again_and_then_one_line(tmp_path, waits, bad):
    with serve(lambda asked, count: echo(asked, count) if count else bad) as server:
        assert ask(["q"], at(server), tmp_path / "a", waits.append) == [Reply("re: q", False)]
    with serve(lambda asked, count: bad) as server, pytest.raises(UserError) as error:
        ask(["q"], at(server, retries=2), tmp_path / "b", waits.append)
    assert len(server.asked) == 3
    assert "HTTP 200, and no reply in it" in str(error.value)
    assert "gave up after 3 tries (prompt 1; 0 of 1 are answered" in str(error.value)
    assert "\n" not in str(error.value)


def test_nobody_there(tmp_path, waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(UserError, match=r"no answer \(.*refused.*gave up after 3 tries"):
        ask(["q"], Endpoint(url, "tiny", retries=2), tmp_path, waits.append)


def test_a_server_that_never_answers_is_a_timeout(tmp_path, waits):
    ended = threading.Event()

    def hang(asked, count):
        ended.wait(5)
        return echo(asked, count)

    with serve(hang) as server:
        with pytest.raises(UserError, match=r"no answer \(.*timed out"):
            ask(["q"], at(server, timeout_seconds=0.1, retries=1), tmp_path, waits.append)
        ended.set()
    assert len(server.asked) == 2


def test_retry_after_holds_all_requests(tmp_path, waits):
    def once(asked, count):
        return failure(429, "slow", Retry_After="7") if count == 0 else echo(asked, count)

    with serve(once) as server:
        ask(["q"], at(server), tmp_path, waits.append)
    assert [round(wait) for wait in long(waits)] == [7]


def test_a_wait_in_milliseconds(tmp_path, waits):
    def once(asked, count):
        short = failure(429, "slow", Retry_After_Ms="2500", Retry_After="9")
        return echo(asked, count) if count else short

    with serve(once) as server:
        ask(["q"], at(server), tmp_path, waits.append)
    assert long(waits) == [pytest.approx(2.5, abs=0.2)]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(tmp_path, waits):
    answer = failure(429, "quota", Retry_After="3600")
    with serve(lambda asked, count: answer) as server, pytest.raises(UserError, match="3600 sec"):
        ask(["q"], at(server), tmp_path, waits.append)
    assert len(server.asked) == 1


def test_the_wait_that_a_header_asks_for():
    assert posting.seconds_asked("", 0) is None
    assert posting.seconds_asked("soon", 0) is None
    assert posting.seconds_asked("-3", 0) is None
    assert posting.seconds_asked("0.5", 0) == 0.5
    assert posting.seconds_asked(email.utils.formatdate(1030, usegmt=True), 1000) == 30
    assert posting.seconds_asked(email.utils.formatdate(970, usegmt=True), 1000) == 0


# --- Going on -----------------------------------------------------------------------------------


def test_after_giving_up_only_the_rest_is_asked(tmp_path, waits):
    down = True

    def breaks(asked, count):
        return failure(503, "down") if down and asked.prompt == PROMPTS[5] else echo(asked, count)

    with serve(breaks) as server:
        with pytest.raises(UserError, match=r"HTTP 503.*gave up after 3 tries \(prompt 6; 5 of 12"):
            ask(PROMPTS, at(server, parallel=1, retries=2), tmp_path, waits.append)
        assert server.prompts == PROMPTS[:5] + [PROMPTS[5]] * 3
        down = False
        replies = ask(PROMPTS, at(server, parallel=1), tmp_path)
        assert server.prompts[8:] == PROMPTS[5:]
    assert replies == [Reply(f"re: {prompt}", False) for prompt in PROMPTS]


def test_what_is_under_way_when_another_fails_is_kept(tmp_path):
    failed = threading.Event()

    def breaks(asked, count):
        if asked.prompt == "bad":
            failed.set()
            return failure(400, "no")
        failed.wait(5)
        time.sleep(0.05)
        return echo(asked, count)

    with serve(breaks) as server, pytest.raises(UserError, match=r"prompt 2; 1 of 2 are answered"):
        ask(["good", "bad"], at(server, parallel=2), tmp_path)
    assert "re: good" in (tmp_path / "replies.jsonl").read_text()


@pytest.mark.parametrize("lost", [1, 9, 40])
def test_a_half_written_line_is_asked_again(tmp_path, lost):
    with serve(echo) as server:
        ask(PROMPTS[:3], at(server, parallel=1), tmp_path)
        file = tmp_path / "replies.jsonl"
        file.write_bytes(file.read_bytes()[:-lost])
        for _ in range(2):
            replies = ask(PROMPTS[:3], at(server), tmp_path)
            assert replies == [Reply(f"re: {prompt}", False) for prompt in PROMPTS[:3]]
        assert server.prompts[3:] == ([] if lost == 1 else [PROMPTS[2]])


def test_an_interrupt_leaves_what_is_finished(tmp_path, monkeypatch):
    def interrupted(items, label, total):
        for i, item in enumerate(items):
            if i == 2:
                raise KeyboardInterrupt
            yield item

    with serve(echo) as server:
        monkeypatch.setattr(endpoint_module, "track", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(PROMPTS, at(server, requests_per_minute=600, parallel=1), tmp_path)
        monkeypatch.undo()
        assert len((tmp_path / "replies.jsonl").read_text().splitlines()) >= 2
        ask(PROMPTS, at(server), tmp_path)
    # At most the one request that was under way had to be sent again.
    assert len(server.asked) <= len(PROMPTS) + 1


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(UserError, match="file"):
        ask(["q"], Endpoint("http://localhost:1/v1", "tiny"), tmp_path / "file")


@pytest.mark.parametrize(
    "prompt", [5, True, float("nan"), None, "", " ", [], [5], [{"role": "user"}], {"role": "user"}]
)
def test_what_is_no_prompt_is_refused(tmp_path, prompt):
    with pytest.raises(UserError, match=r"prompt 2 (is|has)"):
        ask(["q", prompt], Endpoint("http://localhost:1/v1", "tiny"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_programs_do_not_ask_the_same(tmp_path):
    with serve(echo) as server, kept.opened(tmp_path):
        with pytest.raises(UserError, match="another program is asking here; wait until it is don"):
            ask(["q"], at(server), tmp_path)
        assert not server.asked
    with serve(echo) as server:  # the lock is gone with who held it
        ask(["q"], at(server), tmp_path)
    with kept.opened(tmp_path):  # what is there can be had all the same
        assert ask(["q"], at(server), tmp_path) == [Reply("re: q", False)]


def test_text_of_replies_is_its_owner_s(tmp_path):
    folder = tmp_path / "new" / "replies"
    with serve(echo) as server:
        ask(["q"], at(server), folder)
        assert (folder.stat().st_mode & 0o777, folder.parent.stat().st_mode & 0o077) == (
            0o700,
            0o55,
        )
        (folder / "replies.jsonl").chmod(0o644)
        (folder / ".gitignore").write_text("mine")
        ask(["r"], at(server), folder)
    assert (folder / "replies.jsonl").stat().st_mode & 0o777 == 0o600
    assert (folder / ".gitignore").read_text() == "mine"


def test_what_is_no_file_of_replies_is_left_alone(tmp_path):
    (tmp_path / "other").write_text("mine")
    for make, says in (
        (lambda place: place.symlink_to(tmp_path / "other"), "symbolic links"),
        (os.mkfifo, "not a plain file"),
        (os.mkdir, "Is a directory"),
    ):
        folder = tmp_path / says
        folder.mkdir()
        make(folder / "replies.jsonl")
        with pytest.raises(UserError, match=says):
            ask(["q"], Endpoint("http://localhost:1/v1", "tiny"), folder)
    assert (tmp_path / "other").read_text() == "mine"
    with pytest.raises(UserError, match="nobody's home"):
        ask(["q"], Endpoint("http://localhost:1/v1", "tiny"), "~nobody-here/x")


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    with serve(echo) as server:
        ask(["a"], at(server), tmp_path)
        write = os.write

        def full(descriptor, data):
            if len(data) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data[:9] if len(data) > 60 else data[:-9])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(UserError, match=r"No space left on device \(prompt 2; 1 of 2"):
            ask(["a", "b"], at(server), tmp_path)
        monkeypatch.undo()
        assert (tmp_path / "replies.jsonl").read_text().count("\n") == 1
        assert len(ask(["a", "b"], at(server), tmp_path)) == 2


def test_who_is_answered_after_the_end_writes_into_no_other_file(tmp_path):
    with kept.opened(tmp_path / "a") as store:
        store.add({"request": "1", "text": "a", "cut": False})
    with (tmp_path / "other").open("w+") as other:
        with pytest.raises(UserError, match="closed"):
            store.add({"request": "2", "text": "b", "cut": False})
        assert other.read() == ""
    assert list(kept.replies(tmp_path / "a")) == ["1"]


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "5",
        '{"request": "NAME", "text": null, "cut": false}',
        '{"request": "NAME", "text": "a", "cut": "no"}',
        '{"request": "NAME"}',
        "\udc80",
    ],
)
def test_a_line_that_is_no_reply_is_asked_again(tmp_path, line):
    with serve(echo) as server:
        ask(["q"], at(server), tmp_path)
        file = tmp_path / "replies.jsonl"
        line = line.replace("NAME", json.loads(file.read_text())["request"])
        file.write_bytes(line.encode(errors="surrogateescape"))
        assert ask(["q"], at(server), tmp_path) == [Reply("re: q", False)]
    assert len(server.asked) == 2


# --- Servers that hold on -----------------------------------------------------------------------


@contextlib.contextmanager
def dripping(first, then):
    """A server that sends `first`, then `then` for ever; its address, and how long it was heard."""
    sockets = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk():
            with contextlib.suppress(OSError):
                while True:
                    other, _ = listening.accept()
                    sockets.append(other)
                    threading.Thread(target=drip, args=(other,), daemon=True).start()

        def drip(other):
            with contextlib.suppress(OSError):
                other.sendall(first)
                while True:
                    other.sendall(then)
                    time.sleep(0.02)

        threading.Thread(target=talk, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1", sockets
        for other in sockets:
            other.close()
        listening.shutdown(socket.SHUT_RDWR)


HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (HEADERS, b"X"),
        (HEADERS + b"Content-Length: 99999\r\n\r\n", b" "),
        (HEADERS + b"\r\n", b" "),
        (HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b""),
    ],
)
def test_a_request_has_a_deadline_whatever_comes(tmp_path, waits, first, then):
    start = time.monotonic()
    with dripping(first, then) as (url, sockets):
        where = Endpoint(url, "tiny", timeout_seconds=0.2, retries=1, requests_per_minute=1e6)
        with pytest.raises(UserError, match=r"no answer \(timed out.*; gave up after 2 tries"):
            ask(["q"], where, tmp_path, waits.append)
        assert len(sockets) == 2
    assert time.monotonic() - start < 3


def test_all_prompts_have_a_deadline(tmp_path):
    with dripping(HEADERS, b"X") as (url, _):
        where = Endpoint(url, "tiny", timeout_seconds=0.2, most_minutes=0.5 / 60, retries=9)
        with pytest.raises(UserError, match=r"not done after 0\.0083.* \(0 of 2 are answered"):
            ask(["q", "r"], where, tmp_path)


def test_an_answer_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(posting, "_LARGEST", 1 << 20)
    long = completion("x" * (1 << 20))
    packed = gzip.compress(long[2].encode()).decode("latin-1")
    for i, answer in enumerate([long, (200, {"Content-Encoding": "gzip"}, packed)]):
        with serve(lambda asked, count, a=answer: a, "latin-1") as server:
            with pytest.raises(UserError, match=r"no reply in it \(it is longer than 1 MiB\)"):
                ask(["q"], at(server), tmp_path / f"{i}")
            assert len(server.asked) == 1


def test_a_packed_answer_is_read(tmp_path):
    packed = gzip.compress(completion("euro")[2].encode()).decode("latin-1")
    for body, says in ((packed, ""), (packed[:-30], "no JSON"), ("no gzip", "cannot be decompr")):
        answer = (200, {"Content-Encoding": "gzip"}, body)
        with serve(lambda asked, count, a=answer: a, "latin-1") as server:
            if not says:
                assert ask(["q"], at(server), tmp_path) == [Reply("euro", False)]
                continue
            with pytest.raises(UserError, match=says):
                ask(["r"], at(server, retries=0), tmp_path)


# --- The pace -----------------------------------------------------------------------------------


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


def test_never_more_requests_in_a_minute_than_allowed():
    clock = Clock()
    pace = posting.Pace(7, clock, clock.sleep)
    turns = []
    for i in range(40):
        pace.turn()
        turns.append(clock.now)
        clock.now += 25.0 if i == 20 else 0.3  # idle time is not saved up
    assert turns[0] == 100.0
    for start in turns:
        assert sum(start <= turn < start + 60 - 1e-9 for turn in turns) <= 7
    assert turns[20] - turns[0] == pytest.approx(20 * 60 / 7)


def test_a_hold_is_kept_and_never_shortened():
    clock = Clock()
    pace = posting.Pace(60, clock, clock.sleep)
    pace.turn()
    pace.hold(30)
    pace.hold(5)
    pace.turn()
    assert clock.now == 130.0
    pace.turn()
    assert clock.now == 131.0


# --- Refusals and the key -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (400, "the server does not take the request"),
        (401, "the server does not accept the key in OPENAI_API_KEY"),
        (403, "the key in OPENAI_API_KEY may not use this model"),
        (404, "no such address or model; look at base_url"),
        (422, "the server refuses"),
    ],
)
def test_refusals_are_one_line_at_once(tmp_path, waits, status, line):
    told = f"because\n of  {KEY} " + "and so on " * 50
    answer = failure(status, told)
    with serve(lambda asked, count: answer) as server, pytest.raises(UserError) as error:
        ask(["q"], at(server), tmp_path, waits.append)
    assert len(server.asked) == 1
    message = str(error.value)
    assert f"HTTP {status}; {line}" in message
    assert "it says 'because of [key] and so on" in message
    assert len(message) < 500
    assert "\n" not in message


def test_a_local_server_that_wants_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    answer = failure(401, "who?")
    with serve(lambda asked, count: answer) as server, pytest.raises(UserError) as error:
        ask(["q"], at(server), tmp_path)
    assert "asks for a key; set the environment variable OPENAI_API_KEY" in str(error.value)
    assert "Authorization" not in server.asked[0].headers


ECHOES = {
    "reply": completion(f"your key is {KEY}"),
    "served": (200, {}, completion("REPLY")[2].replace("served", KEY)),
    "escaped": (200, {}, completion("REPLY")[2].replace("REPLY", KEY.replace("-", "\\u002d"))),
    "refused": failure(401, f"bad key {KEY}"),
    "busy": failure(500, f"bad key {KEY}"),
    "page": (500, {}, f"<h1>{'x' * 175} Bearer {KEY}</h1>"),
    "parted": (500, {}, f"{KEY[:9]}\x00{KEY[9:]}"),
    "redirect": (307, {"Location": f"http://127.0.0.1:1/{KEY}"}, ""),
    "malformed": (200, {}, KEY),
}


@pytest.mark.parametrize("case", ECHOES)
def test_the_key_is_nowhere_even_if_echoed(tmp_path, waits, capfd, caplog, case):
    shown = []
    with serve(lambda asked, count: ECHOES[case]) as server:
        try:
            shown += map(repr, ask(["q"], at(server, retries=1), tmp_path, waits.append))
        except UserError as error:
            link: BaseException | None = error
            while link is not None:
                shown += [str(link), repr(link)]
                link = link.__cause__ or link.__context__
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    out, err = capfd.readouterr()
    everything = "\n".join(
        [*shown, *written, *map(str, tmp_path.rglob("*")), out, err, caplog.text]
    )
    assert KEY not in everything
    assert KEY[:9] not in everything  # nor the first half of it, left by cutting a message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(tmp_path, status):
    with serve(echo) as other:
        away = (status, {"Location": f"{other.url}/chat/completions"}, "")
        with serve(lambda asked, count: away) as server, pytest.raises(UserError) as error:
            ask(["q"], at(server), tmp_path)
    assert f"HTTP {status}, it redirects to '{other.url}" in str(error.value)
    assert len(server.asked) == 1
    assert not other.asked


def test_a_proxy_does_not_see_requests_to_this_machine(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with serve(echo) as server:
        assert ask(["q"], at(server, retries=0), tmp_path) == [Reply("re: q", False)]


def test_a_missing_or_impossible_key(tmp_path, monkeypatch):
    far = Endpoint("https://models.invalid/v1", "tiny")
    for value, line in {
        " ": "models.invalid needs a key: set the environment variable OPENAI_API_KEY",
        "short": "what OPENAI_API_KEY holds is no key",
        "with\na line": "what OPENAI_API_KEY holds is no key",
        "schlüssel-123": "what OPENAI_API_KEY holds is no key",
    }.items():
        monkeypatch.setenv("OPENAI_API_KEY", value)
        with pytest.raises(UserError) as error:
            ask(["q"], far, tmp_path)
        assert str(error.value).startswith(line)
        assert value not in str(error.value) or value == " "


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"base_url": "http://models.invalid/v1"}, "use https"),
        ({"base_url": "http://127.0.0.1.models.invalid/v1"}, "use https"),
        ({"base_url": "https://me:secretword@models.invalid/v1"}, "has a user, password"),
        ({"base_url": "https://models.invalid/v1?token=secretword"}, "has a user, password"),
        ({"base_url": "models.invalid/secretword"}, "no address"),
        ({"base_url": "ftp://models.invalid/secretword"}, "no address"),
        ({"base_url": "https://models.invalid:secretword/v1"}, "no address"),
        ({"base_url": "https://models.invalid/v 1"}, "no address"),
        ({"model": " "}, "model is empty"),
        ({"key_variable": "sk-secretword"}, "name of an environment variable"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0"),
        ({"parallel": 0}, "parallel is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"retries": 10**9}, "retries is 1000000000"),
        ({"parallel": 10**6}, "at most 256"),
        ({"parallel": 2.5}, "parallel is 2.5; it should be whole"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds is inf"),
        ({"requests_per_minute": float("nan")}, "requests_per_minute is nan"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"most_minutes": "5"}, "most_minutes is '5'"),
        ({"model": "a\x1b[2Jb"}, "no control characters"),
    ],
)
def test_endpoints_that_cannot_be(changes, line):
    fields = {"base_url": "https://models.invalid/v1", "model": "tiny"} | changes
    with pytest.raises(UserError, match=line) as error:
        Endpoint(**fields)
    assert "secretword" not in str(error.value)
