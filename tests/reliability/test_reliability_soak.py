"""`make soak` in small: workers of a sweep die at random, nothing is lost or done twice."""

import pytest

from tests import tiny
from tests.reliability import soak


@pytest.mark.slow
def test_workers_killed_at_random(undisturbed, workdir):
    spec = tiny.write(workdir, tiny.TWO_SIZES)
    died, said = soak.run(spec, workdir / "tiny", kills=6, mean=0.7)
    assert died.total() > 0  # a fast machine may end before the sixth
    assert max(said.values()) == 1
    assert tiny.left(workdir / "tiny") == undisturbed
