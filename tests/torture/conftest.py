"""Torture waits more than it computes: its histories begin before all other tests, beside which they run."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "test_nothing_is_lost_back_or_mixed" not in item.nodeid)
