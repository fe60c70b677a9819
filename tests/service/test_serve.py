"""A process that serves: what it does beside answering."""

from pathlib import Path

import httpx

from tests.patience import PATIENCE
from tests.service.harness import wait_until
from tests.service.processes import answers, weightless

KEY = "k" * 40


def test_what_a_process_that_serves_has_open_is_not_searched_for_garbage(tmp_path: Path) -> None:
    """Otherwise a search waits while Python looks through half a million objects (decision 2)."""
    service = weightless(tmp_path, encoder="TellingEncoder()", ADMIN_KEY=KEY, FREE_BYTES="0")
    url = service.stdout.readline().split()[-1]
    body, headers = {"text": "an apple", "language": "en"}, {"X-API-Key": KEY}
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
        wait_until(lambda: answers(client, "/readyz") == 200)
        answer = client.post("/v1/search/pictures", json=body)
    service.terminate()
    frozen, interval = service.communicate(timeout=PATIENCE)[1].splitlines()[-1].split()
    assert answer.status_code == 200, answer.text
    assert int(frozen) > 100_000 and float(interval) < 0.001
