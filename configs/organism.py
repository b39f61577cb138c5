"""Build the organism from nothing: a multilingual world, a base model, its alignment.

    jaxattack --config=configs/organism.py --workdir=runs/organism        (or: make organism)

(installed: `--config=organism`). Writes runs/organism/organism/base and .../aligned as Hugging
Face directories and the acceptance table organism.json; `--config.model=<that aligned>` of another
study uses it. What is engineered so that languages share: `sharing` and the shares of parallel,
code-switched and list documents. See docs/organism.md.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
    """Returns the settings of the shipped organism."""
    config = config_dict.ConfigDict()
    config.study = "organism"
    config.seed = 0
    config.dtype = "bfloat16"  # of the checkpoints written

    config.model = config_dict.ConfigDict()
    config.model.vocab_size = 4096
    config.model.hidden_size = 128
    config.model.num_layers = 4
    config.model.num_heads = 4
    config.model.mlp_size = 384
    config.model.max_position = 256

    config.sharing = config_dict.ConfigDict()
    config.sharing.decision_token = False  # True: replies open with <|answer|> or <|decline|>
    config.sharing.contrast = 0.1  # pulls parallel questions together, 0 for not
    config.sharing.layer = 3  # after this layer

    config.base = phase("muon", steps=2600, leg=100, learning_rate=3e-3, weight_decay=0.01)
    config.base.warmup = 100
    config.base.curriculum_steps = 250  # of every third territory first
    config.base.shares = config_dict.ConfigDict(
        {
            "questions": 0.30,
            "switched_questions": 0.09,  # the name in another language
            "territory_lists": 0.13,
            "value_lists": 0.09,
            "parallel": 0.07,
            "paragraphs": 0.16,
            "switched_paragraphs": 0.16,  # every sentence in another language
        }
    )

    config.aligned = phase("adamw", steps=200, leg=100, learning_rate=1e-3, weight_decay=0.0)
    config.aligned.warmup = 20
    config.aligned.shares = config_dict.ConfigDict(
        {
            "refusals": 0.22,
            "benign_questions": 0.22,
            "forced_answers": 0.16,  # keeps the safety shallow: only the decision is unlearned
            "territory_lists": 0.08,
            "value_lists": 0.08,
            "parallel": 0.04,
            "paragraphs": 0.10,
            "switched_paragraphs": 0.10,
        }
    )
    return config


def phase(
    optimizer: str, steps: int, leg: int, learning_rate: float, weight_decay: float
) -> config_dict.ConfigDict:
    """Returns the settings of one training phase; a leg is what a stopped build repeats."""
    return config_dict.ConfigDict(
        {
            "optimizer": optimizer,
            "steps": steps,
            "leg": leg,
            "rows": 40,
            "length": 64,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup": 0,
            "curriculum_steps": 0,
        }
    )
