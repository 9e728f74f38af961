"""Published networks by name: their keys of `config.model`, context and number of parameters.

`PRESETS` are decoders, and `experiments/presets.py` has a part for each; `DENOISERS` are networks
of diffusion. A new model is a line here; `LLAMA` and its like are what the models of one family
share, and `PLAIN` leaves out what only our own recipe has.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from research import parts
from research.errors import UserError, nearest
from research.families import autoregressive, diffusion


class Preset(NamedTuple):
    """A published model.

    Attributes:
        model: its keys of `config.model` that differ from the defaults.
        length: positions of its context.
        total: parameters, as published; of CHINCHILLA what this decoder has.
    """

    model: dict[str, Any]
    length: int
    total: int


class Denoiser(NamedTuple):
    """A published network of diffusion.

    Attributes:
        model: its keys of `config.model` that differ from the defaults.
        total: parameters, as published.
        multiply_adds: of one image, as published in units of 1e9; None where nobody did.
    """

    model: dict[str, Any]
    total: int
    multiply_adds: float | None = None


# What published decoders do not have; `zero_outputs` is how the default recipe begins.
PLAIN = dict(qk_norm=False, smear=False, zero_outputs=False)


def heads(width: int, depth: int, num_heads: int) -> dict[str, int]:
    """The three numbers that say how large a decoder is."""
    return dict(width=width, depth=depth, num_heads=num_heads)


# Radford et al. 2019.
GPT2 = PLAIN | dict(
    positions="learned", max_length=1024, norm="layernorm", norm_epsilon=1e-5, bias=True,
    activation="gelu", tie_embeddings=True, scale_embeddings=False, vocab_size=50_257,
)  # fmt: skip


def _gpt2(width: int, depth: int, total: int) -> Preset:
    return Preset(GPT2 | heads(width, depth, width // 64), 1024, total)


# Touvron et al. 2023 (arXiv 2302.13971 and 2307.09288), Grattafiori et al. 2024, Jiang et al. 2023
# and 2024.
LLAMA = PLAIN | dict(activation="swiglu", norm_epsilon=1e-5, vocab_size=32_000)
LLAMA_1 = LLAMA | dict(norm_epsilon=1e-6)
LLAMA_3 = LLAMA | dict(num_kv_heads=8, vocab_size=128_256, rotary_base=500_000.0)
LONGER = LLAMA_3 | dict(rotary_scaling="llama3", rotary_length=8192)  # 3.1 and 3.2
SMALL = LONGER | dict(rotary_factor=32.0, tie_embeddings=True, scale_embeddings=False)
MISTRAL = LLAMA | dict(num_kv_heads=8)
MIXTRAL = dict(
    channel="moe", num_experts=8, experts_per_token=2, capacity_factor=0.0, rotary_base=1e6
)


def _llama(
    base: dict[str, Any], width: int, depth: int, num_heads: int, hidden: int, length: int,
    total: int, **more: Any,
) -> Preset:  # fmt: skip
    shape = heads(width, depth, num_heads) | dict(mlp_ratio=hidden / width)
    return Preset(base | shape | more, length, total)


# Biderman et al. 2023; the larger ones have more rows of padding.
PYTHIA = PLAIN | dict(
    rotary_fraction=0.25, norm="layernorm", norm_epsilon=1e-5, bias=True, parallel=True,
    activation="gelu_exact",
)  # fmt: skip


def _pythia(width: int, depth: int, num_heads: int, total: int, vocab: int = 50_304) -> Preset:
    return Preset(PYTHIA | heads(width, depth, num_heads) | dict(vocab_size=vocab), 2048, total)


# Hoffmann et al. 2022, table A9, whose N is 13 L d^2 + 32,000 d (d the width, L the depth) to 1%.
# One L d^2 of it is Transformer-XL's map of relative positions (Dai et al. 2019), which these do
# not have: theirs are rotary. Left out are its seven models whose heads together are not as wide
# as the stream.
CHINCHILLA = PLAIN | dict(
    activation="gelu", tie_embeddings=True, scale_embeddings=False, vocab_size=32_000
)
# Millions of parameters, width, heads, depth.
TABLE_A9 = (
    (44, 512, 8, 8), (57, 576, 9, 9), (74, 640, 10, 10), (90, 640, 10, 13), (106, 640, 10, 16),
    (117, 768, 12, 12), (140, 768, 12, 15), (163, 768, 12, 18), (175, 896, 14, 14),
    (196, 896, 14, 16), (217, 896, 14, 18), (251, 1024, 16, 16), (278, 1024, 16, 18),
    (306, 1024, 16, 20), (425, 1280, 10, 18), (489, 1280, 10, 21), (509, 1408, 11, 18),
    (552, 1280, 10, 24), (587, 1408, 11, 21), (632, 1536, 12, 19), (664, 1408, 11, 24),
    (724, 1536, 12, 22), (816, 1536, 12, 25), (893, 1792, 14, 20), (1018, 1792, 14, 23),
    (1143, 1792, 14, 26), (1266, 2048, 16, 22), (1424, 2176, 17, 22), (1429, 2048, 16, 25),
    (1593, 2048, 16, 28), (1609, 2176, 17, 25), (1731, 2304, 18, 24), (1794, 2176, 17, 28),
    (2007, 2304, 18, 28), (2283, 2304, 18, 32), (2298, 2560, 20, 26), (2639, 2560, 20, 30),
    (2980, 2560, 20, 34), (3802, 2816, 22, 36), (4516, 3072, 24, 36), (6796, 3584, 28, 40),
    (9293, 4096, 32, 42), (16183, 5120, 40, 47),
)  # fmt: skip


def _chinchilla(width: int, num_heads: int, depth: int) -> Preset:
    norms = (2 * depth + 1) * width
    total = 12 * depth * width**2 + 32_000 * width + norms
    return Preset(CHINCHILLA | heads(width, depth, num_heads), 2048, total)


# DeepSeek-AI 2024 (arXiv 2412.19437), as it was trained at first, without the token beyond the
# next. Its experts are also chosen by groups and weigh 2.5 in all, which these do not.
DENSE, SPARSE = f"channel=mlp,mlp_ratio={18_432 / 7168:.7f}", "channel=moe"
DEEPSEEK_V3 = PLAIN | heads(7168, 61, 128) | dict(
    pattern=(DENSE,) * 3 + (SPARSE,) * 58, vocab_size=129_280,
    mixer="latent", latent_dim=512, query_latent_dim=1536, nope_dim=128, rotary_dim=64,
    value_dim=128, channel="moe", router="sigmoid", num_experts=256, experts_per_token=8,
    shared_experts=1, mlp_ratio=2048 / 7168, activation="swiglu", capacity_factor=0.0,
    balance_rate=1.0, balance_weight=1e-4,
)  # fmt: skip

PRESETS = {
    "deepseek_v3": Preset(DEEPSEEK_V3, 4096, 671_026_419_200),
    "gpt2": _gpt2(768, 12, 124_439_808),
    "gpt2_medium": _gpt2(1024, 24, 354_823_168),
    "gpt2_large": _gpt2(1280, 36, 774_030_080),
    "gpt2_xl": _gpt2(1600, 48, 1_557_611_200),
    "llama_7b": _llama(LLAMA_1, 4096, 32, 32, 11_008, 2048, 6_738_415_616),
    "llama_13b": _llama(LLAMA_1, 5120, 40, 40, 13_824, 2048, 13_015_864_320),
    "llama_30b": _llama(LLAMA_1, 6656, 60, 52, 17_920, 2048, 32_528_943_616),
    "llama_65b": _llama(LLAMA_1, 8192, 80, 64, 22_016, 2048, 65_285_660_672),
    "llama2_7b": _llama(LLAMA, 4096, 32, 32, 11_008, 4096, 6_738_415_616),
    "llama2_13b": _llama(LLAMA, 5120, 40, 40, 13_824, 4096, 13_015_864_320),
    "llama2_70b": _llama(LLAMA, 8192, 80, 64, 28_672, 4096, 68_976_648_192, num_kv_heads=8),
    "llama3_8b": _llama(LLAMA_3, 4096, 32, 32, 14_336, 8192, 8_030_261_248),
    "llama3_70b": _llama(LLAMA_3, 8192, 80, 64, 28_672, 8192, 70_553_706_496),
    "llama3_405b": _llama(
        LONGER, 16_384, 126, 128, 53_248, 131_072, 405_853_388_800, rotary_factor=8.0
    ),
    "llama3_1b": _llama(SMALL, 2048, 16, 32, 8192, 131_072, 1_235_814_400),
    "llama3_3b": _llama(SMALL, 3072, 28, 24, 8192, 131_072, 3_212_749_824),
    "mistral_7b": _llama(
        MISTRAL, 4096, 32, 32, 14_336, 32_768, 7_241_732_096, attention="window", window=4096
    ),
    "mixtral_8x7b": _llama(MISTRAL | MIXTRAL, 4096, 32, 32, 14_336, 32_768, 46_702_792_704),
    "pythia_14m": _pythia(128, 6, 4, 14_067_712),
    "pythia_31m": _pythia(256, 6, 8, 30_494_720),
    "pythia_70m": _pythia(512, 6, 8, 70_426_624),
    "pythia_160m": _pythia(768, 12, 12, 162_322_944),
    "pythia_410m": _pythia(1024, 24, 16, 405_334_016),
    "pythia_1b": _pythia(2048, 16, 8, 1_011_781_632),
    "pythia_1.4b": _pythia(2048, 24, 16, 1_414_647_808),
    "pythia_2.8b": _pythia(2560, 32, 32, 2_775_208_960),
    "pythia_6.9b": _pythia(4096, 32, 32, 6_857_302_016, vocab=50_432),
    "pythia_12b": _pythia(5120, 36, 40, 11_846_072_320, vocab=50_688),
}
PRESETS |= {f"chinchilla_{name}m": _chinchilla(*shape) for name, *shape in TABLE_A9}


# Peebles & Xie 2023, tables 1 and 4, on latents of 32x32x4, with learned variances: depth, width
# and heads, then for patches of 8, 4 and 2 the trained parameters and the multiply-adds.
DIT = dict(
    network="dit", image_shape=(32, 32, 4), discrete=False, num_classes=1000, class_dropout=0.1,
    learned_variance=True, time_features=256, positions="none",
)  # fmt: skip
DIT_TABLE = {
    "s": (12, 384, 6, (33_142_016, 32_920_448, 32_865_056), (0.36, 1.41, 6.06)),
    "b": (12, 768, 12, (130_869_248, 130_426_496, 130_315_808), (1.42, 5.57, 23.01)),
    "l": (24, 1024, 16, (458_578_432, 457_988_224, 457_840_672), (5.01, 19.70, 80.70)),
    "xl": (28, 1152, 16, (675_664_640, 675_000_704, 674_834_720), (7.39, 29.04, 118.62)),
}
DENOISERS = {
    f"dit_{size}_{patch}": Denoiser(
        DIT | heads(width, depth, num_heads) | dict(patch_size=patch), total, multiply_adds
    )
    for size, (depth, width, num_heads, *rest) in DIT_TABLE.items()
    for patch, total, multiply_adds in zip((8, 4, 2), *rest, strict=True)
}
# Bao et al. 2023, table 1 (44, 131, 287 and 501 million), as their code builds them. Theirs have no
# biases of queries, keys and values, 3 x width a block, which these have and `total` leaves out.
UVIT = dict(network="uvit", positions="none")
UVIT_LATENT = UVIT | dict(
    image_shape=(32, 32, 4), discrete=False, num_classes=1000, class_dropout=0.1
)
# Ho et al. 2020, appendix B, on CIFAR-10; Dhariwal & Nichol 2021, on ImageNet at 64x64.
DDPM = dict(
    network="unet", image_shape=(32, 32, 3), width=128, channel_multipliers=(1, 2, 2, 2),
    blocks_per_level=2, attention_resolutions=(16,), head_width=0, resample="convolution",
    told="shift", time_features=128,
)  # fmt: skip
ADM = dict(
    network="unet", image_shape=(64, 64, 3), width=192, channel_multipliers=(1, 2, 3, 4),
    blocks_per_level=3, attention_resolutions=(32, 16, 8), head_width=64, time_features=192,
    num_classes=1000, learned_variance=True,
)  # fmt: skip
DENOISERS |= {
    "uvit_s_2": Denoiser(UVIT | heads(512, 12, 8) | dict(image_shape=(32, 32, 3)), 44_255_328),
    "uvit_m_4": Denoiser(
        UVIT | heads(768, 16, 12) | dict(image_shape=(64, 64, 3), patch_size=4, num_classes=1000),
        130_940_292,
    ),
    "uvit_l_2": Denoiser(UVIT_LATENT | heads(1024, 20, 16), 286_763_172),
    "uvit_h_2": Denoiser(UVIT_LATENT | heads(1152, 28, 16) | dict(final_conv=False), 500_832_016),
    "ddpm_cifar10": Denoiser(DDPM, 35_746_307),
    "adm_imagenet64": Denoiser(ADM, 295_904_454),
}


def load(name: str) -> Preset:
    """The preset `name`.

    Raises:
        UserError: for a name that is not in the table (nearest named).
    """
    if name not in PRESETS:
        raise UserError(f"{name!r} is no preset{nearest(name, PRESETS)}: {', '.join(PRESETS)}")
    return PRESETS[name]


def model(chosen: dict[str, Any]) -> ConfigDict:
    """The whole `config.model` of the autoregressive family in which the keys `chosen` are set."""
    found = ConfigDict(parts.keys(autoregressive, chosen))
    found.update(chosen)
    return found


def denoiser(name: str) -> tuple[Denoiser, ConfigDict]:
    """The network of diffusion `name`, and the whole `config.model` of it.

    Raises:
        UserError: for a name that is not in the table (nearest named).
    """
    if name not in DENOISERS:
        raise UserError(f"{name!r} is no preset{nearest(name, DENOISERS)}: {', '.join(DENOISERS)}")
    found = ConfigDict(parts.keys(diffusion, DENOISERS[name].model))
    found.update(DENOISERS[name].model)
    return DENOISERS[name], found
