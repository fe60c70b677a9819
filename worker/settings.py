"""Settings of the worker, beside those it shares with the service. Reads the environment; starts nothing."""

from typing import ClassVar

from pydantic import Field

from store.settings import CommonSettings


class WorkerSettings(CommonSettings):
    """Settings of the worker and its child process."""

    look_seconds: ClassVar[float] = 1.0  # between looks into the registry: to renew a lease, and to find work
    match_seconds: ClassVar[float] = 60.0  # between looks whether the chance of a hit is to be fitted for a language

    min_recall: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the way from chance to 1 that held-out t2i R@10 must reach, "
        "or of a dictionary that of what was taught; 0: any.",
    )
    # 0.05 is five standard errors where 1,000 captions are measured before and after and a tenth of them change, so
    # that chance does not hold the table back even as the worst of 35 languages; with 100 captions it is 1.5
    forgetting_budget: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest drop in t2i R@1 that a new version may cause, in any served language.",
    )
    # at least three of the looks into the registry that renew a lease
    lease_seconds: float = Field(30, ge=3, le=600, description="Seconds after which a silent worker's work is free.")
    # 0 is for small galleries: each hour what has such rows is written again
    purge_days: int = Field(
        30, ge=0, le=3_650, description="Days within which what was deleted goes from segments and engines; 0: an hour."
    )
