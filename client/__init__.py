"""The HTTP client of a running service, and the command line that stands on it."""

from .api import Client, RefusedError

__all__ = ["Client", "RefusedError"]
