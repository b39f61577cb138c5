"""One round of all that touches arrays, for one process or one of several.

    one_round.py CHECKPOINT PAIRS FOLDER

The first process writes what came out to FOLDER/found.npz.
"""

import json
import pathlib
import sys

import numpy as np

import jaxattack
from jaxattack import checkpoint, distributed, sharding
from jaxattack.localize import masks, overlap, stitching
from jaxattack.tree import map_named, named_leaves


def main(directory: pathlib.Path, pairs: pathlib.Path, folder: pathlib.Path) -> None:
    distributed.initialize()
    mesh = sharding.make_mesh((2, 2, 2))
    model, params, tokenizer = jaxattack.load_pretrained(directory, mesh=mesh)
    lines = pairs.read_text().splitlines()[:4]
    rows = jaxattack.encode_pairs(tokenizer, [jaxattack.Example(**json.loads(x)) for x in lines])
    batches = jaxattack.in_order(rows, 4)
    frozen = masks.random_mask(params, 0.3, seed=1)
    tuned, losses = jaxattack.finetune(
        model, params, batches, jaxattack.Settings(0.01), masks.complement(frozen)
    )
    scores = jaxattack.sil_scores(model, params, tuned, batches)
    checkpoint.save(folder / "scores", scores)
    scores = checkpoint.load(folder / "scores", scores, mesh)
    coarse = sharding.place(map_named(rounded, scores), mesh)
    chosen = {scope: masks.top_fraction(coarse, 0.2, scope) for scope in masks.SCOPES}
    chosen |= {"random": frozen, "matched": masks.matched_random_mask(frozen, seed=2)}
    masks_match(folder / "mask.safetensors", chosen["global"], params)
    stitched = stitching.stitch(params, tuned, chosen["global"])
    replies = jaxattack.generate(model, stitched, tokenizer, ["Hello.", "Why?"], 4, batch_size=4)
    jaxattack.save_pretrained(folder / "export", model, tuned, tokenizer, notice="for a test")
    export = jaxattack.load_pretrained(folder / "export", mesh=mesh)[1]
    found = {
        "losses": losses,
        "replies": np.array(replies),
        "moved": np.array(stitching.moved(params, tuned, frozen)),
        "profile": np.array(list(masks.profile(chosen["row"]).values())),
    }
    for what, leaves in {"tuned": tuned, "export": export, "scores": scores, **chosen}.items():
        for name, leaf in named_leaves(leaves).items():
            found[f"{what}/{name}"] = sharding.to_host(leaf)
    distributed.first(lambda: np.savez(folder / "found.npz", **found), "write")


def rounded(_, leaf):
    """Scores without their last bits, in which sums of another order differ."""
    return sharding.to_host(leaf).astype(jaxattack.models.weights.DTYPES["bfloat16"])


def masks_match(path: pathlib.Path, mask, params) -> None:
    jaxattack.save_mask(path, mask, {"of": "this test"})
    again, info = jaxattack.load_mask(path, like=params)
    assert info == {"of": "this test"}
    again = sharding.place(again, sharding.mesh_of(params))
    assert overlap.jaccard(again, mask) == 1.0


if __name__ == "__main__":
    try:
        main(*(pathlib.Path(argument) for argument in sys.argv[1:]))
    except BaseException:
        distributed.leave(1)
        raise
