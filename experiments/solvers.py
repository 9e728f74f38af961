"""How few calls does each solver need, and does a model made for few steps catch up?

Question: images of one diffusion model on 16x16 glyphs, along straight paths, by each solver in 4
to 32 calls of the network; of models of its size and training FLOPs that are made for few steps;
and of students that are distilled from it: what is the Frechet distance of each?
Cost: 4.8e12 FLOPs in 6 trials, 5 minutes on two cores; four students of 2e11 each, 2.5 minutes; and
6 minutes for 84 rows of 512 images. The rows are in solvers.csv, of the commands below.
Expected by the literature: solvers of second order need 10 to 20 calls (Lu et al. 2022), students
lose little down to 4 steps (Salimans & Ho 2022), and one step from scratch nearly reaches many
(Song & Dhariwal 2024; Geng et al. 2025).
Found:

- The flow itself has a distance of 34.5, whichever solver follows it (extrapolated to endless
  images, mean of two seeds, of which each has an interval of 15%; held-out images have 2.4). UniPC
  is there in 8 calls (34.4) and close in 4 (40), DPM-Solver++ 2M in 8 (34.6), second-order
  DPM-Solver in 16 (35.8; 39 in 8), Heun in 16 (34.9), DDIM hardly in 32 (37.0). In 4 calls they are
  40, 58, 76, 115 and 104.
- Single-step DPM-Solver of third order is unfit for few: 335 in 6 calls, 61 in 15, 37 in 33.
- Noise on the way is worth more than any order: DPM-Solver++ SDE has 23.4 in 8 calls and 28 in 32,
  as it mends what the network gets wrong where the flow keeps it. DDPM needs 16 for 39.
- Progressive distillation loses little: students of 8, 4, 2 steps and 1 have 40, 41, 43 and 47
  [41, 54]. Each takes a quarter of the teacher's training FLOPs, and follows those before it: that
  of 8 steps costs 1.25 times what the teacher does, that of one step twice as much. One call then
  draws better than four of any solver but UniPC.
- From scratch few steps are dear. MeanFlow in one call draws the mean of what there is (695), and
  falls as calls^-1.1 [-1.3, -.9] to 37 in 16, as a diffusion model would: it has learned
  velocities, not jumps. Consistency has 115 in one call of one seed and 334 of the other, 74 in 16.

It found a fault, too: UniPC had 73 in 16 steps, as its last, by a parabola to hardly any noise, is
long there; its last two are of second order since.

Why not more: one size and budget; nothing of the one-step models' own settings was tuned; the
students are one seed.

Literature: partly: agrees with Lu et al. 2022 and with Salimans & Ho 2022, disagrees that one-step
models from scratch are near (Song & Dhariwal 2024; Geng et al. 2025), at a millionth of their
compute.

    python -m research evaluate --run runs/solvers --part denoising --evaluators frechet \
        --over sampler=ddim,ddpm,dpm_solver_pp_2m,dpm_solver_pp_sde,unipc --over steps=4,8,16,32 \
        --out rows.csv
    python -m research train --config experiments/solvers.py:few_steps --config.size=32 \
        --config.budget=2e11 --config.model.process=flow --config.model.prediction=velocity \
        --config.model.schedule=flow --config.model.objective=progressive \
        --config.model.student_steps=8 --config.init_from.run=TEACHER \
        --config.init_from.reference=TEACHER --workdir runs/student_8
    python -m research power experiments/solvers.csv --loss frechet_unbiased --over calls \
        --by sampler --where "part == 'few_steps'"

At the size of a pod: a size of 512 and a budget of 5e16 in a copy of this file.
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {
    "denoising": diffusion_isoflop.PARTS["images"] | {"title": "A diffusion model, by solver"},
    "few_steps": diffusion_isoflop.PARTS["images"]
    | {"title": "Models made for few steps", "unit": "energy distance"},
}
ANSWERS = (
    "power --loss frechet_unbiased --over calls --by sampler"
    " --where \"part == 'denoising' and calls <= 8 and sampler != 'dpm_solver_3'\"",
    "power --loss frechet_unbiased --over calls --by sampler --where \"part == 'few_steps'\"",
)
SIZE, BUDGET, SEEDS = 32, 8e11, (0, 1)
STRAIGHT = {"model.process": "flow", "model.prediction": "velocity", "model.schedule": "flow"}
ARMS = {
    "denoising": {"denoising": STRAIGHT},
    "few_steps": {
        "mean_flow": STRAIGHT | {"model.objective": "mean_flow"},
        "consistency": {"model.objective": "consistency"},
    },
}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder."""
    config = diffusion_isoflop.get_config("images")
    config.part = part
    return config


def get_trials(part: str) -> list[dict]:
    """A diffusion model along straight paths, and two kinds of model made for few steps."""
    return [
        {"arm": arm, "size": SIZE, "budget": BUDGET, "seed": seed} | keys
        for arm, keys in ARMS[part].items()
        for seed in SEEDS
    ]
