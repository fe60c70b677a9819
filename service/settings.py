"""Settings of the HTTP process, in addition to the common ones; every field has a unit and a bound."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from client.api import LOOPBACK
from client.settings import format_address, format_local_address
from store.settings import CommonSettings

EVERYBODY = "*"  # the group of all people
_HTTPS = r"https://[^/\s]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"  # a cookie that is Secure needs TLS
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
    session_seconds: ClassVar[float] = 12 * 3_600.0  # until a person signs in again
    remembered_seconds: ClassVar[float] = 30 * 86_400.0  # for which a browser remembers a key

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8321, ge=0, le=65_535, description="Port to listen on; 0: any free port.")
    processes: int = Field(1, ge=1, le=64, description="API processes on that port.")
    admin_key: str = Field("", repr=False, max_length=256, description="The first key of scope admin.")
    open: bool = Field(False, description="On loopback, `search` and `write` need no key.")

    public_url: str = Field(
        "", pattern=rf"^({_HTTPS})?/?$", description="Where people open it: `https://…`, or http on loopback."
    )
    proxy_secret: str = Field("", repr=False, max_length=256, description="What the proxy sends as `X-Proxy-Secret`.")
    proxy_user_header: str = Field("X-Forwarded-User", pattern=r"^[\w-]+$", description="Header with the user.")
    proxy_groups_header: str = Field("X-Forwarded-Groups", pattern=r"^[\w-]+$", description="Header with the groups.")
    proxy_addresses: str = Field("127.0.0.0/8 ::1", description="Addresses and networks from which the proxy asks.")
    oidc_issuer: str = Field(
        "", pattern=rf"^(({_HTTPS})(/\S*)?)?$", description="Issuer of OpenID Connect with which people sign in."
    )
    oidc_client_id: str = Field("pictoglot", min_length=1, description="What the issuer calls this service.")
    oidc_client_secret: str = Field("", repr=False, description="The secret for it; empty: none.")
    oidc_scopes: str = Field("openid profile", pattern=r"\bopenid\b", description="Scopes to ask for, with `openid`.")
    oidc_groups_claim: str = Field("groups", min_length=1, description="Claim with the groups of a person.")

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

    @property
    def proxy_networks(self) -> list[IPv4Network | IPv6Network]:
        return [ip_network(each) for each in self.proxy_addresses.replace(",", " ").split()]

    @field_validator("public_url")
    @classmethod
    def _make_origin(cls, url: str) -> str:
        return url.rstrip("/").lower()

    @field_validator("proxy_addresses")
    @classmethod
    def _check_addresses(cls, addresses: str) -> str:
        for each in addresses.replace(",", " ").split():
            ip_network(each)  # raises ValueError, with a sentence
        return addresses

    @model_validator(mode="after")
    def _refuse_unclear_people(self) -> Self:
        if not (self.proxy_secret or self.oidc_issuer):
            return self
        if self.proxy_secret and len(self.proxy_secret) < _MIN_KEY_LENGTH:
            raise ValueError(f"PICTOGLOT_PROXY_SECRET must have {_MIN_KEY_LENGTH} characters or more")
        if self.open:
            raise ValueError("PICTOGLOT_OPEN lets everybody in: it cannot be set where people sign in")
        if not self.groups or not self.public_url:
            raise ValueError("where people sign in, PICTOGLOT_GROUPS and PICTOGLOT_PUBLIC_URL must be set")
        return self

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if self.open and self.host not in LOOPBACK:
            raise ValueError("PICTOGLOT_OPEN needs PICTOGLOT_HOST to be a loopback address")
        if self.environment != "local" and len(self.admin_key) < _MIN_KEY_LENGTH:
            raise ValueError("PICTOGLOT_ADMIN_KEY must be set to a key of at least 16 characters outside `local`")
        return self
