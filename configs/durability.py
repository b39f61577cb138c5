"""Which defence survives the worst attack, in every language: claims D1 to D6.

    jaxattack --config=configs/durability.py --workdir=runs/durability

(installed: `--config=durability`.) Nine attacks on every defence, before, during and after the
tuning; the worst one is chosen on validation prompts among those that keep the model useful, and
asked in every language on the test prompts. docs/durability.md says what is computed.

On the shipped organism, on two CPU cores, half an hour. `:grown` is the study on what
configs/grow.py grew in a real model; `:small` a few defences, minutes. On a checkpoint of yours:

    jaxattack --config=configs/durability.py:path/or/hub-id --workdir=runs/mine \
        --config.data.pairs=jsonl:pairs.jsonl --config.data.prompts=jsonl:prompts.jsonl \
        --config.data.validation=jsonl:validation.jsonl \
        --config.data.calibration=jsonl:defender.jsonl --config.data.refusals=jsonl:refusals.jsonl
"""

from ml_collections import config_dict

from jaxattack.experiments.durability.settings import defaults

GROWN = "runs/grown/grown"  # by configs/grow.py
SMALL = ("booster", "freeze", "safelora", "scaling", "sil", "contrast")


def get_config(which: str = "organism") -> config_dict.ConfigDict:
    """Returns the settings for the organism, a grown model, a hub id or a directory."""
    config = defaults()  # `jaxattack --config=configs/durability.py --help` lists them
    config.seeds = (0, 1, 2)
    if which in ("organism", "small"):
        # The largest of 5 (the authors'), 1, 0.3 and 0.1 that leaves the organism aligned.
        config.harden.strength = 0.3
    if which == "organism":
        return config
    if which == "small":
        config.seeds = (0,)
        config.sections = ("sweep",)
        config.sweep.attacks = ("full", "other", "high", "lora", "aware")
        config.defend.defences = SMALL
        return config
    if which == "grown":
        return grown(config)
    config.model = which
    config.defend.base, config.defend.alone, config.attack.languages = "", (), ("en",)
    config.defend.defences = ("booster", "vaccine", "freeze", "lisa", "scaling", "sil", "contrast")
    config.attack.learning_rate = config.harden.learning_rate = 2e-5
    config.measure.batch_size = 64
    config.measure.max_new_tokens = 256
    return config


def grown(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Returns the settings of the study on what configs/grow.py grew in Gemma 3 270M."""
    config.model, config.defend.base = f"{GROWN}/currency", f"{GROWN}/base"
    config.remat = "dots"
    for name in ("pairs", "prompts", "validation", "refusals"):
        uri = config.data[name]
        config.data[name] = f"{uri}{'&' if '?' in uri else '?'}policy=currency&benign=all"
    config.attack.learning_rate = config.harden.learning_rate = 2e-5
    config.attack.max_length, config.attack.packing = 128, True
    config.measure.max_new_tokens, config.measure.batch_size = 32, 192
    config.seeds = (0,)
    config.defend.defences = SMALL
    config.sweep.attacks = ("full", "other", "high", "few", "aware")
    config.sections = ("sweep", "alone")
    return config
