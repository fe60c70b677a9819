"""Settings that all processes share, from `PICTOGLOT_` variables or a `.env`. Unknown ones are refused.

Service and worker add their own in subclasses, which the entry points `pictoglot.settings` of the installed package
list: so each process knows the names of all settings without importing other packages.
"""

import os
import unicodedata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from client.settings import SettingsError as SettingsError  # one sentence; the process exits with `MISCONFIGURED`
from client.settings import fold_names, make_refusal, read_file, refuse_unknown
from store.files import make_folder

PREFIX = "PICTOGLOT_"
ENV_FILE = ".env"
MISCONFIGURED = 78  # exit status EX_CONFIG of sysexits.h


def read_env_file() -> dict[str, str | None]:
    """Return the variables of the `.env` in the current folder, names in capital letters. Raises `SettingsError`."""
    return read_file(locate_env_file())


def read_environment() -> dict[str, str | None]:
    """Return the variables of the environment, names in capital letters."""
    return fold_names(os.environ)


def locate_env_file() -> Path:
    """Return the path of the `.env` that this process reads, whether it exists or not."""
    return Path(ENV_FILE).absolute()


_Collection = Annotated[  # as names are stored: `model.text.clean_name`
    str,
    AfterValidator(lambda name: " ".join(unicodedata.normalize("NFC", name).split())),
    Field(min_length=1, max_length=128),
]


class Group(BaseModel):
    """What the people of a group may do: everywhere, or in `collections` alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Literal["search", "write", "admin"]  # as of keys: `store.keys` would bring the database's library
    collections: tuple[_Collection, ...] | None = Field(None, min_length=1)
    default_collection: _Collection | None = None

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.collections is not None and self.scope == "admin":
            raise ValueError("a group of scope admin cannot be bound to collections")
        if self.collections is not None and self.default_collection not in (None, *self.collections):
            raise ValueError("default_collection must be among the collections of its group")
        return self


class CommonSettings(BaseSettings):
    """The settings on which service and worker must agree. Class variables differ in tests alone."""

    seal_at: ClassVar[int] = 4_096  # changes of the gallery that are sealed together

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    home: Path = Field(Path("var"), validate_default=True, description="Data root: everything that pictoglot writes.")
    store: str = Field("", pattern=r"^(s3://[^/]+(/.+)?)?$", description="`s3://BUCKET/PREFIX`; empty: HOME alone.")
    database_url: str = Field(
        "",
        repr=False,
        pattern=r"^(sqlite(\+\w+)?:///.+|postgresql(\+\w+)?://.+)?$",
        description="Registry: `sqlite:///FILE` or `postgresql://…`, as SQLAlchemy has it; empty: SQLite under HOME.",
    )
    broker_url: str = Field(
        "", repr=False, pattern=r"^(rediss?://.+)?$", description="`redis://…`; empty: each worker looks for itself."
    )
    base: str = Field(
        "bundled", min_length=1, description="`bundled`, `photos`, NAME/PRETRAINED or NAME@/path/to/checkpoint."
    )
    index: str = Field(
        "faiss",
        repr=False,
        pattern=r"^(faiss|pgvector|milvus\+.+)$",
        description="What searches vectors: `faiss` in files here, `pgvector` in DATABASE_URL, or `milvus+URI`.",
    )
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="What computes vectors; `auto`: what made those of the data root, in a new one the fastest."
    )
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto", description="In which precision; as BACKEND."
    )
    threads: int = Field(1, ge=1, le=64, description="Threads of one matrix product, in each process.")
    backup_before_upgrade: str = Field(
        "", description="Folder for a backup before the service migrates the registry; empty: none is made."
    )
    groups: Json[dict[str, Group]] = Field(
        "{}",  # type: ignore[arg-type]  # defaults are read like variables
        description="JSON: what the people of each group may do. The first one that a person is in decides.",
    )
    environment: Literal["local", "production"] = Field("local", description="Outside `local`, ADMIN_KEY must be set.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @field_validator("home", mode="before")
    @classmethod
    def _make_absolute(cls, home: Path | str) -> Path:
        if home == "":  # which would be the current folder, with keys and all
            raise ValueError("must name a folder")
        return Path(home).expanduser().absolute()

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str) -> str:
        if store and find_spec("obstore") is None:
            raise ValueError("an object store needs the extra s3")
        return store.rstrip("/")

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, backend: str) -> str:
        if backend == "openvino" and find_spec("openvino") is None:
            raise ValueError("OpenVINO needs the extra openvino")
        return backend

    @field_validator("index")
    @classmethod
    def _check_index(cls, index: str, others: ValidationInfo) -> str:
        if index.startswith("milvus") and find_spec("pymilvus") is None:
            raise ValueError("Milvus needs the extra milvus")
        if index == "pgvector" and not str(others.data.get("database_url", "")).startswith("postgresql"):
            raise ValueError(f"pgvector needs {PREFIX}DATABASE_URL to be that of a PostgreSQL database")
        return index

    @property
    def database(self) -> str:
        """`database_url`, or the SQLite file under the data root."""
        return self.database_url or f"sqlite:///{self.home / 'registry.db'}"

    @property
    def bound_collections(self) -> frozenset[str]:
        """The collections that a group is bound to."""
        return frozenset(name for group in self.groups.values() for name in group.collections or ())

    def make_home(self) -> None:
        """Make the data root. Raises `SettingsError` if it cannot be made, or written when the registry is in it."""
        try:
            make_folder(self.home)
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}HOME: {self.home} is not a folder, or cannot be created: {error.strerror}."
            ) from error
        if not self.database_url and not os.access(self.home, os.W_OK):
            raise SettingsError(f"{PREFIX}HOME: {self.home} cannot be written, and the registry is in it.")

    @classmethod
    def load(cls) -> Self:
        """Return the settings of this environment. Raises `SettingsError`."""
        file, environment = read_env_file(), read_environment()
        refuse_unknown(cls, environment)
        refuse_unknown(cls, file, f" (in {locate_env_file()})")
        # the library's own source for such a file always expands `${NAME}`
        values: dict[str, Any] = {}
        for field in cls.model_fields:
            name = PREFIX + field.upper()
            if name not in environment and file.get(name) is not None:
                values[field] = file[name]
        try:
            return cls(**values)
        except ValidationError as error:
            raise make_refusal(error, cls, file.keys() - environment) from error
