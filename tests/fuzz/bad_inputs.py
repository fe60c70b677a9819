"""Sends bad inputs over HTTP to a real service, counts what it answers, and measures the memory of its processes.

`python -m tests.fuzz.bad_inputs --count 100000 --seed 1`; the exit status is 1 if an answer is not a documented one,
the gallery has not as many pictures as were accepted, or memory rises by more than 1.5 GiB above that of the idle
service.
"""

import argparse
import gzip
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pyarrow
import pyarrow.parquet

from tests.house.source import ROOT
from tests.service import harness
from tests.service.processes import start_service

MOST_MEMORY = 3 << 29  # bytes above the idle service
CODES = frozenset(
    re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE)
)
ROUTES = (
    "/v1/search/pictures",
    "/v1/search/captions",
    "/v1/search/batch",
    "/v1/embeddings",
    "/v1/pictures",
    "/v1/languages",
    "/v1/languages/cy/captions",
    "/v1/languages/cy/captions/review",
    "/v1/admin/languages/cy/rollback",
    "/v1/admin/languages/cy/withdraw",
    "/v1/admin/releases/1/restore",
    "/v1/admin/keys",
)
LISTINGS = (
    *("/v1/pictures", "/v1/duplicates", "/v1/expansions", "/v1/versions", "/v1/admin/releases", "/v1/admin/audit"),
    *("/v1/languages/names", "/v1/languages/cy/captions", "/v1/languages/cy/captions/wanted"),
)
RECORD = "/v1/pictures/record"  # an id that `address` does not find
_ROWS = "".join(f'{{"caption": "afal {n}", "english": "apple {n}", "split": "train"}}\n' for n in range(70)).encode()
_THREADS = 4
_NAMES = ("text", "language", "limit", "min_score", "cursor", "picture", "languages", "input", "scope", "filter", "x")
_PARTS = ("picture", "dataset", "captions", "language", "metadata", "x")
_CLAUSES = ("must", "should", "must_not", "key", "match", "range", "value", "any", "gte")
_PATHS = ("/v1/pictures/", "/v1/languages/", "/static/", "/v1/expansions/", "/v1/versions/", "/", "//", "/v1/../")
_LETTERS = "aé한𝕏\u0301\u200d\u202e\ud800\x00\x07\uffff 0'\"<\\{"

Make = Callable[[Random, httpx.Client], httpx.Response]


def write_parquet() -> bytes:
    columns = {"caption": [f"afal {n}" for n in range(70)], "english": [f"apple {n}" for n in range(70)]}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


ORIGINALS = tuple(harness.picture(60, format=format) for format in ("PNG", "JPEG", "WEBP"))
DATASETS = (_ROWS, gzip.compress(_ROWS), write_parquet())


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
    asked: dict[str, Any] = {
        "text": draw_letters(source, 1_200),
        "language": source.choice(("auto", "en", "de", "shared", draw_letters(source, 12))),
    }
    if source.random() < 0.5:
        asked |= {"mode": source.choice(("meaning", "words", "both")), "filter": draw_filter(source)}
        asked[source.choice(("minus", "facets", "cursor"))] = source.choice(
            (["tags"], {"text": "a"}, draw_json(source))
        )
    batch = {"searches": [asked, draw_json(source)]}
    route, body = source.choice((("pictures", asked), ("pictures", asked), ("batch", batch)))
    return send_json(client, f"/v1/search/{route}", body)


def query(source: Random, client: httpx.Client) -> httpx.Response:
    """Return a listing whose parameters nobody meant."""
    name = source.choice(("limit", "cursor", "filter", "sort", "facets", "name", "query", draw_letters(source, 9)))
    value = source.choice(
        (draw_letters(source, 60), json.dumps(draw_filter(source)), str(source.randrange(120)), "tags")
    )
    part = quote(draw_letters(source, 20), safe="", errors="surrogatepass")
    paths = (f"/v1/pictures/{part}/content", f"/v1/expansions/{part}", f"/v1/versions/{part}", f"/v1/languages/{part}")
    path = source.choice((*LISTINGS, *paths))
    return client.get(f"{path}?{quote(name, errors='replace')}={quote(value, errors='replace')}")


def record(source: Random, client: httpx.Client) -> httpx.Response:
    """Return a picture with other fields than it should have: all replaced, or some changed."""
    name, value = source.choice(("captions", "tags", "metadata", "collection")), draw_json(source)
    if source.random() < 0.5:
        return client.put(RECORD, files={"picture": ("x", ORIGINALS[0])}, data={name: json.dumps(value)})
    seen = {"If-Match": quote(draw_letters(source, 9), errors="replace")} if source.random() < 0.3 else {}
    content = json.dumps({name: value})
    return client.patch(RECORD, content=content, headers={"Content-Type": "application/merge-patch+json", **seen})


def language(source: Random, client: httpx.Client) -> httpx.Response:
    """Return what is said of a language in fields of the right names."""
    letters, route = draw_letters(source, 6), "/v1/languages/cy"
    value = source.choice((letters, draw_json(source)))
    if source.random() < 0.4:
        body = source.choice((value, {"owner": value}, {"owner": letters, "labels": value}, {"tk_labels": [value]}))
        content, headers = json.dumps(body), {"Content-Type": "application/json"}
        return client.put(f"{route}/terms", content=content, headers=headers)
    bodies: dict[str, dict[str, Any]] = {
        f"{route}/captions": {"picture": "record", "text": letters, "name": value},
        f"{route}/captions/review": {"accept": value, "reject": []},
        "/v1/admin/languages/cy/withdraw": {"reason": letters, "dry_run": value},
    }
    path = source.choice([*bodies])
    return send_json(client, path, bodies[path])


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
KINDS: dict[Make, int] = {
    **{picture: 10, multipart: 10, text: 20, document: 25, octets: 5, dataset: 5, address: 5},
    **{query: 10, record: 5, language: 5},
}


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


def draw_filter(source: Random, depth: int = 0) -> Any:
    """Return a filter, some of whose clauses are none."""
    if depth > 3 or source.random() < 0.2:
        return draw_json(source)
    clauses = {source.choice(_CLAUSES): draw_filter(source, depth + 1) for _ in range(source.randrange(1, 3))}
    return source.choice((clauses, [clauses], {**clauses, "key": source.choice(("tags", "collection", "year", "x"))}))


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
        client.put(RECORD, files={"picture": ("x", ORIGINALS[0])}).raise_for_status()
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
