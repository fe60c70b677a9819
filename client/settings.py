"""Settings of the client commands: address and key of a service. Brings pydantic, so it is imported late."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from .errors import SettingsError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PREFIX = "PICTOGLOT_"
_ENV_FILE = ".env"
_ENVIRONMENT = "the environment"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # listen addresses that are not connect addresses
_KEY = f"{_PREFIX}KEY"
_ADDRESS = (f"{_PREFIX}URL", f"{_PREFIX}HOST", f"{_PREFIX}PORT")
Variables = Mapping[str, str | None]


def format_address(host: str, port: int) -> str:
    """Return the URL of a host, by name or number, and a port."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def format_reachable(host: str, port: int) -> str:
    """Return the URL for a process of this machine, which cannot connect to all addresses at once."""
    return format_address(_EVERYWHERE.get(host, host), port)


class ClientSettings(BaseModel):
    """Frozen; read by each command that asks a running service.

    Address and key come from the environment or from `.env`, never one from each: a downloaded folder may have a `.env`
    that names another service, which must not get the key of the environment.
    """

    model_config = ConfigDict(frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="Where a service on this machine listens.")
    port: int = Field(8321, ge=0, le=65_535, description="Its port.")
    url: str = Field("", validate_default=True, description="Address of the service; empty: where HOST and PORT say.")
    key: str = Field("", repr=False, description="API key that is sent with each request.")

    @field_validator("url")
    @classmethod
    def _complete(cls, url: str, others: ValidationInfo) -> str:
        listening = [others.data.get(name) for name in ("host", "port")]
        if url or None in listening:  # which is refused for itself
            return url.rstrip("/")
        host, port = listening
        return format_reachable(str(host), int(port or 0))

    @classmethod
    def load(cls) -> Self:
        """Return the settings of the environment and the `.env`; raises `SettingsError`.

        `${NAME}` in the file is not expanded: it would get secrets of the environment in that way.
        """
        file, environment = _read_file(), _upper(os.environ)
        _refuse_unknown(cls, environment, "")
        _refuse_unknown(cls, file, f" (in {_env_file()})")
        given = {**_select_from_file(file, environment), **environment}
        values = {name: given.get(f"{_PREFIX}{name.upper()}") for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = f"{_PREFIX}{first['loc'][0]}".upper()
            where = f" (in {_env_file()})" if name in file and name not in environment else ""
            raise SettingsError(f"{name}{where}: {first['msg'].removesuffix('.')}.") from error


def find_address_file() -> Path | None:
    """Return the `.env` of the current folder where it has the address of the service."""
    address = _find(_ADDRESS, _read_file(), _upper(os.environ))
    return None if address is None or address[1] == _ENVIRONMENT else _env_file()


def _select_from_file(file: Variables, environment: Variables) -> Variables:
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


def _find(names: Sequence[str], file: Variables, environment: Variables) -> tuple[str, str] | None:
    """Return the first of these variables that is set, and where; the environment goes before the file."""
    for variables, where in ((environment, _ENVIRONMENT), (file, str(_env_file()))):
        for name in names:
            if name in variables:
                return name, where
    return None


def _refuse_unknown(settings: type[BaseModel], variables: Variables, where: str) -> None:
    """Raise `SettingsError` for a variable of ours that nothing reads; a client alone does not know a server's."""
    groups = list(entry_points(group="pictoglot.settings"))
    if not all(find_spec(entry.module.partition(".")[0]) for entry in groups):
        return
    known = {name.upper() for kind in (settings, *(entry.load() for entry in groups)) for name in kind.model_fields}
    for name in sorted(variables):
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in known:
            raise SettingsError(f"{name}{where} is not a setting of pictoglot.")


def _read_file() -> dict[str, str | None]:
    try:
        return _upper(dotenv_values(_ENV_FILE, interpolate=False))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{_env_file()} cannot be read: it must be a text file in UTF-8.") from error


def _env_file() -> Path:
    return Path(_ENV_FILE).absolute()


def _upper(variables: Variables) -> dict[str, str | None]:
    return {name.upper(): value for name, value in variables.items()}
