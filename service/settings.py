"""Settings of the HTTP process, on top of the common ones; every field has a unit and a bound. Reads no file."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from model.settings import CommonSettings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PLACEHOLDERS = frozenset({"", "admin", "changeme", "change-me", "secret", "password", "placeholder", "test", "key"})
_SHORTEST_KEY = 16  # characters; the generated ones hold 256 bits


class Settings(CommonSettings):
    """Frozen; built once in `main` and passed down."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8321, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    admin_key: str = Field("", repr=False, max_length=256, description="The first key of scope admin.")
    open: bool = Field(False, description="On loopback, `search` and `write` need no key.")

    batch_size: int = Field(32, ge=1, le=1_024, description="Most texts or pictures encoded at once.")
    queue_limit: int = Field(128, ge=1, le=100_000, description="Most texts or pictures waiting; beyond: 503.")
    request_seconds: float = Field(2.0, gt=0, le=600, description="A request not encoded by then is answered 503.")
    cache_size: int = Field(4_096, ge=0, le=10_000_000, description="Query vectors kept; 0 keeps none.")
    rate_per_minute: int = Field(120_000, ge=1, le=10_000_000, description="Requests a minute for one key.")

    json_bytes: int = Field(64 << 10, ge=1 << 10, le=16 << 20, description="Largest JSON body, bytes.")
    picture_bytes: int = Field(10 << 20, ge=1 << 10, le=256 << 20, description="Largest picture, bytes.")
    dataset_bytes: int = Field(512 << 20, ge=1 << 10, le=64 << 30, description="Largest dataset, bytes.")
    free_bytes: int = Field(256 << 20, ge=0, description="Free space that a write must leave, bytes.")
    body_seconds: float = Field(30.0, gt=0, le=3_600, description="A body must be whole by then.")
    dataset_seconds: float = Field(900.0, gt=0, le=86_400, description="The same for a dataset.")

    drain_seconds: float = Field(0.5, ge=0, le=600, description="From readiness 503 to the closed socket, at a stop.")
    watch_seconds: float = Field(0.5, gt=0, le=60, description="How often releases and the gallery are followed.")
    decoders: int = Field(1, ge=1, le=64, description="Processes that decode pictures.")

    @property
    def key_file(self) -> Path:
        """Where the admin key is kept that is made in `local` when none is set."""
        return self.home / "admin.key"

    def address(self, port: int | None = None) -> str:
        """Where the service is found; `port` is what it got where the setting says 0."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port if port is None else port}"

    @model_validator(mode="after")
    def _keep_closed(self) -> Self:
        if self.open and self.host not in LOOPBACK:
            raise ValueError("PICTOGLOT_OPEN needs PICTOGLOT_HOST to be a loopback address")
        weak = self.admin_key in _PLACEHOLDERS or len(self.admin_key) < _SHORTEST_KEY
        if self.environment != "local" and weak:
            raise ValueError("PICTOGLOT_ADMIN_KEY must be set to a key of at least 16 characters outside `local`")
        return self
