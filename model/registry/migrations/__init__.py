"""Brings the tables of a registry up to date, from any working directory; the steps are in `versions/`."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from model.errors import RegistryUnavailable


def upgrade(connection: Connection) -> None:
    """Apply the missing steps in the connection's transaction; raises RegistryUnavailable when its tables are newer."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise RegistryUnavailable("The registry was created by a newer release of pictoglot.") from error
