"""Our distances against those of torch-fidelity: the same numbers from the same features."""

import sys
from unittest import mock

import numpy as np
import pytest

from research.evaluation import frechet, inception_score, kernel_distance, precision_recall

WHY = "needs requirements-fidelity.txt"
torch = pytest.importorskip("torch", reason=WHY)
# Its __init__ imports torchvision, which reads data sets and pictures, for arithmetic that needs
# neither; and a torchvision from PyPI cannot be imported beside a PyTorch that is built for CPUs.
UNUSED = [
    f"torchvision{part}" for part in ("", ".datasets", ".transforms", ".transforms.functional")
]
sys.modules |= dict.fromkeys(UNUSED, mock.MagicMock())
metric_fid, metric_kid, metric_isc, metric_prc = (
    pytest.importorskip(f"torch_fidelity.metric_{name}", reason=WHY)
    for name in ("fid", "kid", "isc", "prc")
)
for name in UNUSED:
    del sys.modules[name]

QUIET = dict(verbose=False)


@pytest.fixture(scope="module")
def features():
    draw = np.random.default_rng(0)
    mix = draw.normal(size=(24, 24))
    return draw.normal(size=(300, 24)) @ mix, 0.2 + 1.1 * draw.normal(size=(260, 24)) @ mix


def test_frechet_distance(features):
    statistics = [metric_fid.fid_features_to_statistics(torch.tensor(each)) for each in features]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)
    assert frechet.frechet(*features) == pytest.approx(*theirs.values(), rel=1e-9)


def test_kernel_distance(features):
    x, y = (each[:260] / 10 for each in features)
    settings = dict(kid_subsets=1, kid_subset_size=260, rng_seed=0, **QUIET)
    theirs = metric_kid.kid_features_to_metric(torch.tensor(x), torch.tensor(y), **settings)
    ours = kernel_distance.kernel_distance(x, y, blocks=1).value
    assert ours == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)


def test_inception_score(features):
    logits = torch.tensor(features[0][:, :10])
    theirs = metric_isc.isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    found = inception_score.inception_score(logits.softmax(1).numpy())
    assert found.value == pytest.approx(theirs, rel=1e-9)


def test_precision_and_recall(features):
    settings = dict(prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, **QUIET)
    theirs = metric_prc.prc_features_to_metric(*map(torch.tensor, features), **settings)
    ours = precision_recall.precision_recall(*features)
    assert 0.1 < theirs["precision"] < 1
    for name in ("precision", "recall"):
        assert ours[name].value == pytest.approx(theirs[name], abs=1e-6)
