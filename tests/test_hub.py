"""Failures of the hub as lines: the errors are those that its library makes of HTTP answers."""

import errno
import types

import pytest
from huggingface_hub import errors

from jaxattack.errors import UserError
from jaxattack.hub import hub_error


def refused(kind, status, says="Server said\nmore"):
    response = types.SimpleNamespace(headers={}, request=None, status_code=status)
    return kind(says, response=response)


def cached(cause):
    """What `snapshot_download` raises when the hub failed and the cache has nothing."""
    error = errors.LocalEntryNotFoundError("An error happened; nothing on the local disk.")
    error.__cause__ = cause
    return error


CASES = {
    "gated": (refused(errors.GatedRepoError, 401), "asks for terms to be accepted.*hf auth login"),
    "waiting": (refused(errors.GatedRepoError, 403), "has not granted access to this login"),
    "missing": (refused(errors.RepositoryNotFoundError, 401), "no such name, or it is private"),
    "revision": (refused(errors.RevisionNotFoundError, 404), "there is no revision 'v3'"),
    "name": (errors.HFValidationError("Repo id must be"), "one looks like owner/name"),
    "token": (refused(errors.HfHubHTTPError, 401), "does not accept the token that is set here"),
    "busy": (
        cached(refused(errors.HfHubHTTPError, 429, "429\n\nRetry after 120 seconds.\nUrl: x")),
        r"too many requests \(HTTP 429\); try again in 120 seconds",
    ),
    "down": (
        cached(refused(errors.HfHubHTTPError, 503, "<html>\x1b[2J</html>")),
        r"out of order at present \(HTTP 503\)",
    ),
    "offline": (cached(None), "revision 'v3' is not in the cache, or not all of it"),
    "other": (refused(errors.HfHubHTTPError, 418), "the hub did not give it .Server said more"),
    "full": (OSError(errno.ENOSPC, "No space", "/c/blob"), "No space left on device: /c/blob"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_is_one_line_with_what_to_do(case):
    error, says = CASES[case]
    line = hub_error(error, "hf:owner/name", "v3")
    assert isinstance(line, UserError)
    assert str(line).startswith("hf:owner/name: ")
    assert "\n" not in str(line)
    assert "\x1b" not in str(line)
    with pytest.raises(UserError, match=says):
        raise line
