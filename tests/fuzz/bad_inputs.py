"""Sends bad inputs over HTTP to a real service, counts what it answers, and measures the memory of its processes.

`python -m tests.fuzz.bad_inputs --count 100000 --seed 1`; the exit status is 1 if an answer is not a documented one,
the gallery has not as many pictures as were accepted, or memory rises by more than 1.5 GiB above that of the idle
service.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event, Lock, Thread
from typing import Any

import httpx
import psutil

from tests.fuzz.test_requests import CODES, DATASETS, ORIGINALS, ROUTES
from tests.service.processes import start_service

MOST_MEMORY = 3 << 29  # bytes above the idle service
_THREADS = 4
_NAMES = ("text", "language", "limit", "min_score", "cursor", "picture", "languages", "input", "scope", "filter", "x")
_PARTS = ("picture", "dataset", "captions", "language", "metadata", "x")
_PATHS = ("/v1/pictures/", "/v1/languages/", "/v1/expansions/", "/v1/versions/", "/", "//", "/v1/../")
_LETTERS = "aé한𝕏\u0301\u200d\u202e\ud800\x00\x07\uffff 0'\"<\\{"

Make = Callable[[Random, httpx.Client], httpx.Response]


def picture(source: Random, client: httpx.Client) -> httpx.Response:
    """Return a picture with some bytes changed, or cut."""
    return client.post("/v1/pictures", files={"picture": ("x", mutate(source, source.choice(ORIGINALS)))})


def multipart(source: Random, client: httpx.Client) -> httpx.Response:
    """Return a form whose parts, or their borders, are not what they should be."""
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n'
        % (source.choice(_PARTS).encode(), source.randbytes(source.randrange(200)))
        for _ in range(source.randrange(1, 4))
    )
    body = mutate(source, parts + b"--b--\r\n")
    route = source.choice(("/v1/pictures", "/v1/pictures/batch", "/v1/languages", "/v1/search/captions"))
    return client.post(route, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})


def text(source: Random, client: httpx.Client) -> httpx.Response:
    """Return a search for letters of every kind, also those that are none."""
    asked = {
        "text": draw_letters(source, 1_200),
        "language": source.choice(("auto", "en", "de", draw_letters(source, 12))),
    }
    return send_json(client, "/v1/search/pictures", asked)


def document(source: Random, client: httpx.Client) -> httpx.Response:
    """Return any JSON, often with fields that have a meaning."""
    value = {source.choice(_NAMES): draw_json(source) for _ in range(source.randrange(5))}
    return send_json(client, source.choice(ROUTES), value if source.random() < 0.8 else draw_json(source))


def octets(source: Random, client: httpx.Client) -> httpx.Response:
    """Return bytes that claim to be something."""
    kind = source.choice(("application/json", "application/x-tar", "text/plain", "multipart/form-data"))
    return client.post(
        source.choice(ROUTES), content=source.randbytes(source.randrange(400)), headers={"Content-Type": kind}
    )


def dataset(source: Random, client: httpx.Client) -> httpx.Response:
    """Return a dataset with some bytes changed, or cut; a dry run."""
    files = {"dataset": ("x", mutate(source, source.choice(DATASETS)))}
    return client.post("/v1/languages", files=files, data={"language": "cy", "dry_run": "true"})


def address(source: Random, client: httpx.Client) -> httpx.Response:
    """Return a path and headers that nobody meant."""
    path = source.choice(_PATHS) + "".join(source.choice("a/.%2e%00%ff~;?#[]é") for _ in range(source.randrange(40)))
    name = source.choice(("X-API-Key", "Authorization", "If-Match", "Idempotency-Key", "Range", "Accept", "Host"))
    value = bytes(source.choice(range(0x20, 0x7F)) for _ in range(source.randrange(300))).strip()  # else httpx refuses
    method = source.choice(("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"))
    url = f"{str(client.base_url).rstrip('/')}{path.encode().decode('latin-1')}"  # else `//x` would be a host
    return client.request(method, url, headers={name.encode(): value})


# of 100: how often each is sent
KINDS: dict[Make, int] = {picture: 10, multipart: 10, text: 20, document: 50, octets: 3, dataset: 2, address: 5}


def mutate(source: Random, data: bytes) -> bytes:
    """Return some bytes changed; every fifth is cut."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 12)):
        changed[source.randrange(len(changed))] = source.randrange(256)
    return bytes(changed[: source.randrange(len(changed))] if source.random() < 0.2 else changed)


def draw_letters(source: Random, most: int) -> str:
    return "".join(source.choice(_LETTERS) for _ in range(source.randrange(most)))


def draw_json(source: Random, depth: int = 0) -> Any:
    """Return a value as a careless client writes it: NaN, Infinity and lone surrogates too."""
    kind = source.randrange(9 if depth < 3 else 7)
    if kind > 6:
        inner = [draw_json(source, depth + 1) for _ in range(source.randrange(4))]
        return inner if kind == 7 else {draw_letters(source, 10): each for each in inner}
    number = source.choice((0, -1, 101, 2**31, 10**400, 5.0, 1e308 * 10, float("nan")))
    return (None, True, number, draw_letters(source, 40), "", source.randrange(200), source.random())[kind]


def send_json(client: httpx.Client, route: str, value: object) -> httpx.Response:
    return client.post(route, content=json.dumps(value), headers={"Content-Type": "application/json"})


@dataclass
class Outcome:
    """What was answered, by kind of input and status; what should not have been; pictures; memory in bytes."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    added: int = 0
    pictures: int = 0
    idle: int = 0
    peak: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)  # many threads count

    @property
    def is_good(self) -> bool:
        return not self.faults and self.pictures == self.added and self.peak - self.idle <= MOST_MEMORY

    def note(self, kind: str, seed: int, answer: httpx.Response) -> None:
        """Count an answer, and keep it if it is no documented one."""
        with self._lock:
            self.statuses[kind, answer.status_code] += 1
            self.added += kind == "picture" and answer.status_code == 201
        if answer.is_success or answer.request.method == "HEAD" or (kind == "address" and answer.status_code == 400):
            return  # the server itself refuses what is no HTTP
        code = answer.json().get("code") if answer.headers.get("content-type", "").endswith("json") else None
        if answer.status_code >= 500 or code not in CODES:
            self.faults.append(f"{kind}, seed {seed}: {answer.status_code} {code}")


def flood(home: Path, count: int, seed: int) -> Outcome:
    """Send that many inputs, drawn from the seed, to a service under `home`."""
    outcome, ended = Outcome(), Event()
    with start_service(home, RATE_PER_MINUTE="10000000") as (server, client):
        api = psutil.Process(server.pid)
        for make in (picture, dataset, text):  # what an idle service has open
            make(Random(0), client)
        outcome.idle = outcome.peak = measure_memory(api)
        first = count_pictures(client)

        def watch() -> None:
            while not ended.wait(0.1):
                outcome.peak = max(outcome.peak, measure_memory(api))

        def send(share: range) -> None:
            with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=client.timeout) as own:
                for number in share:
                    source = Random(seed << 32 | number)
                    (make,) = source.choices(list(KINDS), weights=list(KINDS.values()))
                    try:
                        outcome.note(make.__name__, number, make(source, own))
                    except httpx.HTTPError as error:
                        outcome.faults.append(f"{make.__name__}, seed {number}: {type(error).__name__}")

        threads = [Thread(target=send, args=(range(start, count, _THREADS),)) for start in range(_THREADS)]
        watching = Thread(target=watch)
        for thread in (watching, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        ended.set()
        watching.join()
        outcome.pictures = count_pictures(client) - first
    return outcome


def measure_memory(process: psutil.Process) -> int:
    """Return resident bytes of a process and of all that it started."""
    used = 0
    for each in (process, *process.children(recursive=True)):
        try:
            used += each.memory_info().rss
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return used


def count_pictures(client: httpx.Client) -> int:
    """Return how many pictures the gallery has."""
    return sum(each["count"] for each in client.get("/v1/collections").json()["items"])


def main() -> int:
    """Flood a service of its own, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        outcome = flood(Path(folder), options.count, options.seed)
    for (kind, status), times in sorted(outcome.statuses.items()):
        sys.stdout.write(f"{kind:<10} {status}  {times:>7,}\n")
    for fault in outcome.faults[:20]:
        sys.stdout.write(f"{fault}\n")
    above = (outcome.peak - outcome.idle) / 2**20
    sys.stdout.write(
        f"{sum(outcome.statuses.values()):,} answers, {len(outcome.faults)} faults; {outcome.added} pictures accepted, "
        f"{outcome.pictures} in the gallery; peak {above:.0f} MiB above idle ({outcome.idle / 2**20:.0f} MiB)\n"
    )
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
