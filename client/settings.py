"""Settings of the client commands: address and key of a service. Brings pydantic, so it is imported late."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from service.settings import Listening, reachable_at
from store.settings import PREFIX, SettingsError, env_file, read_env_file, read_environment

_KEY = f"{PREFIX}KEY"
_ENVIRONMENT = "the environment"
_ADDRESS = (f"{PREFIX}URL", f"{PREFIX}HOST", f"{PREFIX}PORT")


class ClientSettings(Listening):
    """Frozen; read by each command that asks a running service.

    Address and key come from the environment or from `.env`, never one from each: a downloaded folder may have a `.env`
    that names another service, which must not get the key of the environment.
    """

    url: str = Field("", validate_default=True, description="Address of the service; empty: where HOST and PORT say.")
    key: str = Field("", repr=False, description="API key that is sent with each request.")

    @field_validator("url")
    @classmethod
    def _complete(cls, url: str, others: ValidationInfo) -> str:
        listening = [others.data.get(name) for name in ("host", "port")]
        if url or None in listening:  # which is refused for itself
            return url.rstrip("/")
        host, port = listening
        return reachable_at(str(host), int(port or 0))

    @classmethod
    def select_from_file(
        cls, file: Mapping[str, str | None], environment: Mapping[str, str | None]
    ) -> Mapping[str, str | None]:
        """Return the file's variables, without an address where the environment has one.

        Raises `SettingsError` where one of them has the address and the other the key.
        """
        address, key = _find(_ADDRESS, file, environment), _find([_KEY], file, environment)
        if address and key and address[1] != key[1]:
            raise SettingsError(
                f"{address[0]} is set in {address[1]} and {key[0]} in {key[1]}: "
                "set address and key in the same place, so that no other service gets the key."
            )
        if address and address[1] == _ENVIRONMENT:
            return {name: value for name, value in file.items() if name not in _ADDRESS}
        return file


def find_address_file() -> Path | None:
    """Return the `.env` of the current folder where it has the address of the service."""
    address = _find(_ADDRESS, read_env_file(), read_environment())
    return None if address is None or address[1] == _ENVIRONMENT else env_file()


def _find(
    names: Sequence[str], file: Mapping[str, str | None], environment: Mapping[str, str | None]
) -> tuple[str, str] | None:
    """Return the first of these variables that is set, and where; the environment goes before the file."""
    for variables, where in ((environment, _ENVIRONMENT), (file, str(env_file()))):
        for name in names:
            if name in variables:
                return name, where
    return None
