"""Settings of the HTTP process, in addition to the common ones; every field has a unit and a bound."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from client.api import LOOPBACK
from client.settings import format_address, format_local_address
from store.settings import CommonSettings

_MIN_KEY_LENGTH = 16  # characters, which no `changeme` has; generated keys have 256 bits


class Settings(CommonSettings):
    """The settings of the HTTP process, immutable; read once in `main` and passed on."""

    batch_size: ClassVar[int] = 32  # texts or pictures encoded at once
    queue_limit: ClassVar[int] = 128  # texts or pictures that wait; with more: 503
    json_bytes: ClassVar[int] = 64 << 10
    batch_bytes: ClassVar[int] = 64 << 20  # of the pictures of one batch
    dataset_bytes: ClassVar[int] = 512 << 20
    body_seconds: ClassVar[float] = 30.0  # in which a body must have arrived, but for a dataset
    dataset_seconds: ClassVar[float] = 900.0  # in which a dataset must have: 600 kB a second
    drain_seconds: ClassVar[float] = 0.5  # at a shutdown, from the first 503 of `/readyz` to the closed socket
    watch_seconds: ClassVar[float] = 0.5  # between two looks for new releases and pictures

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8321, ge=0, le=65_535, description="Port to listen on; 0: any free port.")
    admin_key: str = Field("", repr=False, max_length=256, description="The first key of scope admin.")
    open: bool = Field(False, description="On loopback, `search` and `write` need no key.")

    request_seconds: float = Field(2.0, gt=0, le=600, description="A request not encoded in this time: 503.")
    cache_size: int = Field(4_096, ge=0, le=10_000_000, description="Query vectors in the cache; 0: no cache.")
    rate_per_minute: int = Field(120_000, ge=1, le=10_000_000, description="Requests per minute with one key.")

    picture_bytes: int = Field(50_000_000, ge=1 << 10, le=256 << 20, description="Largest picture, bytes.")
    picture_pixels: int = Field(64_000_000, ge=1_000_000, le=400_000_000, description="Largest picture, pixels.")
    keep_originals: bool = Field(False, description="Keep the bytes of pictures as they were sent, too.")
    free_bytes: int = Field(256 << 20, ge=0, description="Free disk space that a write must leave, bytes.")
    recall: float = Field(0.97, ge=0.5, le=1, description="Share of the nearest ten that an approximate index finds.")
    unknown_words: bool = Field(
        False, description="Count words of searches that nobody taught, to ask for them first; not who searched."
    )
    decoders: int = Field(1, ge=1, le=64, description="Processes that decode pictures.")

    @property
    def key_file(self) -> Path:
        """The file of the admin key that is generated in `local` when none is set."""
        return self.home / "admin.key"

    @cached_property
    def upload_seconds(self) -> float:
        """For which a picture for the gallery may wait in a queue."""
        return max(self.body_seconds, self.request_seconds)

    def make_address(self, port: int | None = None) -> str:
        """Return the URL of the service; `port` is the actual port where the setting is 0."""
        return format_address(self.host, self.port if port is None else port)

    def make_local_address(self) -> str:
        """Return the URL under which a process of this machine finds the service."""
        return format_local_address(self.host, self.port)

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if self.open and self.host not in LOOPBACK:
            raise ValueError("PICTOGLOT_OPEN needs PICTOGLOT_HOST to be a loopback address")
        if self.environment != "local" and len(self.admin_key) < _MIN_KEY_LENGTH:
            raise ValueError("PICTOGLOT_ADMIN_KEY must be set to a key of at least 16 characters outside `local`")
        return self
