"""Settings of the client commands: address and key of a service. Brings pydantic, so it is imported late."""

from pydantic import Field, ValidationInfo, field_validator

from service.settings import Listening, reachable_at


class ClientSettings(Listening):
    """Frozen; read by each command that asks a running service."""

    url: str = Field("", validate_default=True, description="Address of the service; empty: where HOST and PORT say.")
    key: str = Field("", repr=False, description="API key that is sent.")

    @field_validator("url")
    @classmethod
    def _complete(cls, url: str, others: ValidationInfo) -> str:
        listening = [others.data.get(name) for name in ("host", "port")]
        if url or None in listening:  # which is refused for itself
            return url.rstrip("/")
        host, port = listening
        return reachable_at(str(host), int(port or 0))
