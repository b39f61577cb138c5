"""Our model under lm-evaluation-harness: what any of its tasks asks of a model.

Texts become tokens, long contexts are cut and replies end as under the harness's own backend for
transformers (`hf`), so that figures are comparable.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from jaxattack import tree
from jaxattack.data import templates
from jaxattack.errors import UserError
from jaxattack.evaluate.likelihood import log_likelihoods
from jaxattack.models.generate import generate_tokens
from jaxattack.models.transformer import Transformer

try:
    from lm_eval import utils as lm_eval_utils
    from lm_eval.api.model import TemplateLM
    from lm_eval.models import utils as backends
except ImportError as error:
    raise UserError(
        f'lm-evaluation-harness is not installed ({error}): pip install "jaxattack[lm-eval]"'
    ) from error

NEW_TOKENS = 256  # of a reply, where a task does not say
FIRST_ROUND = 64  # tokens of replies before stop texts are looked for
# What a task may say of generation where the likeliest token is taken.
GREEDY = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}


class JaxLM(TemplateLM):
    """A model of ours for `lm_eval.simple_evaluate(model=JaxLM(...), tasks=[...])`.

    Attributes:
        model, params, tokenizer: as `load_pretrained` gives them.
        batch_size: sequences computed together, at most.
        max_length: tokens the model reads, at most.
        max_gen_toks: of a reply, where the task does not say.
    """

    backend = "causal"

    def __init__(
        self,
        model: Transformer,
        params: tree.Tree,
        tokenizer: Any,
        batch_size: int = 16,
        max_length: int | None = None,
    ):
        """Take a model as it is loaded.

        Args:
            model: the decoder.
            params: its parameters.
            tokenizer: Hugging Face tokenizer.
            batch_size: sequences computed together, at most.
            max_length: tokens the model reads, at most; None: as its config or tokenizer says.

        Raises:
            UserError: no tokenizer, one that names no token to begin with, or sizes below 1.
        """
        super().__init__()
        if tokenizer is None:
            raise UserError("the tasks are texts, and the model has no tokenizer")
        if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
            where = templates.name_of(tokenizer)
            raise UserError(f"{where} names no token that begins or ends a text (bos, eos)")
        for name, value in (("batch_size", batch_size), ("max_length", max_length)):
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; it should be at least 1")
        self.model, self.params, self.tokenizer = model, params, tokenizer
        self.batch_size, self.max_gen_toks = batch_size, NEW_TOKENS
        rotary = model.config.rope is not None
        self.max_length: int = max_length or (
            model.config.max_position if rotary else backends.resolve_max_length(None, tokenizer)
        )

    # --- Texts and tokens -----------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends a text, if the tokenizer names one."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without a context."""
        begins = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if begins is None else begins

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in the harness's caches."""
        return templates.name_of(self.tokenizer).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Tokens of a text; None: special ones as the tokenizer adds them, unless they are there.

        Other arguments, which belong to other backends, change nothing.
        """
        if add_special_tokens is None and string.startswith(
            self.tokenizer.decode(self.prefix_token_id)
        ):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, **special)

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Messages as the model reads them; without a generation prompt the last one stays open.

        A template that knows no system message gets the others alone.

        Raises:
            UserError: there is no template, or it cannot write the messages.
        """
        turns = [{**turn, "content": _plain(turn["content"])} for turn in chat_history]
        template = templates.template_of(self.tokenizer)
        try:
            (written,) = template.write((turns, add_generation_prompt))
        except UserError:
            others = [turn for turn in turns if turn["role"] != "system"]
            if len(others) == len(turns):
                raise
            warnings.warn("the chat template has no system messages; left out", stacklevel=2)
            (written,) = template.write((others, add_generation_prompt))
        return written.text if add_generation_prompt else _open(written.text, turns[-1]["content"])

    # --- What tasks ask -------------------------------------------------------------------------

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        found = log_likelihoods(
            self.model, self.params, pairs, self.batch_size, self.max_length, "log-likelihoods"
        )
        return [(one.total, one.greedy) for one in found]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list:
        """`log p` of whole texts, in windows of `max_length` tokens that overlap by one."""
        pairs, owners = [], []
        for owner, request in enumerate(requests):
            windows = lm_eval_utils.get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, 1
            )
            for window in windows:
                pairs.append((None, *lm_eval_utils.make_disjoint_window(window)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (total, _) in zip(owners, self._loglikelihood_tokens(pairs), strict=True):
            totals[owner] += total
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The likeliest tokens after each context, up to a stop text or the most tokens.

        Raises:
            UserError: a task wants replies to be drawn, or more tokens than the model has.
        """
        alike: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        replies = [""] * len(requests)
        for members in alike.values():
            stops, most = self._wanted(requests[members[0]].args[1])
            contexts = self._contexts([requests[i].args[0] for i in members], most)
            for i, reply in zip(members, self._replies(contexts, stops, most), strict=True):
                replies[i] = reply
        return replies

    def _wanted(self, given: Mapping[str, Any]) -> tuple[list[str], int]:
        """Stop texts and the most tokens of what a task says of generation."""
        asked = backends.normalize_gen_kwargs(dict(given), self.max_gen_toks)
        others = sorted(asked.keys() - GREEDY)
        if asked.get("do_sample") or others:
            what = f"{others[0]}={asked[others[0]]!r}" if others else "do_sample=True"
            raise UserError(
                f"a task wants {what}, and here the likeliest token is taken: other values for "
                "its generation are, by lm_eval, gen_kwargs"
            )
        most = int(asked["max_gen_toks"])
        if not 0 < most < self.max_length:
            raise UserError(
                f"a task wants replies of {most} tokens (max_gen_toks), and the model reads "
                f"{self.max_length}, context included"
            )
        return backends.handle_stop_sequences(asked["until"], self.tokenizer.eos_token), most

    def _contexts(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """Tokens of contexts, cut on the left so that a reply has room."""
        begins = self.tokenizer.bos_token
        found = []
        for text in texts:
            written = bool(begins) and text.startswith(begins)
            tokens = self.tokenizer(text, **({"add_special_tokens": False} if written else {}))
            found.append(tokens["input_ids"][-(self.max_length - most) :])
        return found

    def _replies(self, contexts: Sequence[list[int]], stops: Sequence[str], most: int) -> list[str]:
        """Replies in rounds, each as long as all before: those with a stop text go no further."""
        ends = self._ends(stops)
        written: list[list[int]] = [[] for _ in contexts]
        going, length = list(range(len(contexts))), 0
        while going:
            more = min(most - length, max(FIRST_ROUND, length))
            asked = [[*contexts[i], *written[i]] for i in going]
            parts = generate_tokens(
                self.model, self.params, asked, ends, more, self.batch_size, "replies"
            )
            for i, part in zip(going, parts, strict=True):
                written[i] += part
            length += more
            going = [
                i
                for i in going
                if len(written[i]) == length < most and not _stopped(self._text(written[i]), stops)
            ]
        return [_cut(self._text(tokens), stops) for tokens in written]

    def _ends(self, stops: Sequence[str]) -> tuple[int, ...]:
        """Tokens that end a reply: the end, and special ones with a stop in, never in a text."""
        special = self.tokenizer.all_special_ids
        named = [int(one) for one in special if _stopped(self.tokenizer.decode([one]), stops)]
        end = () if self.eot_token_id is None else (self.eot_token_id,)
        return tuple(dict.fromkeys((*end, *self.model.config.stops, *named)))

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    # --- What the harness writes down -----------------------------------------------------------

    def get_model_info(self) -> dict[str, Any]:
        """For the results: how many parameters there are, and their type."""
        leaves = jax.tree.leaves(self.params)
        return {"model_num_parameters": tree.size(self.params), "model_dtype": str(leaves[0].dtype)}


def _plain(content: Any) -> Any:
    """Content without the characters that mean something to us."""
    return templates.without_reserved(content) if isinstance(content, str) else content


def _open(written: str, last: str) -> str:
    """A dialogue up to its last message's end; blanks stay there if the template keeps them."""
    start = written.rindex(last.strip())
    whole = last.lstrip()
    return written[:start] + (whole if written.startswith(whole, start) else last.strip())


def _stopped(text: str, stops: Iterable[str]) -> bool:
    return any(stop and stop in text for stop in stops)


def _cut(text: str, stops: Iterable[str]) -> str:
    """A text up to the first stop in it."""
    for stop in stops:
        text = text.partition(stop)[0] if stop else text
    return text
