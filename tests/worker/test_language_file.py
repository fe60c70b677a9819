"""A language as a file: taught in one service, exported, and imported into others by what the worker does."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model import checkpoint
from model.base import open_base
from model.checkpoint import TokenRows, VersionContent
from model.encoder import Encoder, VersionFolder
from model.language_file import write_archive, write_file
from model.lexicon import count_ngrams
from store import files
from tests.client.test_commands import run, run_json
from tests.patience import bound_time
from tests.service.harness import Service, assert_problem, assert_state_unchanged, picture, wait_until
from tests.tiny import write_tiny_base
from tests.worker.harness import pairs
from tests.worker.test_groups import send, serving, work

PARTS = ("rows.safetensors", "ngrams.json.gz", "lexicon.json.gz")
KEPT = (*PARTS, "tokenizer.json", *(f"proof-{name}" for name in PARTS))
UNSEEN = {"cy": ("afal der", "xylophone dêr", "bleuñv neerg"), "br": ("aval neerg", "zzz kazh", "afal der")}


def teach(service: Service, language: str, **more: str) -> None:
    """Teach a toy language beside English, as a person would post it."""
    send(service, language, pairs(language), **more)


def bring(service: Service, file: Path, *more: str, **settings: Any) -> dict[str, Any]:
    """Import a file on the command line, and do the worker's part; return the expansion at its end."""
    sent = run_json(service, "language", "import", str(file), *more)
    work(service, {"expansion": sent}, **settings)
    return dict(run_json(service, "expansions", sent["id"]))


def read(service: Service, language: str, *texts: str) -> list[str]:
    """Return vectors of texts in a language, to the bit; by default of words that nobody taught, too."""
    said = {"input": [*(texts or UNSEEN[language])], "language": language, "encoding_format": "base64"}
    return [each["embedding"] for each in service.admin.post("/v1/embeddings", json=said).json()["data"]]


def list_files(service: Service, language: str) -> dict[str, bytes]:
    """Return what the version that serves a language has on disk, but its manifest and vectors."""
    number = service.context.live.current.release.languages[language]
    folder = service.home / str(service.context.registry.versions.get(number).folder)
    return {name: (folder / name).read_bytes() for name in KEPT}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def first(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Where Welsh was taught, with terms, and Breton upon it."""
    with serving(tmp_path_factory.mktemp("first"), base) as service:
        teach(service, "cy", terms=json.dumps({"owner": "Cymdeithas", "licence": "CC0-1.0"}))
        teach(service, "br")
        yield service


@pytest.fixture(scope="module")
def exported(first: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of both; that of Welsh is signed."""
    folder = tmp_path_factory.mktemp("files")
    for tag, more in (("cy", ["--sign"]), ("br", [])):
        done = run_json(first, "language", "export", tag, "--out", str(folder / tag), *more)
        assert done["bytes"] == (folder / tag).stat().st_size and done["language"] == tag
    return {tag: folder / tag for tag in ("cy", "br")}


@pytest.fixture
def other(base: str, tmp_path: Path) -> Iterator[Service]:
    """An empty service with the same base."""
    with serving(tmp_path / "home", base) as service:
        yield service


@pytest.fixture(scope="module")
def target(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An empty one that refuses everything."""
    with serving(tmp_path_factory.mktemp("target"), base) as service:
        yield service


def make_forged(source: Path, folder: Path, change: Callable[[Path], object], **facts: Any) -> bytes:
    """Make a file whose parts were changed by somebody who can make archives, with a manifest that fits them."""
    parts = folder / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    with ZipFile(source) as archive:
        archive.extractall(parts)
    (parts / "manifest.json.minisig").unlink(missing_ok=True)
    manifest = json.loads((parts / "manifest.json").read_bytes())
    (parts / "manifest.json").unlink()
    change(parts)
    files.write_manifest(parts, {**manifest, **facts})
    write_archive(folder / "forged", parts)
    return (folder / "forged").read_bytes()


def make_rows(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Make a change of the tensors of a file."""

    def write(parts: Path) -> None:
        save_file(change(load_file(parts / PARTS[0])), parts / PARTS[0])

    return write


def set_value(value: float) -> Callable[[Path], None]:
    return make_rows(lambda tensors: {**tensors, "rows": torch.full_like(tensors["rows"], value)})


def shuffle_rows(parts: Path) -> None:
    for name in (PARTS[0], f"proof-{PARTS[0]}"):
        tensors = load_file(parts / name)
        order = torch.randperm(len(tensors["ids"]), generator=torch.Generator().manual_seed(0))
        save_file({**tensors, "rows": tensors["rows"][order]}, parts / name)


def test_languages_are_read_to_the_bit_where_they_are_imported_in_the_same_order(
    first: Service, exported: dict[str, Path], other: Service, tmp_path: Path
) -> None:
    shown = run(other, "language", "import", str(exported["cy"]), "--dry-run").stdout
    signer = run_json(other, "language", "import", str(exported["cy"]), "--dry-run")["signer"]
    assert "Welsh (cy)" in shown and "Cymdeithas · CC0-1.0" in shown and signer in shown
    assert run_json(other, "languages")["shared_version"] == 0, "a dry run imports nothing"
    done = bring(other, exported["cy"])
    assert done["kind"] == "import" and done["report"]["imported"]["signer"] == signer
    output = run(other, "expansions", done["id"], "--watch").stdout
    assert "cy is imported: version 1, release 2." in output and signer in output and "the test in the file" in output
    assert bring(other, exported["br"])["report"]["imported"]["signer"] is None
    for tag in ("cy", "br"):
        assert list_files(other, tag) == list_files(first, tag) and read(other, tag) == read(first, tag)
    assert other.context.live.current.release.shared == 2, "it is the shared table, as there"
    assert read(first, "cy") != read(first, "br")
    item = other.admin.get("/v1/languages/cy").json()
    assert item["terms"]["owner"] == "Cymdeithas" and item["taught"]
    assert item["letters"] == first.admin.get("/v1/languages/cy").json()["letters"]
    again = tmp_path / "again"
    run_json(other, "language", "export", "br", "--out", str(again))
    with ZipFile(again) as here, ZipFile(exported["br"]) as there:
        assert all(here.read(name) == there.read(name) for name in (*KEPT, "test.json.gz"))
    run_json(other, "rollback", "br", "--yes")
    (tmp_path / "forged").write_bytes(make_forged(exported["br"], tmp_path, shuffle_rows))
    sent = run_json(other, "language", "import", str(tmp_path / "forged"), "--force")
    work(other, {"expansion": sent}, ends="failed", min_recall=0.9)
    refused = run_json(other, "expansions", sent["id"])
    assert refused["error"]["code"] == "gate_failed" and refused["report"]["refused_by"] == "floor", "it reads nothing"
    assert {*other.context.registry.releases.get_serving().languages} == {"cy", "en"}


def test_upon_another_table_a_language_stands_alone_and_goes_on_from_there(
    first: Service, exported: dict[str, Path], other: Service
) -> None:
    """Breton came with what it needs of Welsh. Where Breton is shared, Welsh is measured by the gallery's captions."""
    bring(other, exported["br"])
    taught = [row["caption"] for row in pairs("br")]
    assert read(other, "br", *taught) == read(first, "br", *taught)
    for number, row in enumerate(pairs("cy")[:12]):
        assert other.put(f"p{number}", picture(number), cy=[row["caption"]]).status_code == 201
    done = bring(other, exported["cy"])
    assert done["report"]["imported"]["measured_by"] == "captions" and done["report"]["against"] == "pictures"
    assert (done["report"]["pairs"], done["report"]["candidates"]) == (12, 12)
    assert read(other, "cy") == read(first, "cy") and list_files(other, "cy") == list_files(first, "cy")
    assert done["report"]["shared"]["moved"] is False and done["report"]["shared"]["languages"] == {}
    assert other.context.live.current.release.shared == 1

    teach(other, "cy")
    version = other.context.registry.versions.get(3)
    assert version.parent == 2 and version.dataset_expansions[0] == done["id"]
    kinds = [each["imported"] for each in other.admin.get("/v1/versions/3/datasets").json()["items"]]
    assert kinds == [True, False]
    run_json(other, "rollback", "cy", "--yes")
    assert read(other, "cy") == read(first, "cy")


def write_large(folder: Path) -> Path:
    """Write a language of 3,000 rows for a bundled base, with a proof, n-grams, words and a test."""
    encoder, draw = Encoder(open_base("bundled")), np.random.default_rng(0)
    rows = torch.from_numpy(draw.normal(0, 0.02, (3_000, encoder.table.rows.width)).astype(np.float32))
    proof = rows + 0.002 * torch.from_numpy(draw.standard_normal(rows.shape, dtype=np.float32))
    words = sorted({"".join(draw.choice([*"aeioulnrstdwygch"], 8)) for _ in range(10_000)})
    sha256, grams = encoder.base_view.tokenizer.sha256, count_ngrams(words)
    content, before = (
        VersionContent((), (), TokenRows(np.arange(3_000), each), sha256, grams, tuple(words)) for each in (rows, proof)
    )
    checkpoint.write_version(folder / "version", content, {}, before)
    test = {"against": "english", "captions": words[:1_000], "targets": words[1_000:2_000], "others": words[2_000:]}
    facts = {"language": "cy", "base": "b", "learned_at": "2026-11-30T12:00:00Z", "report": {}}
    facts |= {"text_fingerprint": encoder.base_fingerprint}
    source = VersionFolder(1, "cy", folder / "version", None)
    write_file(folder / "file", encoder.base_view, source, facts, [test])
    return folder / "file"


@pytest.mark.nightly
@pytest.mark.timing
def test_3000_rows_take_5_mb_and_serve_in_ten_seconds_by_a_worker_that_has_to_start(tmp_path: Path) -> None:
    large = write_large(tmp_path)
    assert large.stat().st_size <= 5_000_000
    with serving(tmp_path / "home", "bundled") as service, bound_time(10):
        sent = run_json(service, "language", "import", str(large), "--force")
        lease = service.context.registry.expansions.take_lease(sent["id"], f"test:{os.getpid()}", 600)
        assert lease is not None
        settings = {"HOME": str(service.home), "BASE": "bundled", "BACKEND": "torch", "MIN_RECALL": "0"}
        environment = {**os.environ, **{f"PICTOGLOT_{name}": value for name, value in settings.items()}}
        command = [sys.executable, "-P", "-m", "worker.child", sent["id"], lease.owner, str(lease.fence)]
        subprocess.run(command, env=environment, check=True)
        wait_until(lambda: "cy" in service.context.live.current.views)


def test_who_may_not_change_terms_imports_none_and_what_is_not_there_is_not_found(
    exported: dict[str, Path], first: Service, target: Service
) -> None:
    for tag in ("kw", "en"):
        assert_problem(first.admin.get(f"/v1/languages/{tag}/file"), 404, "language_not_found")
    sent = {"file": exported["cy"].read_bytes()}
    assert target.admin.put("/v1/languages/cy/terms", json={"owner": "others"}).status_code == 200
    writer = {"X-API-Key": target.key("write")}
    assert_problem(target.http.post("/v1/languages/import", files=sent, headers=writer), 403, "insufficient_scope")
    assert target.admin.put("/v1/languages/cy/terms", json={}).status_code == 200
    whole = first.admin.get("/v1/languages/br/file", headers={"Range": "bytes=x"})  # all is sent, and nothing stays
    assert (whole.status_code, len(whole.content)) == (200, exported["br"].stat().st_size)
    wait_until(lambda: not [*(first.home / "uploads").iterdir()])


def test_an_import_that_is_sent_again_gets_the_first_answer(exported: dict[str, Path], other: Service) -> None:
    headers, ids = {"X-API-Key": other.key("write"), "Idempotency-Key": "once"}, set[str]()
    for owner in ("others", "more others"):  # whose terms this key may not change
        sent = other.http.post("/v1/languages/import", files={"file": exported["cy"].read_bytes()}, headers=headers)
        ids.add(sent.json()["expansion"]["id"])
        assert other.admin.put("/v1/languages/cy/terms", json={"owner": owner}).status_code == 200
    assert len(ids) == 1


def refuse(target: Service, data: bytes, code: str, status: int = 422) -> dict[str, Any]:
    return assert_problem(target.admin.post("/v1/languages/import", files={"file": data}), status, code)


def test_a_file_that_was_changed_anywhere_is_refused(exported: dict[str, Path], target: Service) -> None:
    data = exported["cy"].read_bytes()
    places = [10, *range(0, len(data), len(data) // 60), *(len(data) - back for back in (1, 64, 70, 86))]  # 10: a time
    changed = [bytes([*data[:place], data[place] ^ 1, *data[place + 1 :]]) for place in places]
    cut = [b"", b"PK", data[:-1], data[1:], data + b"\n", data[: len(data) // 2], b"0" * 5_000]
    with assert_state_unchanged(target):
        for part in (*changed, *cut):
            answer = target.admin.post("/v1/languages/import", files={"file": part})
            assert answer.json()["code"] in ("language_file_changed", "language_file_invalid")


def test_a_file_for_another_base_is_refused_with_both_names(
    exported: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = write_tiny_base(tmp_path_factory.mktemp("other"), seed=7, name="pictoglot-other", dimension=48)
    with serving(tmp_path, spec) as service, assert_state_unchanged(service):
        problem = refuse(service, exported["cy"].read_bytes(), "language_of_other_base", 409)
        assert "pictoglot-tiny" in problem["detail"] and "pictoglot-other" in problem["detail"]
        assert run(service, "language", "import", str(exported["cy"])).exit_code == 2


HOSTILE: dict[str, Callable[[Path], object]] = {
    "NaN": set_value(float("nan")),
    "infinity": set_value(float("inf")),
    "large": set_value(1e30),
    "another width": make_rows(lambda t: {**t, "rows": t["rows"][:, :8].contiguous()}),
    "halves": make_rows(lambda t: {**t, "rows": t["rows"].half()}),
    "fewer ids": make_rows(lambda t: {**t, "ids": t["ids"][1:].contiguous()}),
    "no tensors": lambda parts: (parts / PARTS[0]).write_bytes(b"\xff" * 64),
    "a missing part": lambda parts: (parts / PARTS[1]).unlink(),
    "one part more": lambda parts: (parts / "evil.py").write_text("import os"),
    "a bomb": lambda parts: (parts / PARTS[1]).write_bytes(gzip.compress(bytes(300 << 20), 1)),
    "many lists": lambda parts: (parts / PARTS[2]).write_bytes(gzip.compress(b"[" + b"[]," * (5 << 20) + b"[]]", 1)),
    "many lists of merges": lambda parts: (parts / "tokenizer.json").write_text(f"[{'[],' * (5 << 20)}[]]"),
    "a torn part": lambda parts: (parts / PARTS[1]).write_bytes(b"\x1f\x8b\x08"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_forged_part_is_refused_at_once(
    name: str, exported: dict[str, Path], target: Service, tmp_path: Path
) -> None:
    data = make_forged(exported["cy"], tmp_path, HOSTILE[name])
    with assert_state_unchanged(target):
        tracemalloc.start()
        try:
            refuse(target, data, "language_file_invalid")
            assert tracemalloc.get_traced_memory()[1] < 40 << 20
        finally:
            tracemalloc.stop()


def test_a_forged_manifest_and_a_forged_signature_are_refused(
    exported: dict[str, Path], target: Service, tmp_path: Path
) -> None:
    cases: list[dict[str, Any]] = [
        *({"kind": "pictoglot language 2"}, {"format": 1}, {"language": "en"}, {"language": 7}, {"language": "../etc"}),
        *({"report": {"pairs": 9}}, {"report": {"letters": ["x" * 100]}}, {"report": []}, {"padding": "x" * (2 << 20)}),
        *({"terms": {"owner": "x" * 5_000}}, {"learned_at": "soon"}, {"text_fingerprint": None}),
    ]
    codes = {"language_file_invalid", "language_tag_invalid", "language_of_other_base"}
    with assert_state_unchanged(target):
        for facts in cases:
            data = make_forged(exported["cy"], tmp_path, lambda _: None, **facts)
            assert target.admin.post("/v1/languages/import", files={"file": data}).json()["code"] in codes
        deep = make_forged(exported["cy"], tmp_path, lambda _: None, padding=json.loads("[" * 30 + "]" * 30))
        refuse(target, deep, "language_file_changed")
        signature = ZipFile(exported["cy"]).read("manifest.json.minisig").decode()
        key, other = signature.splitlines()[2].rpartition(" ")[2], f"RWQ{53 * 'A'}"
        for tag, old, new in (("cy", ",", ";"), ("cy", key, other), ("cy", "RU", "RW"), ("br", ",", ",")):
            with ZipFile(exported[tag]) as archive:  # the last one is of another file
                archive.extractall(tmp_path / "signed")
            (tmp_path / "signed" / "manifest.json.minisig").write_text(signature.replace(old, new))
            write_archive(tmp_path / "forged", tmp_path / "signed")
            refuse(target, (tmp_path / "forged").read_bytes(), "language_file_changed")


def test_a_hostile_archive_is_refused(exported: dict[str, Path], target: Service, tmp_path: Path) -> None:
    def seal(write: Callable[[ZipFile], object], compression: int = ZIP_DEFLATED) -> bytes:
        with ZipFile(tmp_path / "zip", "w", compression) as archive:
            archive.comment = b"0" * 64
            write(archive)
        data = (tmp_path / "zip").read_bytes()[:-64]
        return data + hashlib.sha256(data).hexdigest().encode()

    def repeat(archive: ZipFile) -> None:
        with pytest.warns(UserWarning):
            for _ in range(2):
                archive.writestr("manifest.json", "{}")

    def write_many(archive: ZipFile) -> None:
        for number in range(3_000):
            archive.writestr(str(number), "")

    with assert_state_unchanged(target):
        for name in ("../evil", "/etc/evil", "a/manifest.json", "manifest.json/", "MANIFEST.JSON"):
            refuse(target, seal(lambda archive, name=name: archive.writestr(name, "{}")), "language_file_invalid")  # type: ignore[misc]
        large = seal(lambda archive: archive.writestr("tokenizer.json", bytes(100 << 20)))
        bzip2_lzma = [seal(lambda archive: archive.writestr("manifest.json", "{}"), packing) for packing in (12, 14)]
        refuse(target, seal(lambda archive: archive.writestr("tokenizer.json", "{}")), "language_file_changed")
        for data in (seal(repeat), large, *bzip2_lzma):
            refuse(target, data, "language_file_invalid")
        assert "directory" in refuse(target, seal(write_many), "language_file_invalid")["detail"]
        refuse(target, seal(lambda archive: archive.writestr("manifest.json", "[" * 100_000)), "language_file_changed")


def edit_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Make a change of a part of texts."""

    def write(parts: Path) -> None:
        data = (parts / name).read_bytes()
        value = json.loads(gzip.decompress(data) if name.endswith(".gz") else data)
        changed = json.dumps(change(value)).encode()
        (parts / name).write_bytes(gzip.compress(changed) if name.endswith(".gz") else changed)

    return write


INSIDE: dict[str, Callable[[Path], object]] = {
    "nested": lambda parts: (parts / "tokenizer.json").write_text("[" * 100_000),
    "another tokenizer": edit_json("tokenizer.json", lambda value: {**value, "merges": value["merges"][:-1]}),
    "no texts": edit_json("tokenizer.json", lambda value: {**value, "merges": [[1, 2]]}),
    "half a character": edit_json("lexicon.json.gz", lambda _: ["\ud800"]),
    "an unsorted lexicon": edit_json("lexicon.json.gz", lambda value: value[::-1]),
    "counts": edit_json("ngrams.json.gz", lambda _: {"a": "many"}),
    "a list": edit_json("ngrams.json.gz", lambda _: ["a"]),
    "ids": make_rows(lambda t: {**t, "ids": torch.from_numpy(np.arange(len(t["ids"])) + (1 << 40))}),
    "negative ids": make_rows(lambda t: {**t, "ids": torch.from_numpy(np.arange(len(t["ids"])) - 5)}),
    "a test": edit_json("test.json.gz", lambda value: {**value, "targets": value["targets"][1:]}),
}


@pytest.mark.parametrize("name", INSIDE)
def test_texts_that_no_export_writes_end_the_expansion(
    name: str, exported: dict[str, Path], target: Service, tmp_path: Path
) -> None:
    forged = make_forged(exported["br"], tmp_path, INSIDE[name])
    answer = target.admin.post("/v1/languages/import", files={"file": forged})
    acts = target.admin.get("/v1/admin/audit", params={"act": "POST /v1/languages/import"}).json()["items"]
    assert answer.json()["expansion"]["id"] in acts[0]["targets"]
    work(target, answer.json(), ends="failed")
    assert target.admin.get(answer.headers["Location"]).json()["error"]["code"] == "language_file_invalid"
    assert [*target.context.registry.releases.get_serving().languages] == ["en"]
