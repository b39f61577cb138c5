"""No spelling of a key gets through, and nothing else is touched."""

import base64
import urllib.parse

import pytest
from chat_server import KEY
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattack.evaluate.redact import hide

RAW = KEY.encode()
SPELLINGS = {
    "as it is": KEY,
    "upper": KEY.upper(),
    "spaced": " ".join(KEY),
    "lines": "\n".join(KEY),
    "unseen": "\u200b".join(KEY),
    "dashes": "-".join(KEY[i : i + 4] for i in range(0, len(KEY), 4)),
    "half": KEY[: len(KEY) // 2],
    "other half": KEY[len(KEY) // 2 :],
    **{f"piece {i}": KEY[i : i + 6] for i in range(8, 18, 3)},
    "backwards": KEY[::-1],
    "hex": RAW.hex(),
    "HEX": RAW.hex(":").upper(),
    "escapes": "".join(f"\\x{byte:02x}" for byte in RAW),
    "JSON escapes": "".join(f"\\u{byte:04x}" for byte in RAW),
    "percent": "".join(f"%{byte:02X}" for byte in RAW),
    "quoted": urllib.parse.quote(KEY, safe=""),
    **{f"base64 after {n}": base64.b64encode(b"Bearer "[:n] + RAW).decode() for n in range(8)},
    "base64 in lines": base64.encodebytes(RAW).decode(),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_taken_out(name):
    text = f"You gave {SPELLINGS[name]}, did you?"
    left = hide(text, KEY)
    assert left.startswith("You gave ")
    assert left.endswith(" did you?")
    assert "[key]" in left
    # Of what was said of the key, not twelve characters in a row are left.
    said = "".join(filter(str.isalnum, SPELLINGS[name])).lower()
    shown = "".join(filter(str.isalnum, left)).lower()
    assert not any(said[i : i + 12] in shown for i in range(len(said) - 11))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_other_text_stays(text):
    assert hide(text, None) == text
    if not any(char in "0123456789" for char in text):
        assert hide(text, "sk-9f3a81c07be24d56") == text


def test_a_short_key_and_one_of_signs():
    assert hide("it is ab-12345 ok", "ab-12345") == "it is [key] ok"
    assert hide("it is ab12 3 45 ok", "ab-12345") == "it is [key] ok"
    assert hide("it is --------- ok", "---------") == "it is [key] ok"
    assert hide("nothing", "---------") == "nothing"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("EMPTY", "The set is EMPTY, an empty one."),
        ("not-needed", "Salt is not needed."),
        ("token-abc123", "Each token appears once: a, b, c, 1, 2, 4."),
    ],
)
def test_what_a_model_says_is_not_taken_for_a_placeholder(key, text):
    assert hide(text, key) == text
