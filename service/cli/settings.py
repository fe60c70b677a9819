"""Settings of the client commands: address and key of a service. Brings pydantic, so it is imported late."""

from pydantic import Field, field_validator

from model.settings import CommonSettings


class ClientSettings(CommonSettings):
    """Frozen; read by each command that asks a running service."""

    url: str = Field("http://127.0.0.1:8321", description="Address of the service.")
    key: str = Field("", repr=False, description="API key that is sent.")

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")
