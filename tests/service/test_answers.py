"""What every answer carries: the id of its request, and headers that share nothing with other sites."""

import random

from tests.service.harness import Service


def test_a_request_id_of_the_client_is_kept_when_it_is_safe(service: Service) -> None:
    taken = service.http.get("/livez", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"]
    assert taken == "abc-1"
    other = service.http.get("/livez", headers={"X-Request-ID": "a b\t{}"}).headers["x-request-id"]
    assert len(other) == 32


def test_a_new_request_id_does_not_follow_the_seed_of_the_process(service: Service) -> None:
    ids = set()
    for _ in range(2):
        random.seed(0)
        ids.add(service.http.get("/livez").headers["x-request-id"])
    assert len(ids) == 2


def test_the_page_shares_nothing_with_other_sites(service: Service) -> None:
    headers = service.http.get("/").headers
    assert headers["cross-origin-opener-policy"] == "same-origin" and headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
