"""Published configurations, instantiated as shapes only: their parameters are counted."""

import pytest

from jaxattack import tree
from jaxattack.models.families import from_hf
from jaxattack.models.transformer import Transformer, abstract_params


def fields(family, vocab, hidden, mlp, layers, heads, kv, **more):
    return {
        "model_type": family,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "rms_norm_eps": 1e-6,
    } | more


def bloom(hidden, layers, heads):
    return {
        "model_type": "bloom",
        "vocab_size": 250_880,
        "hidden_size": hidden,
        "n_layer": layers,
        "num_attention_heads": heads,
        "layer_norm_epsilon": 1e-5,
    }


TIED = {"tie_word_embeddings": True}
GELU = {"hidden_act": "gelu_pytorch_tanh"}
# From the published config.json files; the counts are those of the published weights.
PUBLISHED = {
    "Llama-2-7B": (fields("llama", 32_000, 4096, 11_008, 32, 32, 32), 6_738_415_616),
    "Llama-2-13B": (fields("llama", 32_000, 5120, 13_824, 40, 40, 40), 13_015_864_320),
    "Llama-2-70B": (fields("llama", 32_000, 8192, 28_672, 80, 64, 8), 68_976_648_192),
    "Llama-3.1-8B": (fields("llama", 128_256, 4096, 14_336, 32, 32, 8), 8_030_261_248),
    "Llama-3.1-70B": (fields("llama", 128_256, 8192, 28_672, 80, 64, 8), 70_553_706_496),
    "Llama-3.2-1B": (
        fields("llama", 128_256, 2048, 8192, 16, 32, 8, head_dim=64, **TIED),
        1_235_814_400,
    ),
    "Llama-3.2-3B": (
        fields("llama", 128_256, 3072, 8192, 28, 24, 8, head_dim=128, **TIED),
        3_212_749_824,
    ),
    "Mistral-7B-v0.1": (fields("mistral", 32_000, 4096, 14_336, 32, 32, 8), 7_241_732_096),
    "Mistral-7B-v0.3": (
        fields("mistral", 32_768, 4096, 14_336, 32, 32, 8, sliding_window=None),
        7_248_023_552,
    ),
    "Qwen2-0.5B": (fields("qwen2", 151_936, 896, 4864, 24, 14, 2, **TIED), 494_032_768),
    "Qwen2-7B": (fields("qwen2", 152_064, 3584, 18_944, 28, 28, 4), 7_615_616_512),
    "Qwen2.5-1.5B": (fields("qwen2", 151_936, 1536, 8960, 28, 12, 2, **TIED), 1_543_714_304),
    "Qwen2.5-14B": (fields("qwen2", 152_064, 5120, 13_824, 48, 40, 8), 14_770_033_664),
    "Qwen3-0.6B": (
        fields("qwen3", 151_936, 1024, 3072, 28, 16, 8, head_dim=128, **TIED),
        596_049_920,
    ),
    "Qwen3-8B": (
        fields("qwen3", 151_936, 4096, 12_288, 36, 32, 8, head_dim=128),
        8_190_735_360,
    ),
    "Gemma-2B": (
        fields("gemma", 256_000, 2048, 16_384, 18, 8, 1, head_dim=256, hidden_act="gelu"),
        2_506_172_416,
    ),
    "Gemma-7B": (
        fields("gemma", 256_000, 3072, 24_576, 28, 16, 16, head_dim=256, hidden_act="gelu"),
        8_537_680_896,
    ),
    "Gemma-2-2B": (
        fields("gemma2", 256_000, 2304, 9216, 26, 8, 4, head_dim=256, **GELU),
        2_614_341_888,
    ),
    "Gemma-2-9B": (
        fields("gemma2", 256_000, 3584, 14_336, 42, 16, 8, head_dim=256, **GELU),
        9_241_705_984,
    ),
    "Gemma-2-27B": (
        fields(
            "gemma2",
            256_000,
            4608,
            36_864,
            46,
            32,
            16,
            head_dim=128,
            query_pre_attn_scalar=144,
            **GELU,
        ),
        27_227_128_320,
    ),
    "Gemma-3-1B": (
        fields(
            "gemma3_text",
            262_144,
            1152,
            6912,
            26,
            4,
            1,
            head_dim=256,
            hidden_activation="gelu_pytorch_tanh",
            sliding_window=512,
            sliding_window_pattern=6,
            rope_local_base_freq=10_000,
            rope_theta=1_000_000,
        ),
        999_885_952,
    ),
    "BLOOM-560m": (bloom(1024, 24, 16), 559_214_592),
    "BLOOM-1b7": (bloom(2048, 24, 16), 1_722_408_960),
    "BLOOM-7b1": (bloom(4096, 30, 32), 7_069_016_064),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    config, count = PUBLISHED[name]
    assert tree.size(abstract_params(Transformer(from_hf(config)))) == count


def test_gemma3s_layers_are_five_local_to_one_global():
    config = from_hf(PUBLISHED["Gemma-3-1B"][0])
    assert config.window == 512
    assert [i for i, local in enumerate(config.local_layers) if not local] == [5, 11, 17, 23]
    assert (config.rope.theta, config.local_rope.theta) == (1e6, 1e4)


def test_gemma2s_layers_alternate():
    config = from_hf(PUBLISHED["Gemma-2-2B"][0])
    assert config.window == 4096
    assert config.local_layers == (True, False) * 13
    assert (config.attention_softcap, config.final_softcap) == (50.0, 30.0)
    assert config.query_scale == 1 / 16


def test_qwen2_has_windows_only_if_switched_on():
    given = PUBLISHED["Qwen2-7B"][0] | {"sliding_window": 131_072, "max_window_layers": 28}
    assert from_hf(given | {"use_sliding_window": False}).window == 0
    on = from_hf(given | {"use_sliding_window": True, "max_window_layers": 20})
    assert (on.window, on.local_layers) == (131_072, (False,) * 20 + (True,) * 8)
