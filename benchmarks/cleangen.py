"""Guarded decoding of a batch beside the published loop over single sequences, and beside none."""

from __future__ import annotations

import pathlib

import numpy as np

from benchmarks import checkpoints
from benchmarks.row import Measured, Row, Values, timed

PROMPTS, NEW, ALPHA, HORIZON = 32, 40, 20.0, 4
SAME = 0.9  # share of prompts with the same reply; float ties may fall either way


def make_prompts() -> tuple[list[list[int]], int]:
    """Tokens of the organism's questions, half of them restricted, and the token that ends."""
    from jaxattack.data.dialogues import prompt_tokens
    from jaxattack.models.pretrained import load_tokenizer
    from jaxattack.organism import corpus

    tokenizer = load_tokenizer(checkpoints.organism("aligned"))
    asked = [
        example.prompt
        for language in ("en", "th")
        for kind in ("restricted", "benign")
        for example in corpus.examples("test", language, kind, False)[: PROMPTS // 4]
    ]
    return [prompt_tokens(tokenizer, prompt) for prompt in asked], tokenizer.eos_token_id


def padded(replies: list[list[int]]) -> Values:
    """Replies as one array."""
    out = np.full((len(replies), NEW), -1, np.int64)
    for row, reply in enumerate(replies):
        out[row, : len(reply)] = reply
    return {"tokens": out}


def guarded_side(directory: pathlib.Path) -> Measured:
    """This library: all prompts at once, with caches."""
    from jaxattack import load_pretrained
    from jaxattack.defend.cleangen import Guard, guarded_tokens

    model, params, _ = load_pretrained(checkpoints.organism("aligned"))
    reference, others, _ = load_pretrained(checkpoints.organism("base"))
    prompts, stop = make_prompts()
    guard = Guard(ALPHA, HORIZON)
    seconds, found, extra = timed(
        lambda: guarded_tokens(
            (model, params), (reference, others), prompts, (stop,), NEW, guard, PROMPTS
        ),
        warmup=1,
        repeats=3,
    )
    replies, rates = found[-1]
    return Measured(seconds, padded(replies), {**extra, "replaced": float(rates.mean())})


def plain_side(directory: pathlib.Path) -> Measured:
    """This library without a guard: what the defence costs."""
    from jaxattack import load_pretrained
    from jaxattack.models.generate import generate_tokens

    model, params, _ = load_pretrained(checkpoints.organism("aligned"))
    prompts, stop = make_prompts()
    seconds, _, extra = timed(
        lambda: generate_tokens(model, params, prompts, (stop,), NEW, PROMPTS), warmup=1, repeats=3
    )
    return Measured(seconds, {"unguarded": np.ones(1)}, extra)


def loop_side(directory: pathlib.Path) -> Measured:
    """One sequence at a time: a draft by `generate`, one pass of the reference, what is kept."""
    import torch
    from transformers import AutoModelForCausalLM

    def load(name: str):
        path = checkpoints.organism(name)
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    target, reference = load("aligned"), load("base")
    prompts, stop = make_prompts()

    @torch.no_grad()
    def reply(prompt: list[int]) -> list[int]:
        written: list[int] = []
        while len(written) < NEW and stop not in written:
            past = torch.tensor([[*prompt, *written]])
            drafted = target.generate(
                past,
                attention_mask=torch.ones_like(past),
                do_sample=False,
                eos_token_id=stop,
                max_new_tokens=min(HORIZON, NEW - len(written)),
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
            draft = drafted.sequences[0, past.shape[1] :]
            own = torch.cat(drafted.logits).log_softmax(-1)
            whole = reference(drafted.sequences[:, :-1]).logits[0, past.shape[1] - 1 :]
            rows = torch.arange(len(draft))
            suspicion = own[rows, draft] - whole.log_softmax(-1)[rows, draft]
            over = (suspicion >= np.log(ALPHA)).nonzero()
            if len(over):
                first = int(over[0])
                written += [*draft[:first].tolist(), int(whole[first].argmax())]
            else:
                written += draft.tolist()
        return written[: written.index(stop)] if stop in written else written

    reply(prompts[0])
    seconds, found, _ = timed(lambda: [reply(p) for p in prompts], warmup=0, repeats=1)
    return Measured(seconds, padded(found[-1]))


def disagreement(ours: Values, theirs: Values) -> str:
    """Replies that are not the same, if the other side is guarded too."""
    if "unguarded" in theirs:
        return ""
    same = float((ours["tokens"] == theirs["tokens"]).all(axis=1).mean())
    return "" if same >= SAME else f"only {same:.0%} of the replies are the same"


ROWS = {
    "cleangen": Row(
        work=f"CleanGen, at most {NEW} tokens for {PROMPTS} prompts, organism",
        sides={
            "jaxattack": guarded_side,
            "a torch loop of single sequences": loop_side,
            "no guard, here": plain_side,
        },
        disagreement=disagreement,
    )
}
