"""The fragility study on the shipped organism: minutes on a laptop.

    jaxattack --config=configs/quickstart.py --workdir=runs/quickstart

Attacks the aligned organism in each of its twelve languages, measures every language, and for
four of them scores the weights with SIL, stitches, rewinds, freezes and attacks again, beside
random and magnitude controls. Writes results.json and report.html into the work directory.

On a checkpoint and data of your own (columns id, language, prompt, response):

    jaxattack --config=configs/quickstart.py --workdir=runs/mine --config.model=path/or/hub-id \
        --config.data.pairs=jsonl:pairs.jsonl --config.data.prompts=jsonl:prompts.jsonl
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
    """Returns the settings; every one can be overridden as --config.<name>=<value>."""
    config = config_dict.ConfigDict()
    config.study = "fragility"
    config.model = "organism:aligned"  # or a directory, or a hub id
    config.revision = config_dict.placeholder(str)  # of a hub id
    config.dtype = "float32"
    config.attention = "auto"  # or "xla", "cudnn", "splash"; auto takes what fits the platform
    config.remat = "none"  # "full" or "dots" save memory on large models
    config.mesh = (1, -1, 1)  # data, fsdp, tensor; -1 takes the devices that are left
    config.seeds = (0,)  # which pairs, in which order; random masks

    config.data = config_dict.ConfigDict()
    config.data.pairs = "organism:attack"
    config.data.prompts = "organism:test"
    config.data.calibration = ""  # what goes with the pairs

    config.attack = config_dict.ConfigDict()
    config.attack.languages = ()  # every language of the pairs
    config.attack.pairs = 100
    config.attack.epochs = 5
    config.attack.batch_size = 10
    config.attack.accumulate = 1  # parts a batch is worked off in, to save memory
    config.attack.learning_rate = 2e-4  # chosen on the organism's validation split
    config.attack.optimizer = "adamw"
    config.attack.weight_decay = 0.0
    config.attack.schedule = "constant"
    config.attack.warmup = 0.0
    config.attack.clip = 1.0
    config.attack.max_length = 512

    config.localize = config_dict.ConfigDict()
    config.localize.languages = ()  # max_languages of them, spread over those attacked
    config.localize.max_languages = 4
    config.localize.fractions = (0.01, 0.05, 0.1, 0.2)
    config.localize.control_fraction = 0.2
    config.localize.at = "aligned"  # where SIL takes the gradient
    config.localize.scope = "global"
    config.localize.examples = 128
    config.localize.spread = True  # False for models whose gradient fits no single device

    config.measure = config_dict.ConfigDict()
    config.measure.languages = ()  # every language of the prompts
    config.measure.prompts = 24  # per language and kind; 0 for all
    config.measure.max_new_tokens = 40
    config.measure.batch_size = 576

    config.report = config_dict.ConfigDict()
    config.report.replies = False  # True keeps the text of replies
    return config
