"""Answers of chat servers in all the shapes they have: what is kept, and what is tried again."""

import json

import pytest

from jaxattack.evaluate import completions
from jaxattack.evaluate.posting import Answer


def said(content, ending="stop", **more):
    message = {"role": "assistant", "content": content, **more}
    return {"model": "m", "choices": [{"message": message, "finish_reason": ending}]}


def failed(content, error):
    told = said(content, None)
    told["choices"][0]["error"] = error
    return told


def read(told, status=200):
    body = told if isinstance(told, str) else json.dumps(told)
    return completions.read(Answer(status, body), None)


def kept(text, **more):
    return {"text": text, "cut": False, "model": "m"} | more


PARTS = [{"type": "text", "text": "eu"}, {"type": "output_text", "text": "ro"}, "!"]
THINKING = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, *PARTS]


@pytest.mark.parametrize(
    ("told", "row"),
    [
        (said("euro"), kept("euro")),
        ("\ufeff" + json.dumps(said("euro")), kept("euro")),
        (said(PARTS), kept("euro!")),
        (said(THINKING), kept("euro!")),
        (said("eu", "length"), kept("eu", cut=True)),
        (said(None, "length"), kept("", cut=True)),
        (said(None, "length", reasoning_content="hm"), kept("", cut=True, instead="thoughts")),
        (said(None, reasoning_content="hm"), kept("", instead="thoughts")),
        (said("", reasoning="hm"), kept("", instead="thoughts")),
        (said(THINKING[:1], reasoning="hm"), kept("", instead="thoughts")),
        (said(None, "tool_calls", tool_calls=[{"id": "1"}]), kept("", instead="tool call")),
        (said("", "stop"), kept("")),
        (said(None, refusal="I cannot."), kept("I cannot.")),
        (said("", refusal="I cannot."), kept("I cannot.")),
        (said(None, "content_filter"), kept("", filtered=True)),
        (said("eu", "content_filter"), kept("eu", filtered=True)),
        (said(None, "SAFETY"), kept("", filtered=True)),
        ({**said("euro"), "error": None}, kept("euro")),
        (failed("euro", None), kept("euro")),
        (failed("eu", {"code": "content_filter"}), kept("eu", filtered=True)),
        ({"model": "m", "choices": [{"finish_reason": "content_filter"}]}, kept("", filtered=True)),
    ],
)
def test_replies(told, row):
    assert read(told).kept == row


@pytest.mark.parametrize("content", ["eu", "", None])
@pytest.mark.parametrize(
    "ending",
    [
        "refusal",
        "guardrail_intervened",
        "RECITATION",
        "SPII",
        "IMAGE_SAFETY",
        "content_filter: PROHIBITED_CONTENT",
    ],
)
def test_endings_that_say_that_a_filter_was_there(ending, content):
    assert read(said(content, ending)).kept == kept(content or "", filtered=True)


@pytest.mark.parametrize(
    "ending", ["model_context_window_exceeded", "context_length_exceeded", "incomplete"]
)
def test_endings_that_say_that_a_limit_was_met(ending):
    assert read(said("eu", ending)).kept == kept("eu", cut=True)


@pytest.mark.parametrize(
    "told",
    [
        said("eu", "error"),
        said("eu", "ABORT"),
        said("", "abort"),
        said("eu", "network_error"),
        said("eu", "insufficient_system_resource"),
        failed("eu", {"message": "upstream died", "code": 502}),
        failed("eu", "upstream died"),
    ],
)
def test_a_reply_that_the_server_broke_off_is_asked_again(told):
    found = read(told)
    assert (found.kept, found.why, found.again) == (None, "the server broke off", True)


AZURE = {
    "error": {
        "code": "content_filter",
        "message": "The response was filtered",
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (AZURE, 400),
        ({"error": {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, 400),
        ({"error": {"type": "content_policy_violation"}}, 400),
        ({"error": {"code": 403, "metadata": {"flagged_input": "x", "reasons": []}}}, 403),
        (AZURE, 200),
    ],
)
def test_what_a_filter_withholds_is_a_reply_of_its_own_kind(told, status):
    assert read(told, status).kept == kept("", filtered=True, model="")


@pytest.mark.parametrize(
    ("told", "status", "why", "again"),
    [
        ({"error": {"message": "busy", "code": 502}}, 200, completions.INSIDE, True),
        ({"error": {"message": "slow", "code": "429"}}, 200, completions.INSIDE, True),
        ({"error": {"message": "no model", "code": 404}}, 200, completions.INSIDE, False),
        ({"error": "upstream"}, 200, completions.INSIDE, True),
        ({"object": "error", "message": "x", "code": 400}, 200, completions.INSIDE, False),
        ({"choices": []}, 200, "it has no choices", True),
        ({"choices": [{}]}, 200, "its message is missing", True),
        (said(None), 200, "its content is null", True),
        (said(None, "error"), 200, "the server broke off", True),
        ({"choices": [{"text": "euro"}]}, 200, "a text instead of a message", False),
        ('data: {"choices": []}\n', 200, "it streams events", False),
        ("<!DOCTYPE html><p>Log in", 200, "a web page", True),
        ("[" * 100_000, 200, "it is no JSON object", True),
        ("", 200, "it is no JSON object", True),
        ({"error": {"code": "insufficient_quota"}}, 429, "quota is spent", False),
        ({"error": {"code": "rate_limit_exceeded"}}, 429, "", True),
        ({"error": {"message": "too long"}}, 400, "", False),
        ({"error": {"code": "content_filter"}}, 401, "", False),
        ("", 0, "", True),
        ("<html>", 503, "", True),
    ],
)
def test_what_is_no_reply(told, status, why, again):
    found = read(told, status)
    assert found.kept is None
    assert why in found.why
    assert bool(why) == bool(found.why)
    assert found.again is again


def test_settings_that_a_model_does_not_take():
    def refused(message, **more):
        return Answer(400, json.dumps({"error": {"message": message, **more}}))

    newer = refused("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    assert completions.wants_other_limit(newer)
    assert not completions.wants_other_limit(refused("max_tokens is too large"))
    assert completions.wants_random(refused("no", param="temperature"))
    assert not completions.wants_random(newer)
