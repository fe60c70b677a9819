"""COMMITs that PostgreSQL never heard, or whose answer was lost: no acknowledged write is lost, and a retry is safe.

A proxy cuts the connection between the service and a real server, at that very message.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.commit_proxy import CommitProxy, open_commit_proxy
from tests.conftest import own_schema
from tests.service.harness import Service, assert_problem, picture, running, wait_until
from tests.service.test_languages import make_dataset, teach

pytestmark = pytest.mark.row("F3", "S4")


class Proxied(NamedTuple):
    service: Service
    proxy: CommitProxy


@pytest.fixture(scope="module")
def site(shared_postgresql: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with (
        own_schema(shared_postgresql) as url,
        open_commit_proxy(url) as proxy,
        running(tmp_path_factory.mktemp("home"), database_url=proxy.url) as service,
    ):
        yield Proxied(service, proxy)


@pytest.fixture
def proxied(site: Proxied) -> Iterator[Proxied]:
    yield site
    site.proxy.restore()


def has_dataset(service: Service, expansion: str) -> bool:
    path = service.home / "expansions" / expansion / "dataset"
    return path.exists() and path.read_bytes() == make_dataset()


def cancel(service: Service, expansion: str) -> None:
    assert service.admin.post(f"/v1/expansions/{expansion}/cancel").status_code in (200, 202)


def get_content_status(service: Service, id: str) -> int:
    return service.admin.get(f"/v1/pictures/{id}/content").status_code


def test_a_submission_that_was_committed_is_acknowledged_although_the_answer_was_lost(proxied: Proxied) -> None:
    service, proxy = proxied
    proxy.lose(committed=True, naming="INSERT INTO expansions")
    first = teach(service, "cy", headers={"Idempotency-Key": "committed"})
    assert first.status_code == 202 and has_dataset(service, first.json()["expansion"]["id"])
    again = teach(service, "cy", headers={"Idempotency-Key": "committed"})
    assert again.json()["expansion"]["id"] == first.json()["expansion"]["id"]
    cancel(service, first.json()["expansion"]["id"])


def test_a_submission_that_was_not_committed_leaves_no_file_and_can_be_sent_again(proxied: Proxied) -> None:
    service, proxy = proxied
    before = {path.name for path in (service.home / "expansions").glob("*")}
    proxy.lose(committed=False, naming="INSERT INTO expansions")
    assert_problem(teach(service, "br", headers={"Idempotency-Key": "lost"}), 503, "registry_unavailable")
    assert {path.name for path in (service.home / "expansions").glob("*")} == before
    again = teach(service, "br", headers={"Idempotency-Key": "lost"})
    assert again.status_code == 202 and has_dataset(service, again.json()["expansion"]["id"])
    cancel(service, again.json()["expansion"]["id"])


@pytest.mark.parametrize("committed", [True, False])
def test_a_submission_that_cannot_be_asked_about_keeps_its_file(proxied: Proxied, committed: bool) -> None:
    service, proxy = proxied
    headers = {"Idempotency-Key": f"away {committed}"}
    before = {path.name for path in (service.home / "expansions").glob("*")}
    proxy.lose(committed=committed, naming="INSERT INTO expansions", away=True)
    assert_problem(teach(service, "gd", headers=headers), 503, "registry_unavailable")
    (left,) = {path.name for path in (service.home / "expansions").glob("*")} - before
    assert has_dataset(service, left)
    proxy.restore()
    again = teach(service, "gd", headers=headers)
    assert again.status_code == 202 and has_dataset(service, again.json()["expansion"]["id"])
    assert (again.json()["expansion"]["id"] == left) == committed
    cancel(service, again.json()["expansion"]["id"])


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("committed", [True, False])
def test_a_put_whose_outcome_is_unknown_is_there_whole_or_not_at_all(
    proxied: Proxied, committed: bool, away: bool
) -> None:
    service, proxy = proxied
    id, new = f"put-{committed}-{away}", picture(10 + 2 * committed + away)
    proxy.lose(committed=committed, naming="INSERT INTO gallery_changes", away=away)
    assert_problem(service.put(id, new, en=["a boat"]), 503, "registry_unavailable")
    proxy.restore()
    assert get_content_status(service, id) == (200 if committed else 404)
    assert service.put(id, new, en=["a boat"]).status_code == (200 if committed else 201)
    assert get_content_status(service, id) == 200
    assert id in {item["id"] for item in service.search("a boat", language="en", limit=100).json()["items"]}


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("committed", [True, False])
def test_a_picture_that_was_to_be_replaced_has_the_old_content_or_the_new_one(
    proxied: Proxied, committed: bool, away: bool
) -> None:
    service, proxy = proxied
    id, seed = f"replaced-{committed}-{away}", 20 + 4 * committed + 2 * away
    assert service.put(id, picture(seed)).status_code == 201
    before = service.admin.get(f"/v1/pictures/{id}/content").content
    proxy.lose(committed=committed, naming="INSERT INTO gallery_changes", away=away)
    assert_problem(service.put(id, picture(seed + 1)), 503, "registry_unavailable")
    proxy.restore()
    after = service.admin.get(f"/v1/pictures/{id}/content")
    assert after.status_code == 200 and (after.content == before) != committed


@pytest.mark.parametrize("committed", [True, False])
def test_a_batch_whose_outcome_is_unknown_says_so_of_each_and_can_be_sent_again(
    proxied: Proxied, committed: bool
) -> None:
    service, proxy = proxied
    ids = [f"batch-{committed}-{number}" for number in range(3)]
    files = [("picture", ("x", picture(60 + 3 * committed + number))) for number in range(3)]
    records = {"records": json.dumps([{"id": id, "captions": {"en": [id]}} for id in ids])}
    proxy.lose(committed=committed, naming="INSERT INTO gallery_changes")
    answer = service.admin.post("/v1/pictures/batch", files=files, data=records).json()["items"]
    acknowledged = {id for id, item in zip(ids, answer, strict=True) if item["status"] in (200, 201)}
    assert len(acknowledged) < 3
    assert all(get_content_status(service, id) == 200 for id in acknowledged)
    again = service.admin.post("/v1/pictures/batch", files=files, data=records).json()["items"]
    assert {item["status"] for item in again} <= {200, 201}
    assert all(get_content_status(service, id) == 200 for id in ids)


@pytest.mark.parametrize("committed", [True, False])
def test_a_delete_whose_outcome_is_unknown_is_done_or_leaves_the_picture_whole(
    proxied: Proxied, committed: bool
) -> None:
    service, proxy = proxied
    path = f"/v1/pictures/deleted-{committed}"
    assert service.put(f"deleted-{committed}", picture(40 + committed)).status_code == 201
    proxy.lose(committed=committed, naming="DELETE FROM pictures")
    assert_problem(service.admin.delete(path), 503, "registry_unavailable")
    assert get_content_status(service, f"deleted-{committed}") == (404 if committed else 200)
    assert service.admin.delete(path).status_code == (404 if committed else 204)
    assert get_content_status(service, f"deleted-{committed}") == 404


@pytest.mark.parametrize("committed", [True, False])
def test_a_rollback_sent_again_with_its_key_acts_once(proxied: Proxied, committed: bool) -> None:
    service, proxy = proxied
    first = service.learn("fr")
    service.learn("fr")
    before = service.context.registry.releases.get_serving().number
    headers = {"Idempotency-Key": f"rollback {committed}"}
    path = "/v1/admin/languages/fr/rollback"
    proxy.lose(committed=committed, naming="INSERT INTO releases")
    assert_problem(service.admin.post(path, json={}, headers=headers), 503, "registry_unavailable")
    again = service.admin.post(path, json={}, headers=headers)
    assert again.status_code == 200 and again.json()["to_version"] == first.number
    serving = service.context.registry.releases.get_serving()
    assert (serving.number, serving.languages["fr"]) == (before + 1, first.number)


@pytest.mark.parametrize("committed", [True, False])
def test_a_key_whose_text_nobody_got_opens_nothing_and_is_listed_if_it_was_made(
    proxied: Proxied, committed: bool
) -> None:
    service, proxy = proxied
    label = f"key {committed}"
    proxy.lose(committed=committed, naming="INSERT INTO api_keys")
    body = {"scope": "search", "label": label}
    assert_problem(service.admin.post("/v1/admin/keys", json=body), 503, "registry_unavailable")
    made = [key for key in service.admin.get("/v1/admin/keys").json()["items"] if key["label"] == label]
    assert len(made) == committed
    for key in made:
        assert service.admin.delete(f"/v1/admin/keys/{key['id']}").status_code == 204


@pytest.mark.parametrize("committed", [True, False])
def test_a_key_is_revoked_or_still_opens(proxied: Proxied, committed: bool) -> None:
    service, proxy = proxied
    key = service.key("search")
    path = f"/v1/admin/keys/{key.split('_')[1]}"
    proxy.lose(committed=committed, naming="UPDATE api_keys")
    assert_problem(service.admin.delete(path), 503, "registry_unavailable")
    if committed:
        wait_until(lambda: service.http.get("/v1/pictures", headers={"X-API-Key": key}).status_code == 401)
    assert service.admin.delete(path).status_code == 204
    wait_until(lambda: service.http.get("/v1/pictures", headers={"X-API-Key": key}).status_code == 401)
