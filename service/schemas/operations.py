"""Whether the service is alive and ready."""

from typing import Literal

from pydantic import Field

from service.schemas.common import Problem, Response


class Live(Response):
    status: Literal["alive"] = "alive"


class Serving(Response):
    """What is served, and what is wrong with it."""

    release: int | None
    base: str
    encoding: str = Field(description="What computes the vectors, for example `openvino in bfloat16`.")
    generations: dict[str, str] = Field(description="Of each vector set; empty without a key that may see all.")
    degraded: list[str] = Field(description="Codes, or with a key that may see all also sentences.")


class Ready(Serving):
    status: Literal["ready"] = "ready"


class NotReady(Serving, Problem):
    """No searches are accepted: `index_unavailable`."""
