"""Thirty things that are asked of a service: what is asked of it before, what then, and what the ledger notes of it.

Each is asked again and again with other numbers. What is written is noted by keys such as `picture new-7`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.durability.deployment import Deployment
from tests.durability.ledger import Ledger
from tests.service.harness import picture
from tests.worker.harness import pairs

Wanted = Callable[[], httpx.Response]


class Refused(Exception):
    """What had to be done before something is asked for was not done."""


def require_accepted(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise Refused(answer.text)
    return answer


_FIRST_MOTIF = 1_000
_TAGGED = {"must": [{"key": "tags", "match": {"value": "t1"}}]}


@dataclass
class Asked:
    """A deployment with its ledger; `number` is another one each time."""

    deployment: Deployment
    ledger: Ledger = field(default_factory=Ledger)
    number: int = 0

    @property
    def client(self) -> httpx.Client:
        """Sends the admin key."""
        return self.deployment.client

    def note_answer(self, key: str, value: object, send: Wanted) -> httpx.Response:
        """Return the answer to a request that writes a value, which is noted, whatever it is."""
        try:
            answer = send()
        except httpx.TransportError:
            self.ledger.write(key, value, 0)
            raise
        self.ledger.write(key, value, answer.status_code)
        return answer

    def put(self, id: str, motif: int, text: str) -> httpx.Response:
        return self.note_answer(f"picture {id}", text, lambda: self.deployment.put(id, motif, text))


@dataclass(frozen=True)
class Operation:
    """`prepare` asks what nothing may disturb, and returns what is asked then; `write` notes the answer's status."""

    name: str
    prepare: Callable[[Asked], Wanted]
    write: Callable[[Asked, int], None] = lambda asked, status: None
    clean: Callable[[Asked], None] = lambda asked: None
    reads: bool = False


def make_reading(name: str, method: str, path: str, **more: Any) -> Operation:
    """Return one that changes nothing."""
    return Operation(name, lambda asked: lambda: asked.client.request(method, path, **more), reads=True)


def _make_text(asked: Asked) -> str:
    return f"motif number {asked.number}"


def _make_put(name: str, id: Callable[[int], str], motif: Callable[[int], int]) -> Operation:
    return Operation(
        name,
        lambda asked: lambda: asked.deployment.put(id(asked.number), motif(asked.number), _make_text(asked)),
        lambda asked, status: asked.ledger.write(f"picture {id(asked.number)}", _make_text(asked), status),
    )


def _patch(asked: Asked) -> Wanted:
    body = json.dumps({"captions": {"en": [_make_text(asked)]}, "tags": [f"t{asked.number}"]}).encode()
    headers = {"Content-Type": "application/merge-patch+json"}
    return lambda: asked.client.patch("/v1/pictures/patched", content=body, headers=headers)


def _delete(asked: Asked) -> Wanted:
    id = f"deleted-{asked.number}"
    require_accepted(asked.put(id, _FIRST_MOTIF + asked.number, _make_text(asked)))
    return lambda: asked.client.delete(f"/v1/pictures/{id}")


def _batch(asked: Asked) -> Wanted:
    ids = [f"batch-{asked.number}-{place}" for place in range(3)]
    records = json.dumps([{"id": id, "captions": {"en": [_make_text(asked)]}} for id in ids])
    motifs = [_FIRST_MOTIF * (2 + place) + asked.number for place in range(3)]
    files = [("picture", asked.deployment.send(id, motif)) for id, motif in zip(ids, motifs, strict=True)]

    def send() -> httpx.Response:
        for id in ids:  # each may be there, if there is no answer
            asked.ledger.write(f"picture {id}", _make_text(asked), 0)
        answer = asked.client.post("/v1/pictures/batch", files=files, data={"records": records})
        items = answer.json()["items"] if answer.status_code == 200 else [{"status": answer.status_code}] * 3
        for id, item in zip(ids, items, strict=True):  # each picture has a status of its own
            if item["status"] < 500:
                asked.ledger.possible[f"picture {id}"] = [None]
                asked.ledger.write(f"picture {id}", _make_text(asked), item["status"])
        return answer

    return send


def _create_key(asked: Asked) -> Wanted:
    body = {"scope": "search", "label": f"made {asked.number}"}
    return lambda: asked.client.post("/v1/admin/keys", json=body)


def _revoke(asked: Asked) -> Wanted:
    body = {"scope": "search", "label": f"revoked {asked.number}"}
    send = lambda: asked.client.post("/v1/admin/keys", json=body)  # noqa: E731
    made = require_accepted(asked.note_answer(f"key revoked {asked.number}", "valid", send))
    return lambda: asked.client.delete(f"/v1/admin/keys/{made.json()['id']}")


def write_dataset(number: int, count: int = 70) -> bytes:
    """Return a small dataset of a toy language, another one for each number."""
    rows = [{**row, "caption": f"{row['caption']} {number}"} for row in pairs("cy", count=count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _submit(asked: Asked) -> Wanted:
    data, headers = write_dataset(asked.number), {"Idempotency-Key": f"submission-{asked.number}"}
    fields = {"language": "br", "confirmed": "true", "settings": json.dumps({"seed": asked.number})}

    def send() -> httpx.Response:
        asked.ledger.unnamed["expansion"] += 1
        answer = asked.client.post("/v1/languages", data=fields, files={"dataset": ("x", data)}, headers=headers)
        if answer.status_code < 500:
            asked.ledger.unnamed["expansion"] -= 1
        if answer.status_code == 202:
            asked.ledger.write(f"expansion {answer.json()['expansion']['id']}", "br", 202)
        return answer

    return send


def _cancel_all(asked: Asked) -> None:
    for expansion in asked.deployment.list_all("/v1/expansions"):
        if expansion["state"] == "queued":
            require_accepted(asked.client.post(f"/v1/expansions/{expansion['id']}/cancel"))


def _cancel(asked: Asked) -> Wanted:
    answer = require_accepted(_submit(asked)())
    return lambda: asked.client.post(f"/v1/expansions/{answer.json()['expansion']['id']}/cancel")


def _release(asked: Asked) -> dict[str, Any]:
    return next(asked.deployment.list_all("/v1/admin/releases"))


def _roll_back(asked: Asked) -> Wanted:
    """Return Welsh goes."""
    if "cy" not in _release(asked)["languages"]:
        require_accepted(asked.note_answer("language cy", 1, _make_restore(asked)))
    return lambda: asked.client.post("/v1/admin/languages/cy/rollback", json={"reason": "a test"})


def _restore(asked: Asked) -> Wanted:
    """Bring Welsh back, by its first release."""
    if "cy" in _release(asked)["languages"]:
        send = lambda: asked.client.post("/v1/admin/languages/cy/rollback", json={})  # noqa: E731
        require_accepted(asked.note_answer("language cy", None, send))
    return _make_restore(asked)


def _make_restore(asked: Asked) -> Wanted:
    """Return the release that had it first."""
    now = _release(asked)["number"]
    return lambda: asked.client.post("/v1/admin/releases/2/restore", json={"expected": now})


OPERATIONS = (
    _make_put("put a new picture", lambda number: f"new-{number}", lambda number: _FIRST_MOTIF + number),
    _make_put("replace a picture", lambda number: "replaced", lambda number: 10 * _FIRST_MOTIF + number),
    _make_put("replace captions", lambda number: "kept", lambda number: 1),
    Operation(
        "patch a record", _patch, lambda asked, status: asked.ledger.write("picture patched", _make_text(asked), status)
    ),
    Operation(
        "delete a picture",
        _delete,
        lambda asked, status: asked.ledger.write(f"picture deleted-{asked.number}", None, status),
    ),
    Operation("put a batch", _batch),
    Operation(
        "make a key", _create_key, lambda asked, status: asked.ledger.write(f"key made {asked.number}", "valid", status)
    ),
    Operation(
        "revoke a key", _revoke, lambda asked, status: asked.ledger.write(f"key revoked {asked.number}", "gone", status)
    ),
    Operation("submit a dataset", _submit, clean=_cancel_all),
    Operation("cancel an expansion", _cancel, clean=_cancel_all),
    Operation("roll back", _roll_back, lambda asked, status: asked.ledger.write("language cy", None, status)),
    Operation("restore a release", _restore, lambda asked, status: asked.ledger.write("language cy", 1, status)),
    make_reading("prune", "POST", "/v1/admin/prune", json={"keep": 100}),
    make_reading("verify", "POST", "/v1/admin/index/verify"),
    make_reading("search", "POST", "/v1/search/pictures", json={"text": "motif 3"}),
    make_reading("search by meaning", "POST", "/v1/search/pictures", json={"text": "afal", "language": "cy"}),
    make_reading("search with a filter", "POST", "/v1/search/pictures", json={"text": "motif", "filter": _TAGGED}),
    make_reading("search by a picture", "POST", "/v1/search/pictures", files={"picture": ("x", picture(3))}),
    make_reading("search captions", "POST", "/v1/search/captions", json={"picture": "kept"}),
    make_reading(
        "search a batch", "POST", "/v1/search/batch", json={"searches": [{"text": "motif 1"}, {"text": "red"}]}
    ),
    make_reading("embed", "POST", "/v1/embeddings", json={"input": ["a red apple"]}),
    make_reading("list pictures", "GET", "/v1/pictures"),
    make_reading("get a picture", "GET", "/v1/pictures/kept"),
    make_reading("get its content", "GET", "/v1/pictures/kept/content"),
    make_reading("get its thumbnail", "GET", "/v1/pictures/kept/thumbnail"),
    make_reading("list collections", "GET", "/v1/collections"),
    make_reading("find duplicates", "GET", "/v1/duplicates"),
    make_reading("list languages", "GET", "/v1/languages"),
    make_reading("get a version", "GET", "/v1/versions/1"),
    make_reading("list keys", "GET", "/v1/admin/keys"),
    make_reading("list releases", "GET", "/v1/admin/releases"),
    make_reading("ask for readiness", "GET", "/readyz"),
    make_reading("ask for metrics", "GET", "/metrics"),
)


def read_holdings(deployment: Deployment) -> dict[str, object]:
    """Return what the service has now, by the keys of the ledger."""
    found: dict[str, object] = {}
    for item in deployment.list_all("/v1/pictures"):
        found[f"picture {item['id']}"] = item["captions"]["en"][0]
    for key in deployment.client.get("/v1/admin/keys").json()["items"]:
        found[f"key {key['label']}"] = "gone" if key["revoked_at"] else "valid"
    for expansion in deployment.list_all("/v1/expansions"):
        found[f"expansion {expansion['id']}"] = expansion["language"]
    for language in deployment.client.get("/v1/languages").json()["items"]:
        if language["language"] != "en":
            found[f"language {language['language']}"] = language["version"]
    return found
