"""What the network of a diffusion model learns of a batch.

An objective is a part (`research.parts`), a module with

    loss(config, params, batch, key, step, reference) -> (scalar, metrics), where `reference` are
        frozen parameters or None

and, where it needs them,

    reference(config, params) -> parameters that lie frozen beside the trained ones, to be filled by
        config.init_from.reference, or None
    init(config, key), axes(config), where its parameters are more than those of one network;
        drawn(params) -> then those of the network that images are drawn with, and
        adopted(params) -> its parameters from those of a run of one network, which
        config.init_from.run names
    TWO_TIMES = True where the network is a map from one log-SNR to another, both given
    sample(config, params, noise, key, given, steps) -> y [B, H, W, C] at gamma_min from standard
        normal noise, in at most `steps` calls, where it learns no denoiser for samplers to call.
        There is then no bound to score, and the energy distance to held-out images of what is
        drawn stands in for it, in calls(config) of the network, 1 by default
    scores(config, params, noise, given) -> {name: [B]} of further such estimates, and
        more_kinds() -> {name: {"unit", "kind", "better"}} of them
"""

_HERE = "research.families.diffusion.objectives"
OBJECTIVES = {
    name: f"{_HERE}.{name}"
    for name in (
        "denoising",
        "sliced_score_matching",
        "consistency",
        "mean_flow",
        "progressive",
        "reflow",
        "distribution_matching",
    )
}
