"""Datasets are read outside of the service, in bounded memory; searches go on meanwhile (F9)."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import psutil
import pytest

from model.dataset.child import MEMORY, DatasetChecker, Submission
from store.errors import DatasetInvalid, RegistryUnavailable
from tests.model.spreadsheets import write_xlsx
from tests.service.harness import assert_problem
from tests.service.processes import start_service

pytestmark = pytest.mark.row("F9")
SLACK = 48 << 20  # bytes that the service may take beside what it had
ROWS = "".join(json.dumps({"caption": f"afal {n}", "english": f"apple {n}"}) + "\n" for n in range(80)).encode()
# parsed as a whole, the largest of these take 64 MB and more: a list of 56 bytes for three of the file
HOSTILE: dict[str, Callable[[], bytes]] = {
    "many entries": lambda: b'{"images": [], "annotations": [' + b"[]," * 100_000 + b"[]]}",
    "one large entry": lambda: b'{"images": [], "annotations": [[' + b"[]," * 2_000_000 + b"[]]]}",
    "large but not read": lambda: b'{"annotations": [], "x": [' + b"[]," * 200_000 + b"[]]}",
    "deep": lambda: b'{"annotations": ' + b"[" * 3_000_000,
    "a long text": lambda: b'{"annotations": [{"caption": "' + b"a" * 10_000_000 + b'"}]}',
    "a long number": lambda: b'{"annotations": [' + b"9" * 1_000_000 + b"]}",
    "a sheet with a far cell": lambda: write_xlsx([["caption", "english"], ["afal", "apple"]], place="XFD1048576"),
    "grows": lambda: gzip.compress(b'{"annotations": [{"caption": "' + b"a" * 100_000_000 + b'"}]}'),
}


@contextmanager
def watch_memory(process: psutil.Process) -> Iterator[list[int]]:
    """Yield a list whose only item is the largest resident memory of the process so far, in bytes."""
    peak, ended = [process.memory_info().rss], Event()

    def look() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    looking = Thread(target=look)
    looking.start()
    yield peak
    ended.set()
    looking.join()


def teach(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/v1/languages", files={"dataset": ("x", data)}, data={"language": "cy", "dry_run": "true"})


def find_children(api: psutil.Process, module: str = "model.dataset.child") -> list[psutil.Process]:
    return [child for child in api.children() if module in child.cmdline()]


@pytest.mark.timeout(600)
def test_no_dataset_fills_the_memory_of_the_service(tmp_path: Path) -> None:
    with start_service(tmp_path, RATE_PER_MINUTE="10000000") as (server, client):
        api = psutil.Process(server.pid)
        assert teach(client, ROWS).status_code == 200
        (child,) = find_children(api)
        assert child.rlimit(psutil.RLIMIT_AS) == (MEMORY, MEMORY)
        answered, ended = [0], Event()

        def search() -> None:
            with httpx.Client(base_url=client.base_url, headers=client.headers) as other:
                while not ended.wait(0.02):
                    answered[0] += other.post("/v1/search/pictures", json={"text": "apple"}).status_code == 200

        before = api.memory_info().rss
        searching = Thread(target=search)
        searching.start()
        with watch_memory(api) as peak:
            for name, make in HOSTILE.items():
                answer = teach(client, make())
                assert (answer.status_code, answer.json()["code"]) == (422, "dataset_invalid"), name
        ended.set()
        searching.join()
        assert answered[0]
        assert peak[0] - before < SLACK
        assert teach(client, ROWS).status_code == 200


@pytest.mark.timeout(600)
def test_a_child_that_takes_too_much_refuses_that_dataset_alone(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"caption": f"afal {n}", "english": f"apple {n}"}) + "\n" for n in range(100_000))
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_text(rows)
    small.write_bytes(ROWS)
    checker = DatasetChecker(1, memory=256 << 20)
    try:
        with pytest.raises(DatasetInvalid, match="limits on time and memory"):
            checker.check(Submission(large, "cy", [], ["en"]), list, list)
        assert checker.check(Submission(small, "cy", [], ["en"]), list, list).report["usable"] == 80
    finally:
        checker.close()
    assert checker.pids == []


@pytest.fixture
def checker() -> Iterator[DatasetChecker]:
    checker = DatasetChecker(1)
    yield checker
    checker.close()


def count_usable(checker: DatasetChecker, folder: Path) -> object:
    (folder / "small").write_bytes(ROWS)
    return checker.check(Submission(folder / "small", "cy", [], ["en"]), list, list).report["usable"]


def test_a_child_whose_question_gets_no_answer_is_replaced(checker: DatasetChecker, tmp_path: Path) -> None:
    """Otherwise it would take the next dataset for the answer."""

    def refuse(_: object) -> set[str]:
        raise RegistryUnavailable

    rows = [json.dumps({"caption": f"afal {n}", "picture": f"p{n}"}) + "\n" for n in range(80)]
    (tmp_path / "pictures").write_text("".join(rows))
    with pytest.raises(RegistryUnavailable):
        checker.check(Submission(tmp_path / "pictures", "cy", [], ["en"]), refuse, list)
    assert count_usable(checker, tmp_path) == 80


def test_what_we_did_not_foresee_refuses_the_file_with_its_reason_and_is_logged(
    checker: DatasetChecker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert count_usable(checker, tmp_path) == 80
    (child,) = checker.pids
    with pytest.raises(DatasetInvalid, match="cannot be read; send it in another format"):
        checker.check(Submission(tmp_path / "gone", "cy", [], ["en"]), list, list)
    assert "FileNotFoundError" in caplog.text and str(tmp_path) not in caplog.text
    assert count_usable(checker, tmp_path) == 80 and checker.pids == [child]


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_captions_as_large_as_those_of_coco_are_accepted(tmp_path: Path) -> None:
    """As many pictures and captions as COCO 2017 has for training and validation, 109 MB."""
    images = [{"id": n, "file_name": f"{n:012}.jpg", "coco_url": "x" * 200} for n in range(123_287)]
    annotations = [
        {"image_id": n % 123_287, "id": n, "caption": f"A very clean and well decorated bathroom, number {n}"}
        for n in range(616_767)
    ]
    data = json.dumps({"info": {}, "images": images, "annotations": annotations}).encode()
    del images, annotations
    with start_service(tmp_path, RATE_PER_MINUTE="10000000") as (server, client):
        client.timeout = httpx.Timeout(1_800)
        api = psutil.Process(server.pid)
        assert teach(client, ROWS).status_code == 200
        before = api.memory_info().rss
        with watch_memory(api) as peak, watch_memory(find_children(api)[0]) as peak_of_child:
            answer = teach(client, data)
        assert_problem(answer, 422, "picture_not_found")  # no such picture is in the gallery
        assert (answer.json()["count"], answer.json()["report"]["rows"]) == (123_287, 616_767)
        assert peak[0] - before < 4 * SLACK and peak_of_child[0] < MEMORY
