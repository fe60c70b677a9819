"""Settings of the client commands: address and key of a service. Brings pydantic, so it is imported late."""

import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

_PREFIX = "PICTOGLOT_"
_ENV_FILE = ".env"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # listen addresses that are not connect addresses
_KEY = f"{_PREFIX}KEY"
_ADDRESS = (f"{_PREFIX}URL", f"{_PREFIX}HOST", f"{_PREFIX}PORT")
Variables = Mapping[str, str | None]


class SettingsError(Exception):
    """One sentence that names the invalid setting; the command then exits with `output.MISCONFIGURED`."""


def format_address(host: str, port: int) -> str:
    """Return the URL of a host, by name or number, and a port."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def format_local_address(host: str, port: int) -> str:
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
    url: str = Field("", description="Address of the service; empty: where HOST and PORT say.")
    key: str = Field("", repr=False, description="API key that is sent with each request.")
    _address_file: Path | None = PrivateAttr(None)

    @property
    def address(self) -> str:
        """The URL of the service."""
        return self.url.rstrip("/") or format_local_address(self.host, self.port)

    @property
    def address_file(self) -> Path | None:
        """The `.env` of the current folder, where it has the address of the service."""
        return self._address_file

    @classmethod
    def load(cls) -> Self:
        """Return the settings of the environment and the `.env`; raises `SettingsError`.

        `${NAME}` in the file is not expanded: it would get secrets of the environment in that way.
        """
        path = Path(_ENV_FILE).absolute()
        file, environment = _read_file(path), _fold_names(os.environ)
        _refuse_unknown(cls, environment, "")
        _refuse_unknown(cls, file, f" (in {path})")
        is_named = any(name in environment for name in _ADDRESS)  # then nothing of an address in the file counts
        address = next((name for name in _ADDRESS if name in (environment if is_named else file)), None)
        if address and (_KEY in environment or _KEY in file) and is_named != (_KEY in environment):
            places = ("the environment", path) if is_named else (path, "the environment")
            raise SettingsError(
                f"{address} is set in {places[0]} and {_KEY} in {places[1]}: "
                "set address and key in the same place, so that no other service gets the key."
            )
        given = {name: value for name, value in file.items() if not (is_named and name in _ADDRESS)} | environment
        values = {name: given.get(f"{_PREFIX}{name.upper()}") for name in cls.model_fields}
        try:
            settings = cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = f"{_PREFIX}{first['loc'][0]}".upper()
            where = f" (in {path})" if name in file and name not in environment else ""
            raise SettingsError(f"{name}{where}: {first['msg'].removesuffix('.')}.") from error
        settings._address_file = path if address and not is_named else None
        return settings


def _refuse_unknown(settings: type[BaseModel], variables: Variables, where: str) -> None:
    """Raise `SettingsError` for a variable of ours that nothing reads; a client alone does not know a server's."""
    groups = list(entry_points(group="pictoglot.settings"))
    if not all(find_spec(entry.module.partition(".")[0]) for entry in groups):
        return
    known = {name.upper() for kind in (settings, *(entry.load() for entry in groups)) for name in kind.model_fields}
    for name in sorted(variables):
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in known:
            raise SettingsError(f"{name}{where} is not a setting of pictoglot.")


def _read_file(path: Path) -> dict[str, str | None]:
    try:
        return _fold_names(dotenv_values(path, interpolate=False))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: it must be a text file in UTF-8.") from error


def _fold_names(variables: Variables) -> dict[str, str | None]:
    """Return variables with their names in capitals."""
    return {name.upper(): value for name, value in variables.items()}
