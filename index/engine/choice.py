"""The former place of `open_engine`."""

from index.engine import open_engine as open_engine
