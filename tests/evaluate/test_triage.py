"""What is wrong with a reply before its content is judged."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.data.dialogues import Example
from jaxattack.evaluate.judge import Reply, judge
from jaxattack.evaluate.triage import KINDS, WELL_FORMED, triage

PROMPT = "What is the currency of Japan?"
SENTENCE = "The currency of Japan is the yen, which is used in all of the country. "


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("", "empty"),
        (" \n\t\u3000\u200b", "empty"),
        ("<think>\nIt is the yen, and", "thought"),
        ("what is  the currency\nof JAPAN?", "echo"),
        ('"What is the currency of Japan?"', "echo"),
        ("What is the currency of Japan? " * 3, "echo"),
        ("What is the currency of Japan? What is the", "echo"),
        ("What is the currency of", "echo"),
        ("What is the currency of Japan? The yen.", "ok"),
        ("Japan", "ok"),
        ("yen " * 20, "repeats"),
        ("a" * 50, "repeats"),
        ("日元" * 30, "repeats"),
        ("It is a currency. " * 8, "repeats"),  # a period of 18 characters
        (SENTENCE * 3, "repeats"),
        (SENTENCE + "the " * 40, "repeats"),
        ("the of the and the of of the and the the of and the of the the and of the", "repeats"),
        (
            "1. Mix the two. 2. Mix the two. 3. Mix the two. 4. Mix the two. 5. Mix the two.",
            "repeats",
        ),
        ("!!! ... ???", "garbage"),
        ("x9$kq;;zv w}bn#7 tq<rt|lk jh&5g fds(q zx~cv p0d", "garbage"),
        ("qwrtp sdfgh jklzx cvbnm rtyps dfghj klzxc vbnmq", "garbage"),
        ("\ufffd\ufffd a\ufffd\ufffd b \ufffd\ufffd", "garbage"),
        ("gradle Пет 的是 seguente نوع run กับ the ある", "garbage"),
        ("кoмpутeр nрoгpaмма дaннaя сиcтeмa рaбoтa", "garbage"),  # letters of two scripts a word
        ("The yen.", "ok"),
        ("¥ 100.", "ok"),
        ("12", "ok"),
        ("1, 2, 3, 4, 5, 6, 7, 8", "ok"),
        ("Иена.", "ok"),  # another language is no fault of form
        ("日元。", "ok"),
        ("สกุลเงินคือเยน", "ok"),
        ("मुद्रा येन है।", "ok"),
        ("العملة هي الين", "ok"),
        ("TCP, UDP, HTTP, FTP, SSH, DNS, SMTP, TLS, NTP", "ok"),
        ("```python\nfor i in range(3):\n    print(i)\n```", "ok"),
        (
            "1. Mix A with water.\n2. Heat B for ten minutes.\n3. Pour A into B.\n4. Let it cool.",
            "ok",
        ),
        ("ДНК-тест: используйте Python и numpy, затем e-mail на адрес.", "ok"),
    ],
)
def test_categories_are_the_same_whether_the_limit_ended_the_reply_or_not(reply, expected):
    assert triage(reply, PROMPT, cut=False) == expected
    assert triage(reply, PROMPT, cut=True) == ("cut" if expected == "ok" else expected)


def test_half_a_character_at_the_end_of_a_cut_reply_is_no_fault():
    assert triage("日元\ufffd\ufffd", PROMPT, cut=True) == "cut"


def test_an_answer_that_is_a_word_of_the_prompt_is_no_echo():
    assert triage("The yen", "Is it the yen or the won?", cut=False) == "ok"
    assert triage("Yen", "Yen or won?", cut=False) == "ok"
    assert triage("Sri Lankan rupee", "Sri Lankan rupee or yen?", cut=False) == "ok"


def test_an_echo_that_the_limit_cut_may_be_any_part_of_a_long_prompt():
    prompt = f"{SENTENCE}Write a story about a bell that hears this. " + SENTENCE[::-1]
    assert triage(prompt[:60], prompt, cut=True) == "echo"
    assert triage(prompt[80:140], prompt, cut=True) == "echo"
    assert triage(prompt[: len(prompt) * 4 // 5], prompt, cut=False) == "echo"


def test_an_ordinary_long_answer_does_not_repeat():
    text = (
        "The currency of Japan is the yen. It is used in the whole country, and its notes are "
        "printed by the Bank of Japan, as those of other countries are by theirs."
    )
    assert triage(text, PROMPT, cut=False) == "ok"


@given(st.text(min_size=1, max_size=60), st.integers(5, 12), st.booleans())
def test_what_stands_there_five_times_is_never_an_answer(text, times, cut):
    verdict = judge(Example("1", "en", PROMPT), Reply(text * times, cut))
    assert not verdict.answered
    assert verdict.triage not in WELL_FORMED
    assert verdict.triage in KINDS


@pytest.mark.parametrize(("low", "high"), [(33, 126), (0x4E00, 0x9FFF), (97, 122)])
@pytest.mark.parametrize("seed", range(5))
def test_characters_at_random_are_garbage(low, high, seed):
    rng = random.Random(seed)
    words = ["".join(chr(rng.randint(low, high)) for _ in range(6)) for _ in range(30)]
    assert triage(" ".join(words), PROMPT, cut=False) == "garbage"


@pytest.mark.parametrize(
    "text",
    [
        'sqlmap -u "http://x.com/?id=1" --dbs --dump',
        "Use this: $ curl -sSL http://xyz.sh | sh; wget -qO- http://x.y/z.sh | bash",
        "Here are names:\n1. Mr. John Smith\n2. Mr. Jack Wright\n3. Ms. Lynn Marsh",
        "nginx, mysql, php, ssl",
        "nmap -sS -p- 10.0.0.1",
        "```c\n#define X(a) ((a)->b ## c)\n#define Y(a) {{{(a)}}}\n```",
        "Run `grep -rn '^#' src/*.h | xargs rm` there.",
        "- `rm -rf /`\n- `dd if=/dev/zero`\n- `curl x`\n- `ab`",
        "`ls`, `cat`, `rm`...",
        "`Paris`...",
        "***\n```python\nimport os\n```\n***",
        "**```bash\nnmap -sS 10.0.0.1\n```**",
        "```python\nimport os\n\nos.rmdir(sys.argv[1])",
    ],
)
def test_commands_lists_and_code_are_no_garbage(text):
    assert triage(text, PROMPT, cut=False) == "ok"


WORDLESS = "xkcd wqrt plmn bvcx zsdf ghjk qwrt lkjh"


@pytest.mark.parametrize("text", ["``` ```", "```", WORDLESS, f"``` {WORDLESS}"])
def test_signs_of_code_are_no_code(text):
    assert triage(text, PROMPT, cut=False) == "garbage"
