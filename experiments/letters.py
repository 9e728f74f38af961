"""What does a diffusion model draw after ten minutes on two cores?

Question: class-conditional 16x16 glyphs, a category of characters in one of 18 styles: can a
person read them, and how far are they from held-out ones?
Cost: 9.0e12 FLOPs in one run, 11 minutes on two cores as two devices (JAX_NUM_CPU_DEVICES=2),
12.5 with its scores; 7.4e12 FLOPs are ten minutes.
Expected by experiments/diffusion_choices.py: straight paths draw what eps draws with a fifth of
its FLOPs, and guidance by 2 brings a factor more (experiments/sampling_compute.py).
Found: capitals of the style that is asked for, serifs, weights and slants among them, can be
read, many with accents that no font has on them (notebooks/letters.gif). Guided by 2, in 16
steps, the Frechet distance of 512 images is 12.6 [9.9, 15.4], where as many held-out ones have
9.0 [6.8, 11.3]; extrapolated to endless images 5.8 [2.1, 9.4] and 2.4. The best of
experiments/diffusion_isoflop.csv, eps without classes or guidance, has 35 with a third of the
FLOPs.

    JAX_NUM_CPU_DEVICES=2 python -m research train --config experiments/letters.py \
        --workdir runs/letters
    python -m research sample --run runs/letters --class "Lu DejaVuSerif-Bold" --film 12 \
        --out letters.gif
"""

from ml_collections import ConfigDict

from experiments import sampling_compute

PARTS = {"images": sampling_compute.PARTS["images"] | {"title": "Glyphs in ten minutes"}}


def get_config(part: str) -> ConfigDict:
    """One run, along straight paths, which draw best in experiments/diffusion_choices.csv."""
    config = sampling_compute.get_config("images")
    config.part, config.size, config.budget = part, 48, 9e12
    config.model.update(process="flow", prediction="velocity", schedule="flow")
    config.train.batch_size = 32
    config.evaluation.evaluators = ("validation", "frechet")
    config.sampling.update(num=64, guidance=2.0)
    config.log_steps = 200
    return config


def get_trials(part: str) -> list[dict]:
    """One run."""
    return [{}]
