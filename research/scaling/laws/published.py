"""Published laws with their constants, to draw beside ours and to reproduce.

Every digit the paper or its code gives is kept: rounding Hoffmann's exponents to two digits moves
the best tokens per parameter at 5.88e23 FLOPs from 59 to 93.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp

from research.scaling.laws.architecture import MOE_CLARK, MOE_KRAJEWSKI, PARALLEL, VOCABULARY
from research.scaling.laws.data import MUENNIGHOFF, OVERTRAINING
from research.scaling.laws.law import Law
from research.scaling.laws.power import CHINCHILLA, FRONTIER, POWER
from research.scaling.laws.recipe import ALLOCATION, STEP_BATCH, STEP_LEARNING_RATE
from research.scaling.laws.surface import KAPLAN

PF_DAY = 86400e15  # FLOPs

MASSIVE_TEXT = "N all parameters, D tokens, C = 6ND; nats per token on MassiveText"
C4 = "N all parameters, D and U tokens; nats per token on C4"
PILE_CODE = "N without embeddings, 42e9 tokens; nats per token on {}"
ROUTED = "N parameters a token passes, 130e9 tokens; nats per token on MassiveText"
KAPLAN_UNITS = "N without embeddings, D tokens of the data set; nats per token on WebText2"
STEP = "N without embeddings, D and batch in tokens"
DIT = "N, C of diffusion transformers as the paper counts them; rectified-flow loss"


@dataclass(frozen=True)
class Published:
    """A law as it was printed: `parameters` by the law's names, in the units of `convention`.

    `intervals` are the printed 95% intervals; `note` says what to know before comparing.
    """

    name: str
    law: Law
    parameters: Mapping[str, float]
    source: str
    convention: str
    note: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def predict(self, **variables):
        """The law's value at `variables`, arrays of one shape or numbers."""
        return self.law.loss(self.parameters, **variables)


@dataclass(frozen=True)
class Exponent:
    """A printed exponent a of N_opt ~ C^a with its 95% interval where one was printed."""

    value: float
    source: str
    interval: tuple[float, float] | None = None


def _image(side: int, floor: float, scale: float, alpha: float) -> Published:
    return Published(
        f"henighan2020_{side}x{side}",
        FRONTIER,
        {"E": floor, "A": (scale * PF_DAY) ** alpha, "alpha": alpha},
        "Henighan 2020, images",
        f"C training FLOPs without embeddings; nats per image token, {side}x{side}",
        f"printed as {floor} + (C / {scale:g} PF-days)^-{alpha}",
    )


def _routed(router: str, *values: float) -> Published:
    return Published(
        f"clark2022_{router}",
        MOE_CLARK,
        dict(zip(("a", "b", "c", "d", "E_start", "E_max"), values, strict=True)),
        "Clark 2022, table 3",
        ROUTED,
    )


def _allocation(name: str, k: float, a: float, source: str, convention: str) -> Published:
    return Published(name, ALLOCATION, {"k": k, "a": a}, source, convention)


_MUENNIGHOFF_BASE = dict(
    E=exp(0.6254804), A=exp(6.255414), B=exp(7.3049974), alpha=0.3526596, beta=0.3526596
)
_GADRE_ETA = 0.272851 / 2
# Tao 2024 fitted N and N_v in millions, D in billions.
_TAO_ALPHA, _TAO_ALPHA_2 = 0.447, 0.671

PUBLISHED = {
    law.name: law
    for law in (
        Published(
            "kaplan2020",
            KAPLAN,
            {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
            "Kaplan 2020, table 2",
            KAPLAN_UNITS,
            "stopped early, data repeated: C is not 6ND",
        ),
        Published(
            "hoffmann2022",
            CHINCHILLA,
            {
                "E": exp(0.5267228),
                "A": exp(6.0073404),
                "B": exp(6.0179186),
                "alpha": 0.33917084,
                "beta": 0.2849083,
            },
            "Hoffmann 2022, approach 3, unrounded from the paper's source",
            MASSIVE_TEXT,
            "the optimiser had not converged (Besiroglu 2024)",
        ),
        Published(
            "hoffmann2022_rounded",
            CHINCHILLA,
            {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
            "Hoffmann 2022, equation 10",
            MASSIVE_TEXT,
            "rounding alone moves the best tokens per parameter at 5.88e23 FLOPs from 59 to 93",
        ),
        Published(
            "besiroglu2024",
            CHINCHILLA,
            {"E": 1.81686, "A": 482.006, "B": 2085.434, "alpha": 0.34781, "beta": 0.36585},
            "Besiroglu 2024, 240 runs read off Hoffmann's figure 4",
            MASSIVE_TEXT,
            "their Huber scale collapsed: least absolute deviations of log loss",
            {
                "E": (1.769, 1.871),
                "A": (285.2, 743.6),
                "B": (1042.0, 5810.0),
                "alpha": (0.317, 0.373),
                "beta": (0.331, 0.415),
            },
        ),
        Published(
            "sardana2024",
            CHINCHILLA,
            {"E": 1.45, "A": 33.66, "B": 138.9, "alpha": 0.18, "beta": 0.24},
            "Sardana 2024, table 1, all data",
            "N all parameters, D tokens, 10 to 10000 tokens per parameter",
        ),
        Published(
            "muennighoff2023",
            MUENNIGHOFF,
            {**_MUENNIGHOFF_BASE, "R_D_star": 15.387756, "R_N_star": 5.309743},
            "Muennighoff 2023, README of the datablations repository",
            C4,
            "a local optimum in R_D*, R_N*; the other five were held",
        ),
        Published(
            "gadre2024_rpj",
            OVERTRAINING,
            {"E": 1.836648, "a": 166.2110 * 6**_GADRE_ETA, "b": 366.6872, "eta": _GADRE_ETA},
            "Gadre 2024, RedPajama, the authors' code on the 5 runs they fit",
            "N all parameters, D tokens; nats per token on C4 validation",
            "their code's first coefficient, 166.2110, is a 6^-eta",
        ),
        _image(8, 3.13, 1.8e-8, 0.19),
        _image(16, 2.64, 1.6e-8, 0.16),
        _image(32, 2.21, 3.6e-9, 0.10),
        Published(
            "liang2024",
            POWER,
            {"A": 2.3943, "alpha": 0.0273},
            "Liang 2024 (DiT), loss at the best size",
            DIT,
        ),
        _allocation("liang2024_params", 0.0009, 0.5681, "Liang 2024 (DiT), N_opt(C)", DIT),
        _allocation("liang2024_data", 186.85, 0.4319, "Liang 2024 (DiT), D_opt(C)", DIT),
        _allocation(
            "llama3_2024_data",
            0.299,
            0.537,
            "Grattafiori 2024 (Llama 3), figure 3: its N*(C) is training tokens",
            "C training FLOPs, D tokens",
        ),
        _allocation(
            "deepseek2024_data",
            5.8316,
            0.4757,
            "Bi 2024 (DeepSeek LLM), equation 4",
            "C = M D, M non-embedding FLOPs per token; D tokens",
        ),
        Published(
            "step2025_learning_rate",
            STEP_LEARNING_RATE,
            {"c": 1.79, "p": -0.713, "q": 0.307},
            "Li 2025, step law",
            STEP,
        ),
        Published("step2025_batch", STEP_BATCH, {"c": 0.58, "q": 0.571}, "Li 2025, step law", STEP),
        _routed("s_base", -0.082, -0.108, 0.009, 1.104, 1.847, 314.478),
        _routed("rl_r", -0.083, -0.126, 0.012, 1.111, 1.880, 469.982),
        _routed("hash", -0.087, -0.136, 0.012, 1.157, 4.175, 477.741),
        Published(
            "krajewski2024",
            MOE_KRAJEWSKI,
            dict(E=0.47, g=2.1, a=18.1, b=30.8, gamma=0.58, alpha=0.115, beta=0.147),
            "Krajewski 2024, table 1, MoE",
            "N as the paper counts it at expansion 64, D tokens; nats per token on C4",
        ),
        Published(
            "krajewski2024_dense",
            CHINCHILLA,
            {"E": 0.47, "A": 16.3, "B": 26.7, "alpha": 0.126, "beta": 0.127},
            "Krajewski 2024, table 1, dense",
            "N as the paper counts it, D tokens; nats per token on C4",
        ),
        Published(
            "chen2025_code",
            PARALLEL,
            {"E": 0.691, "A": 1.130e7, "k": 0.3935, "alpha": 0.189},
            "Chen 2025 (ParScale), figure 2",
            PILE_CODE.format("Stack-V2 Python"),
        ),
        Published(
            "chen2025_pile",
            PARALLEL,
            {"E": 1.288, "A": 1.974e8, "k": 0.3345, "alpha": 0.196},
            "Chen 2025 (ParScale), figure 2",
            PILE_CODE.format("the Pile"),
        ),
        Published(
            "tao2024",
            VOCABULARY,
            {
                "E": -5.533,
                "A_1": 1.831 * 1e6**_TAO_ALPHA,
                "A_2": 0.196 * 1e6**_TAO_ALPHA_2,
                "B": 2.124 * 1e9**_TAO_ALPHA,
                "alpha": _TAO_ALPHA,
                "alpha_2": _TAO_ALPHA_2,
            },
            "Tao 2024, parametric approach",
            "N, N_v parameters without and of the vocabulary, D tokens; nats less a unigram's",
            "a loss normalised by a unigram model: negative",
        ),
    )
}

PORIAN = "Porian 2024, RefinedWeb, "
EXPONENTS = {
    "kaplan2020": Exponent(0.73, "Kaplan 2020, figure 14"),
    "henighan2020_8x8": Exponent(0.64, "Henighan 2020, images 8x8"),
    "hoffmann2022_1": Exponent(0.50, "Hoffmann 2022, approach 1"),
    "hoffmann2022_2": Exponent(0.49, "Hoffmann 2022, approach 2"),
    "hoffmann2022_3": Exponent(0.46, "Hoffmann 2022, approach 3"),
    "porian2024_kaplan": Exponent(0.8353, PORIAN + "Kaplan's setting", (0.8235, 0.8460)),
    "porian2024_head": Exponent(0.7065, PORIAN + "head FLOPs counted", (0.6915, 0.7169)),
    "porian2024_warmup": Exponent(0.6020, PORIAN + "short warm-up", (0.5914, 0.6173)),
    "porian2024_cosine": Exponent(0.5715, PORIAN + "cosine to each budget", (0.5598, 0.5885)),
    "porian2024_tuned": Exponent(0.4969, PORIAN + "tuned per size", (0.4907, 0.5045)),
    "liang2024": Exponent(0.5681, "Liang 2024 (DiT)"),
    "von_rutte2025": Exponent(0.588, "von Rutte 2025, masked text diffusion"),
}
