"""One API process as a client sees it: each request ends with a status, or with none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import httpx

from tests.torture.servers import PATIENCE

ADMIN_KEY = "torture-key-of-the-administrator"
ANSWER_SECONDS = 240.0  # a process that is stopped answers when it goes on


@dataclass(frozen=True)
class Answer:
    """`status` 0: no answer came. Then `was_sent` tells whether the request may have arrived."""

    process: str
    status: int
    body: Any
    was_sent: bool
    begun: float
    ended: float

    @property
    def code(self) -> str:
        """The code of a refusal; empty for anything else."""
        return str(self.body.get("code", "")) if self.status >= 400 and isinstance(self.body, dict) else ""

    @property
    def is_ok(self) -> bool:
        """Whether the service did what it was asked to."""
        return 200 <= self.status < 300


class Api:
    """Requests to one address. Threads may share it."""

    def __init__(self, process: str, address: str) -> None:
        self.process, self.address = process, address
        limits = httpx.Limits(max_keepalive_connections=0)  # one that its server closed meanwhile tells nothing
        self._client = httpx.Client(base_url=address, timeout=httpx.Timeout(ANSWER_SECONDS, connect=20), limits=limits)

    def ask(self, method: str, path: str, key: str = ADMIN_KEY, **request: Any) -> Answer:
        """Send a request. Bodies that are no JSON come as bytes."""
        begun = monotonic()
        headers = {"X-API-Key": key, **request.pop("headers", {})}
        try:
            response = self._client.request(method, path, headers=headers, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Answer(self.process, 0, None, False, begun, monotonic())
        except httpx.TransportError:
            return Answer(self.process, 0, None, True, begun, monotonic())
        is_json = response.headers.get("content-type", "").partition(";")[0].endswith("json")
        body = response.json() if is_json and response.content else response.content
        return Answer(self.process, response.status_code, body, True, begun, monotonic())

    def ask_until_done(self, method: str, path: str, **request: Any) -> Answer:
        """Send a request until it is done: a busy machine refuses some."""
        until = monotonic() + PATIENCE
        while not (answer := self.ask(method, path, **request)).is_ok and monotonic() < until:
            sleep(0.2)
        return answer

    def list_all(self, path: str, **parameters: str) -> Iterator[Mapping[str, Any]]:
        """Yield all items of a listing; raises LookupError where a page is refused."""
        cursor: str | None = None
        while True:
            asked = {**parameters, "limit": "100", **({"cursor": cursor} if cursor else {})}
            answer = self.ask("GET", path, params=asked)
            if answer.status != 200:
                raise LookupError(f"{path} is answered {answer.status} {answer.code}")
            yield from answer.body["items"]
            cursor = answer.body["next_cursor"]
            if cursor is None:
                return

    def fetch_vector(self, text: str, language: str) -> list[float]:
        """Return the vector of a text; raises LookupError where it is refused."""
        answer = self.ask("POST", "/v1/embeddings", json={"input": text, "language": language})
        if answer.status != 200:
            raise LookupError(f"an embedding in {language} is answered {answer.status} {answer.code}")
        found: list[float] = answer.body["data"][0]["embedding"]
        return found

    def close(self) -> None:
        self._client.close()
