"""Whether a compiler for TPUs is here; what needs it says so where it is not."""

import importlib.util

import pytest


@pytest.fixture
def libtpu():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (requirements-pods.txt; Linux on x86-64)")
