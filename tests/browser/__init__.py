"""A package, so that the browser is closed after its tests: `conftest.py` has fixtures of this scope."""
