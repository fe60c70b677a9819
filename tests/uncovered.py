"""A plugin of `make test`: which tests run without measuring coverage. Changes no test.

On Python 3.11 measuring costs half as much time again as the tests themselves. Long tests, those of whole programs,
and all cases of a parametrized test but the first, repeat lines of others; a test that asserts a time would count the
measuring: these are left out. From 3.12 on only the last are.
"""

import sys

import pytest

_PARTS = ("tests/contract/", "tests/index/", "tests/model/", "tests/service/", "tests/worker/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them for pytest-cov."""
    cheap, measured = sys.version_info >= (3, 12), set[str]()
    for item in items:
        test = item.nodeid.partition("[")[0]
        repeats = item.get_closest_marker("slow") is not None or test in measured or not test.startswith(_PARTS)
        measured.add(test)
        if item.get_closest_marker("timing") is not None or (repeats and not cheap):
            item.add_marker("no_cover")
