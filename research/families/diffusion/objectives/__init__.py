"""What the network of a diffusion model learns of a batch.

An objective is a part (`research.parts`), a module with

    loss(config, params, batch, key, step, reference) -> (scalar, metrics), where `reference` are
        frozen parameters or None

and, where it needs them,

    reference(config, params) -> parameters that lie frozen beside the trained ones, to be filled by
        config.init_from.reference
    sample(config, params, noise, key, given) -> x_0 [B, H, W, C] from standard normal noise, where
        it does not learn a denoiser that samplers may call
    BOUND = False where the network denoises nothing, so that there is no bound to score
"""

OBJECTIVES = {"denoising": "research.families.diffusion.objectives.denoising"}
