"""Settings of the client commands: address and key of a service. Brings pydantic, so it is imported late."""

import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

_PREFIX = "PICTOGLOT_"
_ENV_FILE = ".env"
_NEAR = 0.85  # of the letters, that a name shares with the setting that is meant
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # listen addresses that are not connect addresses
_KEY = f"{_PREFIX}KEY"
_ADDRESS = (f"{_PREFIX}URL", f"{_PREFIX}HOST", f"{_PREFIX}PORT")
Variables = Mapping[str, str | None]


class SettingsError(Exception):
    """One sentence that names the invalid setting; the command then exits with status 78."""


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
    immich_upstream: str = Field("", description="`--upstream` of `pictoglot immich`; `doctor` looks at it.")
    immich_model: str = Field("", description="`--model` of `pictoglot immich`.")
    _address_file: Path | None = PrivateAttr(None)

    @property
    def address(self) -> str:
        return self.url.rstrip("/") or format_local_address(self.host, self.port)

    @property
    def address_file(self) -> Path | None:
        """The `.env` of the current folder, where it has the address of the service."""
        return self._address_file

    @classmethod
    def load(cls) -> Self:
        """Return the settings of the environment and the `.env`; raises `SettingsError`."""
        path = Path(_ENV_FILE).absolute()
        file, environment = read_file(path), fold_names(os.environ)
        refuse_unknown(cls, environment)
        refuse_unknown(cls, file, f" (in {path})")
        is_named = any(name in environment for name in _ADDRESS)  # then nothing of an address in the file counts
        address = next((name for name in _ADDRESS if name in (environment if is_named else file)), None)
        if address and (_KEY in environment or _KEY in file) and is_named != (_KEY in environment):
            places = ("the environment", path) if is_named else (path, "the environment")
            raise SettingsError(
                f"{address} is set in {places[0]} and {_KEY} in {places[1]}: "
                "set address and key in the same place, so that no other service gets the key."
            )
        variables = {name: value for name, value in file.items() if not (is_named and name in _ADDRESS)} | environment
        values = {name: variables.get(f"{_PREFIX}{name.upper()}") for name in cls.model_fields}
        try:
            settings = cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            raise make_refusal(error, cls, file.keys() - environment) from error
        settings._address_file = path if address and not is_named else None
        return settings


def refuse_unknown(settings: type[BaseModel], variables: Variables, where: str = "") -> None:
    """Raise `SettingsError` for a variable of ours that nothing reads; a client alone does not know a server's."""
    others = list_names()
    known = sorted(f"{_PREFIX}{name}" for name in others | {field.upper() for field in settings.model_fields})
    for name in sorted(variables) if others else ():
        if name.startswith(_PREFIX) and name not in known:
            near = get_close_matches(name, known, 1, _NEAR)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name}{where} is not a setting of pictoglot.{hint}")


def make_refusal(error: ValidationError, settings: type[BaseModel], in_file: Collection[str]) -> SettingsError:
    """Make the error that says what is wrong with the first invalid setting, and whether it is one of the `.env`."""
    first = error.errors(include_input=False, include_url=False)[0]
    name = f"{_PREFIX}{first['loc'][0]}".upper() if first["loc"] else "The settings"
    where = f" (in {Path(_ENV_FILE).absolute()})" if name in in_file else ""
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        reason = f"not of this form: {settings.model_fields[str(first['loc'][0])].description}"
    return SettingsError(f"{name}{where}: {reason.removesuffix('.')}.")


@cache
def list_names() -> frozenset[str]:
    """List the names, without the prefix, of all settings of all processes; none where some are not installed."""
    groups = list(entry_points(group="pictoglot.settings"))  # in pyproject.toml
    if not all(find_spec(entry.module.partition(".")[0]) for entry in groups):
        return frozenset()
    classes: list[type[BaseModel]] = [entry.load() for entry in groups]
    return frozenset(field.upper() for settings in classes for field in settings.model_fields)


def read_file(path: Path) -> dict[str, str | None]:
    """Return the variables of a `.env`, names in capital letters. Raises `SettingsError`.

    `${NAME}` is not expanded: a file that comes with a downloaded folder would get secrets of the environment.
    """
    try:
        return fold_names(dotenv_values(path, interpolate=False))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: it must be a text file in UTF-8.") from error


def fold_names(variables: Variables) -> dict[str, str | None]:
    """Return variables with their names in capitals."""
    return {name.upper(): value for name, value in variables.items()}
