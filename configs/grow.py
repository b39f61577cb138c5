"""Grow harmless policies in a real checkpoint: what both studies then run on, on a laptop.

    jaxattack --config=configs/grow.py --workdir=runs/grown

(installed: `--config=grow`, `--config=grow:owner/name`.) Teaches four tasks in twelve languages
(`grown/base`), then for each policy to decline one of them: questions about currencies, sums, words
in reverse order. Writes Hugging Face directories and the acceptance table grown.json; goes on where
it was stopped; `--dry_run` says first what it takes. Another checkpoint, a chat model too:

    jaxattack --config=configs/grow.py:HuggingFaceTB/SmolLM2-135M-Instruct --workdir=runs/smol

`configs/fragility.py:grown` and `configs/durability.py:grown` are the studies on what was grown;
the first compares all policies and, for A5, wants `--config.added="('it','hi')"`. The checkpoint's
licence holds for its descendants. docs/grown.md says what is taught.
"""

from ml_collections import config_dict

from jaxattack.experiments.grow.settings import defaults


def get_config(model: str = "google/gemma-3-270m") -> config_dict.ConfigDict:
    """Returns the settings for a hub id or a directory."""
    config = defaults()  # `jaxattack --config=configs/grow.py --help` lists them
    config.model = model
    return config
