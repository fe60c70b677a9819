"""A plugin of `make test`: which tests run without measuring coverage. Changes no test.

On Python 3.11 measuring costs time, up to 40 % where a test only computes. Long tests repeat lines of short ones, and
a test that asserts a time would count the measuring: both are left out. From 3.12 on only the second is.
"""

import sys

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them for pytest-cov."""
    left_out = ("timing",) if sys.version_info >= (3, 12) else ("timing", "slow")
    for item in items:
        if any(item.get_closest_marker(name) for name in left_out):
            item.add_marker("no_cover")
