"""What holds for every test: settings of the person who runs them stay outside, and results do not depend on cores."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
from sqlalchemy import create_engine, make_url, text

from store import database
from tests.patience import PATIENCE
from tests.postgresql_server import PostgreSQLServer
from tests.s3_server import S3Server

for name in [name for name in os.environ if name.startswith("PICTOGLOT_")]:
    del os.environ[name]
# Settings of the tests themselves have no prefix: pictoglot refuses a setting that it does not know.
if backend := os.environ.get("TEST_BACKEND"):  # otherwise `auto`
    os.environ["PICTOGLOT_BACKEND"] = backend

# Hundreds of processes are started here: each would compile torch and ours anew, 4 seconds of processor time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Sums depend on the number of threads, and cores are shared with servers and workers. To be set before torch comes.
assert "torch" not in sys.modules
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

database._SECONDS = PATIENCE  # for one reading: a machine that stands still makes nobody late

SLOW = [hypothesis.HealthCheck.too_slow]  # a busy machine is no fault of the input
hypothesis.settings.register_profile(
    "test", deadline=None, derandomize=True, max_examples=100, suppress_health_check=SLOW
)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=5_000, suppress_health_check=SLOW)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of tests that are coroutines."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What opens a base of two layers, for all tests that change nothing of it."""
    from tests.tiny import write_tiny_base  # which imports torch

    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def shared_s3() -> Iterator[S3Server]:
    """A server for all tests that leave it alive."""
    server = S3Server()
    yield server
    server.kill()


@pytest.fixture
def store(shared_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty object store, with what is needed to talk to it in the environment."""
    for name, value in shared_s3.environment.items():
        monkeypatch.setenv(name, value)
    return shared_s3.create_bucket()


@pytest.fixture
def own_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server that the test may kill, named by the environment."""
    server = S3Server()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_postgresql() -> Iterator[str]:
    """The URL of a server for all tests: the one that TEST_DATABASE_URL names, otherwise one of their own."""
    if named := os.environ.get("TEST_DATABASE_URL"):
        yield named
        return
    try:
        server = PostgreSQLServer()
    except (OSError, subprocess.SubprocessError) as error:
        if os.environ.get("CI"):  # there it has to start
            raise
        pytest.skip(f"PostgreSQL cannot start here: {error}")
    yield server.url
    server.stop()


@contextmanager
def own_schema(server_url: str) -> Iterator[str]:
    """Create an empty PostgreSQL schema, yield its URL, and drop it after the block."""
    server = make_url(server_url).set(drivername="postgresql+psycopg")
    schema = f"test_{uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        own = server.update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False)
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def postgresql_url(shared_postgresql: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL schema of this test's own."""
    with own_schema(shared_postgresql) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL for a registry of this test's own, in each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture(scope="session", autouse=True)
def taken_default_port() -> Iterator[None]:
    """In CI the service's default port is taken while the tests run, as by a demo: no test may need it."""
    with closing(socket.socket()) as listening:
        if os.environ.get("CI"):
            with suppress(OSError):  # something else has it
                listening.bind(("127.0.0.1", 8321))
                listening.listen()
        yield


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and processes that they start, do not work in the repository, where somebody may have a `.env`."""
    before = Path.cwd()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))  # of imports
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, as large as the test says."""
    folder, size = tmp_path / "small", f"size={request.param}"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True).returncode != 0:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
