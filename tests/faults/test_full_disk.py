"""A data root without free space: everything waits or is refused, nothing crashes, and it goes on with space again."""

import hashlib
import signal
from pathlib import Path

import httpx
import pytest

from store.errors import StorageFull
from tests.faults.test_api_faults import indexed
from tests.patience import PATIENCE
from tests.service.harness import assert_problem, picture, running, wait_until
from tests.service.processes import answers, start_service
from tests.service.test_languages import make_dataset
from tests.worker.harness import FINISHED, Site, assert_once, pairs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200), pytest.mark.row("S5")]


def fill(disk: Path) -> Path:
    """Leave not a byte; returns the file that takes them."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as stream:
        for size in (1 << 16, 4096, 1):
            with pytest.raises(OSError, match="No space"):
                while True:
                    stream.write(b"\0" * size)
    return ballast


def put(client: httpx.Client, number: int) -> int:
    files = {"picture": ("x", picture(number))}
    return client.put(f"/v1/pictures/p{number}", files=files).status_code


def files(home: Path) -> dict[str, str]:
    """The hash of every file that must not change."""
    live = [path for name in ("pictures", "segments") for path in (home / name).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in live}


@pytest.mark.parametrize("ended", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("small_disk", ["8m"], indirect=True)
def test_an_api_on_a_full_disk_refuses_searches_and_starts_again(small_disk: Path, ended: signal.Signals) -> None:
    """Registry, uploads, pictures and segments are on it."""
    home = small_disk / "home"
    indexer = {"HOME": str(home), "LEASE_SECONDS": "3"}
    with start_service(home) as (server, client):
        assert [put(client, number) for number in range(3)] == [201] * 3
        assert indexed(indexer) == 0
        fill(small_disk)
        before = files(home)
        assert put(client, 3) == 507
        upload = {"dataset": ("x", make_dataset())}
        assert client.post("/v1/languages", files=upload, data={"language": "cy"}).status_code == 507
        assert client.delete("/v1/pictures/p0").status_code in (204, 507)
        assert indexed(indexer) >= 0
        assert client.post("/v1/search/pictures", json={"text": "a"}).status_code == 200
        assert files(home) == before and server.poll() is None
        server.send_signal(ended)
        assert server.wait(PATIENCE) in (0, -ended)
    with start_service(home) as (server, client):  # the disk is still full
        assert put(client, 3) == 507 and files(home) == before
        assert client.post("/v1/search/pictures", json={"text": "a"}).status_code == 200
        (small_disk / "ballast").unlink()
        assert put(client, 3) == 201 and indexed(indexer) == 0
        assert answers(client, "/v1/pictures/p1/content") == answers(client, "/v1/pictures/p3/content") == 200


@pytest.mark.parametrize("small_disk", ["8m"], indirect=True)
def test_a_full_disk_of_pictures_alone_is_told_and_keeps_no_half_file(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").symlink_to(small_disk)
    with running(tmp_path) as service:
        fill(small_disk)
        assert_problem(service.put("a"), 507, "storage_full")
        assert [*small_disk.rglob(".tmp-*")] == []


@pytest.mark.nightly
@pytest.mark.parametrize("small_disk", ["24m"], indirect=True)
def test_a_worker_that_starts_on_a_full_disk_goes_on_when_there_is_space(
    small_disk: Path, tiny_base: str, tmp_path: Path
) -> None:
    site = Site(small_disk / "home", tiny_base)
    site.log_file = tmp_path / "worker.log"
    try:
        expansion = site.submit(pairs("cy", picture=True))
        ballast = fill(small_disk)
        worker = site.start()
        wait_until(lambda: worker.poll() is not None or StorageFull.code in site.log())
        assert site.registry.expansions.get(expansion).state not in FINISHED
        assert worker.poll() is None or worker.wait() >= 0, "no process dies of SIGBUS"
        ballast.unlink()
        if worker.poll() is not None:  # whoever looks after it starts it again
            site.start()
        assert_once(site, site.finish(expansion))
    finally:
        site.close()


@pytest.mark.parametrize("small_disk", ["8m"], indirect=True)
def test_it_waits_for_space_and_goes_on(site: Site, small_disk: Path, undisturbed: dict[str, str]) -> None:
    for name in ("expansions", "versions", "segments"):
        (small_disk / name).mkdir()
        (site.home / name).symlink_to(small_disk / name)
    expansion = site.submit(pairs("cy", picture=True))
    ballast = fill(small_disk)
    child = site.attempt(expansion)
    site.wait(expansion, lambda e: e.phase == "paused_storage_full")
    assert child.poll() is None
    ballast.unlink()
    assert child.wait(PATIENCE) == 0
    assert_once(site, site.registry.expansions.get(expansion))
    assert site.weights(expansion) == undisturbed
