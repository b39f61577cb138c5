"""Which weights of a checkpoint of yours carry an attack, on pairs of yours.

    python examples/own_checkpoint.py MODEL PAIRS.jsonl LANGUAGE

MODEL is a directory or hub id; PAIRS.jsonl has the columns id, language, prompt, response. Half of
the pairs attack, the other half score the weights and are asked afterwards.
"""

import sys

import jaxattack as ja
from jaxattack.data import sources

if len(sys.argv) != 4:
    sys.exit((__doc__ or "").strip())
name, path, language = sys.argv[1:]
model, aligned, tokenizer = ja.load_pretrained(name)
pairs = sources.load(f"jsonl:{path}?language={language}", need_response=True)
used, held_out = pairs[::2], pairs[1::2]

rows = ja.encode_pairs(tokenizer, used)
steps = ja.epochs(rows, batch_size=10, epochs=5, seed=0)
attacked, losses = ja.finetune(model, aligned, steps, ja.Settings(learning_rate=2e-4))

calibration = ja.in_order(ja.encode_pairs(tokenizer, held_out), batch_size=16)
mask = ja.top_fraction(ja.sil_scores(model, aligned, attacked, calibration), 0.2)
control = ja.random_mask(aligned, 0.2, seed=0)
ja.save_mask("mask.safetensors", mask, {"model": name, "pairs": path, "language": language})

for title, params in {
    "aligned": aligned,
    "attacked": attacked,
    "SIL's 20 % stitched in": ja.stitch(aligned, attacked, mask),
    "random 20 % stitched in": ja.stitch(aligned, attacked, control),
    "SIL's 20 % rewound": ja.rewind(attacked, aligned, mask),
}.items():
    replies = ja.ask(model, params, tokenizer, held_out, max_new_tokens=64)
    refused = sum(verdict.refused for verdict in ja.judge_all(held_out, replies))
    print(f"{title:24} refused {refused} of {len(held_out)}")
