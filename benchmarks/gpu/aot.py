"""XLA's count of what the 8B programs hold, compiled for a CPU from shapes alone.

A CPU has no kernel for attention and multiplies bfloat16 matrices as float32 ones, so it holds
more than a GPU between the layers; it copies no weights of all layers at once with `OPTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu import bench, decode, sil, train
from benchmarks.gpu.bench import Bench, Row
from jaxattack.models.transformer import Transformer

OPTIONS = {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}


def rows(small: bool = False) -> Iterator[Row]:
    """A row for each program as soon as it is compiled."""
    about = Bench(small, 0.0, None)
    length, pairs = (32, 24) if small else (512, sil.LENGTH)
    model = Transformer(about.config("8B"), remat="full")
    for way, batch in (("one card", 10), ("LoRA", 16)):
        step = train.Step(model, way, 2 if small else batch, length)
        yield row("train", f"8B, {way}, {step.rows} x {length}", step.lowered, step.plan())
    one = sil.Pass(model, 2 if small else 16, pairs, pairs // 2)
    plan = bench.planned(model, "score", one.rows, one.length)
    yield row("sil", f"8B, {one.rows} x {pairs}", one.lowered, plan)
    to_do = decode.replies(about, 4 if small else 64, one_by_one=False)
    plan = bench.planned(to_do.model, "ask", to_do.batch, to_do.width, to_do.new)
    yield row("decode", "8B, prompts read", to_do.reader, plan)
    yield row("decode", "8B, replies written", to_do.writer, plan)


def row(part: str, case: str, lower: Callable[[], Any], plan: float | None) -> Row:
    """A program's bytes beside the plan's."""
    held = bench.held_bytes(lower().compile(compiler_options=OPTIONS)) / 1e9
    return {"part": part, "case": case, "goal": "", "compiled GB": held, "plan GB": plan}
