"""Whether the service is alive and ready."""

from typing import Literal

from service.schemas.common import Answer


class Live(Answer):
    status: Literal["alive"] = "alive"


class Ready(Answer):
    status: Literal["ready", "not_ready"]
    release: int | None
    base: str
    generations: dict[str, str]
    degraded: list[str]
