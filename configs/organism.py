"""Build the organism from nothing: a multilingual world, a base model, its alignment.

    jaxattack --config=configs/organism.py --workdir=runs/organism        (or: make organism)

(installed: `--config=organism`). Writes runs/organism/organism/base and .../aligned as Hugging
Face directories and the acceptance table organism.json; `--config.model=<that aligned>` of another
study uses it. What is engineered so that languages share: `sharing` and the shares of parallel,
code-switched and list documents. See docs/organism.md.
"""

from ml_collections import config_dict

from jaxattack.experiments.organism.settings import defaults


def get_config() -> config_dict.ConfigDict:
    """Returns the settings of the shipped organism, which are the defaults."""
    return defaults()  # `jaxattack --config=configs/organism.py --help` lists them
