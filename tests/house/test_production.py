"""What docs/deploy sets up fits the code: limits, exit status, times to stop, folders that need no backup."""

import re

import pytest

from service.context import _OVERHEAD
from service.settings import Settings
from store.settings import MISCONFIGURED
from tests.house.source import ROOT
from worker.supervisor import STOP_SECONDS

DEPLOY = ROOT / "docs/deploy"
SETTINGS = Settings.model_construct()


def number(file: str, pattern: str) -> int:
    """Return the number that a pattern finds in a file, once."""
    (found,) = re.findall(pattern, (DEPLOY / file).read_text(encoding="utf-8"), re.MULTILINE)
    return int(found)


def test_nginx_lets_through_what_the_service_takes() -> None:
    assert number("nginx.conf", r"client_max_body_size (\d+)m;") << 20 >= SETTINGS.dataset_bytes + _OVERHEAD
    assert SETTINGS.dataset_bytes > SETTINGS.batch_bytes > SETTINGS.picture_bytes > SETTINGS.json_bytes
    for limit in ("proxy_read_timeout", "proxy_send_timeout"):
        assert number("nginx.conf", rf"{limit} (\d+)s;") >= SETTINGS.dataset_seconds
    assert number("nginx.conf", r"proxy_pass http://127\.0\.0\.1:(\d+);") == SETTINGS.port


def test_the_unit_waits_for_an_orderly_end_and_does_not_repeat_what_is_misconfigured() -> None:
    assert number("pictoglot@.service", r"^RestartPreventExitStatus=(\d+)$") == MISCONFIGURED
    seconds = number("pictoglot@.service", r"^TimeoutStopSec=(\d+)$")
    assert seconds > max(SETTINGS.drain_seconds + SETTINGS.request_seconds + 5, 2 * STOP_SECONDS)


@pytest.mark.parametrize("kept", [False, True])
def test_the_copy_leaves_out_what_needs_no_backup_and_nothing_else(kept: bool) -> None:
    guide = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+/`) \| [^|]+ \| (yes|no|if)\b", guide, re.MULTILINE)
    folders = {name for named, answer in rows if (answer != "no") is kept for name in re.findall(r"`(\w+)/`", named)}
    script = (DEPLOY / "pictoglot-backup").read_text(encoding="utf-8")
    left_out = set(re.findall(r"--exclude=/(\w+)", script))
    assert folders and (left_out.isdisjoint(folders) if kept else left_out == folders)
