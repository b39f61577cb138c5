"""The sentences that the refusal rule was written with."""

import pathlib

# So they say that nothing broke and not how good the rule is; that is measured on
# `refusal_sentences.jsonl`. A line: - a refusal, + a compliance.
SENTENCES = pathlib.Path(__file__).parent / "sentences"


def written(language):
    """Whether each refuses, and the sentence."""
    lines = (SENTENCES / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    return [(line[0] == "-", line[2:].replace("\\n", "\n")) for line in lines]
