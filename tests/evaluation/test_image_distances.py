"""Distances between sets of features, against closed forms and against their own definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from research.errors import UserError
from research.evaluation import frechet, inception_score, kernel_distance, nearest
from research.evaluation import precision_recall as prdc


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_frechet_distance_of_two_normals_is_the_closed_form():
    eye = np.eye(64)
    found = frechet.distance(np.zeros(64), eye, np.full(64, 0.1), 4 * eye)
    assert found == pytest.approx(64.64, rel=1e-12)
    x = normals(0, 50, 6)
    shift = np.arange(6.0)
    assert frechet.frechet(x, x + shift) == pytest.approx(shift @ shift, rel=1e-9)
    assert frechet.frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_covariances_that_commute_and_that_do_not():
    turn = np.linalg.qr(normals(0, 5, 5))[0]
    a, b = np.array([0.0, 0.5, 1, 2, 9]), np.array([1.0, 0.25, 4, 0, 16])
    found = frechet.distance(np.zeros(5), turn * a @ turn.T, np.zeros(5), turn * b @ turn.T)
    assert found == pytest.approx(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-9)
    x, y = normals(1, 40, 5) * np.arange(1, 6), normals(2, 30, 5) @ turn + 1
    (m, s), (n, t) = ((each.mean(0), np.cov(each, rowvar=False)) for each in (x, y))
    expected = ((m - n) ** 2).sum() + np.trace(s + t) - 2 * np.trace(linalg.sqrtm(s @ t)).real
    assert frechet.frechet(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet.frechet(y, x) == pytest.approx(expected, rel=1e-9)


def test_the_bias_of_n_images_is_the_formula():
    """Alike, and against the truth: (D + D (D + 1) / 4) / n."""
    size, n, zero, eye = 6, 400, np.zeros(6), np.eye(6)
    found = []
    for seed in range(200):
        x = normals(seed, n, size)
        found.append(frechet.distance(x.mean(0), np.cov(x, rowvar=False), zero, eye))
    assert np.mean(found) == pytest.approx((size + size * (size + 1) / 4) / n, rel=0.06)


@pytest.fixture(scope="module")
def repeated():
    """60 times both distances of N(0, I) to N(.3, 2.25 I) in 4 dimensions, by 160 images each."""
    pairs = (
        frechet.distances(normals([0, s], 160, 4), 0.3 + 1.5 * normals([1, s], 160, 4))
        for s in range(60)
    )
    return [list(each) for each in zip(*pairs, strict=True)]


def test_the_extrapolation_has_no_bias_and_the_right_error(repeated):
    truth = 4 * (0.3**2 + 0.5**2)
    plain, unbiased = ([each.value for each in side] for side in repeated)
    error = np.std(unbiased, ddof=1) / np.sqrt(len(unbiased))
    assert abs(np.mean(unbiased) - truth) < 3 * error
    assert np.mean(plain) - truth > 5 * error
    said = [each.interval[1] - each.value for each in repeated[1]]
    assert np.mean(said) / 1.96 == pytest.approx(np.std(unbiased, ddof=1), rel=0.25)
    hits = [each.interval[0] < truth < each.interval[1] for each in repeated[1]]
    assert np.mean(hits) > 0.85


def test_merged_sums_are_the_moments_of_all():
    x = 1e4 + normals(0, 97, 3)
    groups = [frechet._sums(x[rows], x.mean(0)) for rows in frechet._groups(len(x))]
    mean, covariance = frechet.moments(groups)
    np.testing.assert_allclose(mean, 0, atol=1e-9)
    np.testing.assert_allclose(covariance, np.cov(x, rowvar=False), rtol=1e-9)


def test_squared_mmd_is_its_definition():
    x, y = normals(0, 5, 3), normals(1, 4, 3)

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    within = [
        np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])
        for z in (x, y)
    ]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance.squared_mmd(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kernel_distance_is_zero_on_average_with_the_right_error():
    found = [
        kernel_distance.kernel_distance(normals([0, s], 128, 4), normals([1, s], 128, 4))
        for s in range(300)
    ]
    values = np.array([each.value for each in found])
    errors = np.array([(each.interval[1] - each.value) / 1.96 for each in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)
    assert np.mean(errors**2) == pytest.approx(values.var(), rel=0.25)
    apart = kernel_distance.kernel_distance(normals(0, 128, 4), 1 + normals(1, 128, 4))
    assert apart.interval[0] > 0


def test_inception_score_of_certain_classes_is_how_many_they_are():
    certain = np.eye(7)[np.arange(140) % 7]
    assert inception_score.inception_score(certain).value == pytest.approx(7, rel=1e-12)
    alike = np.full((40, 7), 1 / 7)
    found = inception_score.inception_score(alike)
    assert found.value == pytest.approx(1) and found.interval == pytest.approx((1, 1))
    one = np.eye(7)[np.zeros(40, int)]
    assert inception_score.inception_score(one).value == pytest.approx(1)


@given(st.integers(2, 6), st.integers(0, 99), st.floats(0.1, 20))
def test_inception_score_is_between_one_and_the_classes(classes, seed, sharp):
    logits = sharp * normals(seed, 30, classes)
    p = np.exp(logits - logits.max(1, keepdims=True))
    found = inception_score.inception_score(p / p.sum(1, keepdims=True)).value
    assert 1 - 1e-9 <= found <= classes + 1e-9


def test_equal_sets_have_all_four_and_distant_ones_none():
    x = normals(0, 60, 3)
    same, apart = prdc.precision_recall(x, x), prdc.precision_recall(x, x + 100)
    found = {name: each.value for name, each in same.items()}
    assert found == pytest.approx(dict.fromkeys(prdc.NAMES, 1.0), rel=1e-12)
    assert {name: each.value for name, each in apart.items()} == dict.fromkeys(prdc.NAMES, 0.0)


def test_the_four_scores_are_their_definitions(monkeypatch):
    monkeypatch.setattr(prdc, "ROWS", 7)
    drawn, real = normals(0, 31, 2), 0.5 + 1.3 * normals(1, 40, 2)

    def reach(z, k):
        return [sorted(np.hypot(*(z - each).T))[k] for each in z]

    apart = np.hypot(*(drawn[:, None] - real).transpose(2, 0, 1))
    expected = {
        "precision": (apart <= reach(real, 3)).any(1).mean(),
        "recall": (apart.T <= reach(drawn, 3)).any(1).mean(),
        "density": (apart < reach(real, 5)).sum() / (5 * 31),
        "coverage": (apart < reach(real, 5)).any(0).mean(),
    }
    found = prdc.precision_recall(drawn, real)
    assert {name: each.value for name, each in found.items()} == pytest.approx(expected)


def test_a_generator_that_draws_one_mode_has_precision_and_no_recall():
    real = np.concatenate([normals(0, 100, 2), 50 + normals(1, 100, 2)])
    found = prdc.precision_recall(normals(2, 200, 2) * 0.3, real)
    assert found["precision"].value > 0.9 and found["coverage"].value < 0.5


def test_planted_copies_are_found(monkeypatch):
    monkeypatch.setattr(nearest, "ROWS", 16)
    train, fresh, held = normals(0, 400, 64), normals(1, 50, 64), normals(2, 80, 64)
    drawn = np.concatenate([train[:50] + 1e-6, fresh])
    assert nearest.copies(drawn, train).value == 0.5
    assert nearest.copies(held, train).value == 0
    assert nearest.nearer(train[:50], held, train).value == 1
    assert nearest.nearer(held, held, train).value == 0.5
    honest = nearest.nearer(fresh, held, train)
    assert honest.interval[0] < 0.5 < honest.interval[1]
    found = nearest.neighbours(drawn, train, 3)
    expected = np.sort(np.linalg.norm(drawn[:, None] - train, axis=-1), 1)[:, :3]
    np.testing.assert_allclose(found, expected, atol=1e-7)


NAN, ONES = np.full((90, 3), np.nan), np.ones((90, 2))


@pytest.mark.parametrize("judge", [frechet.frechet, frechet.distances, prdc.precision_recall])
@pytest.mark.parametrize(
    "x, y, said",
    [
        (normals(0, 90, 3), normals(0, 90, 4), "features of dimensions 3 and 4 do not compare"),
        (normals(0, 90, 3), NAN, "those of 90 of 90 images are not finite"),
        (normals(0, 90), normals(0, 90, 3), r"features of images are \[90\]"),
        (normals(0, 3, 3), normals(0, 90, 3), "3 images"),
    ],
)
def test_what_has_no_distance_is_refused(judge, x, y, said):
    with pytest.raises(UserError, match=said) as error:
        judge(x, y)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: frechet.frechet(normals(0, 6, 6), normals(1, 90, 6)), "6 images .* at least 7"),
        (lambda: frechet.distances(normals(0, 20, 9), normals(1, 90, 9)), "valid: 40"),
        (lambda: kernel_distance.kernel_distance(normals(0, 31, 2), ONES), "valid: 32"),
        (lambda: kernel_distance.kernel_distance(NAN + 1, ONES), "are not finite"),
        (lambda: kernel_distance.kernel_distance(normals(0, 90, 3), ONES), "do not compare"),
        (lambda: nearest.copies(normals(0, 9, 2), normals(1, 49, 2)), "50 nearest .* there are 49"),
        (lambda: inception_score.inception_score(np.ones((40, 3))), "sum to 1 for each image"),
        (lambda: inception_score.inception_score(np.ones((9, 1))), "9 images are too few"),
        (lambda: inception_score.inception_score(NAN), "are not finite"),
    ],
)  # fmt: skip
def test_too_few_and_impossible_are_refused(call, said):
    with pytest.raises(UserError, match=said):
        call()
