"""A data root without free space: the expansion waits, nothing crashes, and it continues when there is space again."""

from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.worker.harness import Site, assert_once, pairs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


@pytest.mark.row("S5")
@pytest.mark.parametrize("small_disk", ["8m"], indirect=True)
def test_it_waits_for_space_and_goes_on(site: Site, small_disk: Path, undisturbed: dict[str, str]) -> None:
    for name in ("expansions", "versions", "segments"):
        (small_disk / name).mkdir()
        (site.home / name).symlink_to(small_disk / name)
    expansion = site.submit(pairs("cy", picture=True))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)
    child = site.attempt(expansion)
    site.wait(expansion, lambda e: e.phase == "paused_storage_full")
    assert child.poll() is None
    ballast.unlink()
    assert child.wait(PATIENCE) == 0
    assert_once(site, site.registry.expansions.get(expansion))
    assert site.weights(expansion) == undisturbed
