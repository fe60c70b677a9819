"""Whether the service is alive and ready."""

from typing import Literal

from service.schemas.common import Problem, Response


class Live(Response):
    status: Literal["alive"] = "alive"


class Serving(Response):
    """What serves, and what is amiss with it."""

    release: int | None
    base: str
    generations: dict[str, str]
    degraded: list[str]


class Ready(Serving):
    status: Literal["ready"] = "ready"


class NotReady(Serving, Problem):
    """No searches are taken: `index_unavailable`."""
