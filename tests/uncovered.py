"""A plugin of `make test`: which tests run without measuring coverage. Changes no test.

Up to Python 3.11 every line that is measured costs time. Long tests repeat the lines of short ones, and a test of a time would
measure the measuring: both are left out. From Python 3.12 on measuring costs next to nothing, and only the second is.
"""

import sys

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them for pytest-cov."""
    left_out = ("timing",) if sys.version_info >= (3, 12) else ("timing", "slow")
    for item in items:
        if any(item.get_closest_marker(name) for name in left_out):
            item.add_marker("no_cover")
