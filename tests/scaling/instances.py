"""One instance of every law: a table's variables [rows] and plausible true parameters."""

import numpy as np

from research.scaling.laws import LAWS, Law, mixture


def _grid(**axes) -> dict[str, np.ndarray]:
    meshes = np.meshgrid(*axes.values(), indexing="ij")
    return {name: mesh.ravel().astype(float) for name, mesh in zip(axes, meshes, strict=True)}


SIZES = np.geomspace(1e7, 1e10, 6)
AMOUNTS = np.geomspace(1e9, 1e12, 6)
CURVE = {"D": np.geomspace(1e3, 1e9, 30)}
SURFACE = _grid(N=SIZES, D=AMOUNTS)
FEW = _grid(N=SIZES[::2], D=AMOUNTS[::2])
SMALL = np.geomspace(1e6, 1e9, 6)
TEACHERS = _grid(N=SIZES[::2], D=AMOUNTS[::2], teacher_loss=np.linspace(1.8, 3.0, 5))
TEACHERS["supervised_loss"] = (
    1.5 + (3e3 / TEACHERS["N"] ** 0.4 + 1e4 / TEACHERS["D"] ** 0.42) ** 0.5
)

# name: (variables, true parameters in the law's order)
INSTANCES: dict[str, tuple[dict[str, np.ndarray], tuple[float, ...]]] = {
    "chinchilla": (SURFACE, (1.7, 406.0, 410.0, 0.34, 0.28)),
    "frontier": ({"C": np.geomspace(1e15, 1e21, 12)}, (1.7, 300.0, 0.12)),
    "power": ({"C": np.geomspace(1e15, 1e21, 12)}, (30.0, 0.05)),
    "size": ({"N": np.geomspace(1e7, 1e10, 12)}, (1.7, 300.0, 0.3)),
    "size_power": ({"N": np.geomspace(1e7, 1e10, 12)}, (30.0, 0.1)),
    "kaplan": (SURFACE, (6.4e13, 1.8e13, 0.076, 0.103)),
    "muennighoff": (
        _grid(N=np.geomspace(1e7, 1e10, 5), D=AMOUNTS[:4], U=np.geomspace(1e8, 1e10, 4)),
        (1.87, 521.0, 1488.0, 0.353, 0.36, 15.4, 5.3),
    ),
    "overtraining": (SURFACE, (1.84, 200.0, 370.0, 0.1364)),
    "loss_to_error": ({"loss": np.linspace(2.0, 6.0, 20)}, (0.86, 2.2, 0.72)),
    "m1": (CURVE, (20.0, 0.2)),
    "m2": (CURVE, (0.3, 20.0, 0.3)),
    "m3": (CURVE, (20.0, 1e-6, 0.3)),
    "m4": (CURVE, (0.1, 0.8, 0.7, 50.0, 0.3)),
    "bnsl1": (CURVE, (0.2, 3.0, 0.05, 0.4, 1e6, 0.5)),
    "bnsl2": (CURVE, (0.1, 3.0, 0.05, 0.35, 1e5, 0.3, -0.25, 1e7, 0.3)),
    "bnsl3": (CURVE, (0.1, 3.0, 0.05, 0.4, 3e4, 0.3, -0.35, 1e6, 0.3, 0.4, 5e7, 0.3)),
    "step_learning_rate": (SURFACE, (1.79, -0.713, 0.307)),
    "step_batch": ({"D": AMOUNTS}, (0.58, 0.571)),
    "allocation": ({"C": np.geomspace(1e18, 1e22, 6)}, (0.1, 0.5)),
    "moe_clark": (
        _grid(N=SIZES, experts=2.0 ** np.arange(10)),
        (-0.082, -0.108, 0.009, 1.104, 1.847, 314.478),
    ),
    "moe_krajewski": (
        _grid(N=SIZES[::2], D=AMOUNTS[::2], granularity=2.0 ** np.arange(5)),
        (0.47, 2.1, 18.1, 30.8, 0.58, 0.115, 0.147),
    ),
    "parallel": (_grid(N=SIZES, streams=[1, 2, 4, 8]), (1.288, 1.974e8, 0.3345, 0.196)),
    "vocabulary": (
        _grid(N=SMALL, vocabulary_parameters=SMALL[::2], D=AMOUNTS[::2]),
        (0.5, 400.0, 30.0, 2e3, 0.4, 0.3),
    ),
    "precision": (
        _grid(
            N=SIZES[::2],
            D=AMOUNTS[::2],
            weight_bits=[3, 6, 12],
            activation_bits=[3, 12],
            cache_bits=[3, 12],
        ),
        (1.8, 406.0, 1410.0, 0.34, 0.35, 2.7, 2.2, 0.95),
    ),
    "quantisation": (
        _grid(N=SIZES[::2], D=AMOUNTS[::2], bits=[2, 3, 4, 6, 16]),
        (1.8, 406.0, 1410.0, 0.06, 0.34, 0.35, 0.5, 0.35, 0.6),
    ),
    "farseer": (
        _grid(N=np.geomspace(1e8, 1e10, 8), D=np.geomspace(1e9, 1e12, 8)),
        (-0.124, 0.123, 0.424, 88.0, -0.1, -5.8, -0.021, 0.169, -0.09),
    ),
    "supervised": (SURFACE, (1.5, 3e3, 1e4, 0.4, 0.42, 0.5)),
    "distillation": (TEACHERS, (2.5, 20.0, 1.3, 0.1, 2e3, 2e4, 0.32, 0.6, 0.76)),
    "mixture:4": (
        dict(
            zip(
                ("r_1", "r_2", "r_3"),
                np.random.default_rng(0).dirichlet(np.ones(4), 24).T[:3],
                strict=True,
            )
        ),
        (1.2, 1.5, -1.5, 0.3, -0.4),
    ),
}


def law(name: str) -> Law:
    """The law of an instance."""
    return LAWS[name] if name in LAWS else mixture(int(name.partition(":")[2]))


def instance(name: str) -> tuple[Law, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(law, variables [rows], true parameters [P], its values [rows])."""
    variables, truth = INSTANCES[name]
    values = law(name).loss(np.array(truth), **variables)
    return law(name), variables, np.array(truth), values
