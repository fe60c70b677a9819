"""Brings the parts of a source into a gallery: what is there is skipped, what differs is changed, the rest is sent."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import httpx

from ..api import describe_problem, encode_form, read_problem, retry
from ..terminal import build_path, map_in_order, read_answer
from . import (
    SUFFIXES,
    Item,
    ListedPicture,
    SkippedPart,
    SkipReason,
    SourceError,
    SourceRecord,
    UnreadableError,
    UnusableError,
    check_id,
    trim_metadata,
)
from .exif import find_fault, read_metadata
from .journal import Report, SentRecord, State

AT_ONCE = 2  # chunks; each is sent in one request
CHUNK, _CHUNK_BYTES = 32, 16 << 20  # items, as many as the service encodes at once; and bytes as far as they are known
OutcomeKind = Literal["added", "replaced", "changed", "there", "gone", "refused"]  # gone: deleted in the gallery
_ID_TAKEN = "The gallery has another picture with this id: --prefix gives ids of their own, --again replaces it."
_REFUSED_STATUSES = (404, 412, 413, 415, 422)  # about one picture; another status is about all of them
_RETRY_STATUSES = (429, 503, 507)  # of a picture in a batch: it may be sent again
_OUTCOMES: dict[str, OutcomeKind] = {"created": "added", "replaced": "replaced", "kept": "there"}
_IDS_IN_QUERY, _QUERY_BYTES = 100, 6_000  # ids in one request: the service takes no longer query
_LARGE_BYTES = 16 << 20  # bytes from which one picture at a time is read, and sent alone
# How files are read: whoever changes what is found raises this, and unchanged files are read again
_READER_VERSION = 2


class Outcome(NamedTuple):
    """What became of an item, and what to remember of it; `reason` says why it was refused.

    `same_as` is another picture of the gallery that has the same bytes.
    """

    place: str
    id: str
    kind: OutcomeKind
    reason: str = ""
    sent: SentRecord | None = None
    same_as: str = ""


@dataclass(frozen=True)
class Upload:
    """A picture to be sent, and what to remember when it was taken."""

    item: Item
    content: bytes
    record: SourceRecord
    replaced: ListedPicture | None
    sent: SentRecord

    def build_document(self) -> dict[str, Any]:
        """Return the record to send, merged into that of the picture that it replaces."""
        document = self.record.as_json()
        return document if self.replaced is None else self.replaced.merge(document)

    def build_file_part(self) -> tuple[str, bytes, str]:
        """Return the part of a form: name, content, media type."""
        suffix = PurePosixPath(self.item.place).suffix.lower()
        return "picture", self.content, SUFFIXES.get(suffix, "application/octet-stream")


@dataclass
class Importer:
    """Imports one source. `language` is that of descriptions in files, which become captions.

    A dry run looks for what would be refused, by the `limits` of bytes and pixels that the service has.
    """

    client: httpx.Client
    state: State
    prefix: str = ""
    language: str | None = None
    again: bool = False
    dry_run: bool = False
    strict: bool = False
    limits: tuple[int, int] | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    sent: Counter[str] = field(default_factory=Counter)  # by what became of them, also of chunks that are not done
    _large: threading.Lock = field(default_factory=threading.Lock)

    def bring_in(
        self,
        parts: Iterable[Item | SkippedPart],
        report: Report,
        advance: Callable[[], None] = lambda: None,
        is_settled: Callable[[Item], bool] = lambda item: True,
    ) -> bool:
        """Bring in these parts; returns whether all of the source was seen.

        `advance` is called for each item; `is_settled` may hold one back for later. Raises `UnusableError`, and what
        refuses all items.
        """
        is_complete = True

        def yield_chunks() -> Iterator[list[Item]]:
            nonlocal is_complete
            try:
                yield from self._group_items(parts, report, is_settled)
            except SourceError as error:
                is_complete = False
                self._skip(SkippedPart("The source", str(error)), report)

        try:
            for _, outcomes in map_in_order(self._process, yield_chunks(), AT_ONCE, self.stopping):
                for outcome in outcomes:
                    if self.strict and outcome.kind == "refused":
                        raise UnusableError(f"{outcome.place}: {outcome.reason}")
                    report.count_outcome(*outcome[:4], outcome.same_as)
                    advance()
        except BaseException:
            self.stopping.set()
            raise
        return is_complete

    def settle_vanished(self, report: Report, delete: bool, below: Sequence[str] | None = None) -> None:
        """Report what was there in the last run and is not in this one; delete it if `delete`."""
        for sent in self.state.list_vanished(below):
            if not delete or self.dry_run:
                report.vanished.append(sent.place)
            elif self._delete(sent):
                report.vanished.append(sent.place)
                report.counts["deleted"] += 1

    def check_all(self, parts: Iterable[Item | SkippedPart]) -> int:
        """Return how many items there are; with `strict`, raises `UnusableError` at the first that cannot be used."""
        count = sum(map(len, self._group_items(parts, Report(), lambda item: True)))
        self.state.begin()
        return count

    def _group_items(
        self, parts: Iterable[Item | SkippedPart], report: Report, is_settled: Callable[[Item], bool]
    ) -> Iterator[list[Item]]:
        """Yield items with their ids, as many as go together in one request."""
        chunk, size = list[Item](), 0
        for part in parts:
            if isinstance(part, SkippedPart):
                self._skip(part, report)
                continue
            if not is_settled(part):
                self.state.see(part.place)
                continue
            try:
                twin = part.twin and check_id(self.prefix + part.twin)
                id = self.state.take(part.place, check_id(self.prefix + part.id), twin)
            except UnreadableError as error:
                self._skip(SkippedPart(part.label, str(error)), report)
                continue
            if id is None:
                self._skip(SkippedPart(part.label, f"Another picture has the same id, {part.id}."), report)
                continue
            length = 0 if part.stamp is None else part.stamp.size
            if chunk and (len(chunk) == CHUNK or size + length > _CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(replace(part, id=id))
            size += length
        if chunk:
            yield chunk

    def _skip(self, part: SkippedPart, report: Report) -> None:
        if part.reason is SkipReason.EMPTY and not self.state.has_below(part.place):
            return
        self.state.see(part.place)
        if part.hides is not None:
            self.state.hide_below(part.hides)
        if self.strict and part.reason is SkipReason.UNUSABLE:
            raise UnusableError(f"{part.place}: {part.sentence}")
        report.count_skipped(part)

    def _process(self, chunk: Sequence[Item]) -> list[Outcome]:
        """Return what became of each, in one of several threads. Raises what refuses all of them."""
        sent = self.state.find_sent([item.place for item in chunk])
        current = self._find([item.id for item in chunk])
        outcomes = dict[str, Outcome]()  # by place
        together = list[Upload]()
        try:
            for item in chunk:
                if self.stopping.is_set():
                    break
                step = self._decide(item, sent.get(item.place), current.get(item.id))
                if isinstance(step, Outcome):
                    outcomes[item.place] = step
                elif len(step.content) <= _LARGE_BYTES and not self.dry_run:
                    together.append(step)
                else:
                    outcomes[item.place] = self._send_one(step)
            outcomes |= self._send_batch(together)
        finally:
            records = [outcome.sent for outcome in outcomes.values() if outcome.sent is not None]
            if records and not self.dry_run:
                self.state.save(records)
        return [outcomes[item.place] for item in chunk if item.place in outcomes]

    def _find(self, ids: Sequence[str]) -> dict[str, ListedPicture]:
        """Return those of these pictures that are in the gallery."""
        found: dict[str, ListedPicture] = {}
        for some in _group_ids(ids):
            wanted = json.dumps({"must": [{"key": "id", "match": {"any": some}}]}, ensure_ascii=False)
            query = {"filter": wanted, "limit": str(_IDS_IN_QUERY), "fields": ListedPicture.FIELDS}
            page = read_answer(retry(partial(self.client.get, "/v1/pictures", params=query), self.stopping))
            found |= {item["id"]: ListedPicture(item) for item in page["items"]}
        return found

    def _delete(self, sent: SentRecord) -> bool:
        """Delete what was sent of a place that vanished; return whether the gallery still had it."""
        current = self._find([sent.id]).get(sent.id)
        is_ours = current is not None and current.has_content(sent.sha256)
        if current is not None and is_ours:
            path, condition = build_path("/v1/pictures", sent.id), {"If-Match": f'"{current.item["etag"]}"'}
            response = retry(lambda: self.client.delete(path, headers=condition), self.stopping)
            is_ours = response.status_code not in (404, 412)
            if is_ours:
                response.raise_for_status()
        self.state.remove(sent.place)
        return is_ours

    def _decide(self, item: Item, sent: SentRecord | None, current: ListedPicture | None) -> Outcome | Upload:
        """Return the outcome of an item that is not sent, or the picture to send.

        `sent` is what an earlier run sent of its place, `current` the gallery's picture with its id.
        """
        document = json.dumps(item.record.as_json(), sort_keys=True)
        record, reader = hashlib.sha256(document.encode()).hexdigest()[:32], f"{_READER_VERSION} {self.language}"
        ours = sent if sent is not None and sent.id == item.id and not self.again else None
        same_record = ours is not None and ours.record == record
        same = ours is not None and same_record and ours.reader == reader
        same_file = ours is not None and item.stamp is not None and ours.stamp == item.stamp
        if ours is not None and same_file and same and current is not None and current.has_content(ours.sha256):
            return Outcome(item.label, item.id, "there")
        if same_file and same_record and current is None:
            return Outcome(item.label, item.id, "gone")
        try:
            with self._large if item.stamp is None or item.stamp.size > _LARGE_BYTES else nullcontext():
                content = item.read()
        except UnreadableError as error:
            return Outcome(item.label, item.id, "refused", str(error))
        sha256 = hashlib.sha256(content).hexdigest()
        new = SentRecord(item.place, item.id, item.stamp, sha256, record, reader)
        same_content = ours is not None and ours.sha256 == sha256
        if same_content and same_record and current is None:
            return Outcome(item.label, item.id, "gone", sent=new)
        if current is not None and not self.again:
            if current.has_content(sha256):
                if same_content and same:
                    return Outcome(item.label, item.id, "there", sent=new)
                target = SourceRecord() if same_record else item.record
                return self._change(item, current.compare(target, self._read(item, content), add=ours is None), new)
            if ours is None or same_content:  # somebody else's picture, or what somebody put in place of ours
                return Outcome(item.label, item.id, "refused", _ID_TAKEN)
        if self.limits is not None and (fault := find_fault(content, *self.limits)):
            return Outcome(item.label, item.id, "refused", fault)
        file = self._read(item, content)
        beside = {**({} if current is None else current.item["metadata"]), **item.record.metadata}
        file = replace(file, metadata=trim_metadata(file.metadata, beside))
        return Upload(item, content, item.record.extend(file), current, new)

    def _read(self, item: Item, content: bytes) -> SourceRecord:
        """Return what the file says of itself, and where it is, unless everything is said beside it."""
        if item.whole:
            return SourceRecord()
        said = read_metadata(content, self.language)
        return replace(said, metadata={**item.file, **said.metadata})

    def _change(self, item: Item, patch: dict[str, Any], sent: SentRecord) -> Outcome:
        if not patch:
            return Outcome(item.label, item.id, "there", sent=sent)
        path = build_path("/v1/pictures", item.id)
        return self._send(item, "changed", sent, partial(self.client.patch, path, json=patch))

    def _send_batch(self, uploads: Sequence[Upload]) -> dict[str, Outcome]:
        """Send pictures in one request; returns their outcomes by place."""
        if len(uploads) < 2:
            return {each.item.place: self._send_one(each) for each in uploads}
        records = json.dumps([{"id": each.item.id, **each.build_document()} for each in uploads], ensure_ascii=False)
        files = [("picture", each.build_file_part()) for each in uploads]

        def send() -> httpx.Response:
            form = {"records": records}
            return self.client.post("/v1/pictures/batch", params={"fields": "id"}, data=form, files=files)

        response = retry(send, self.stopping)
        if response.status_code in (413, 503):  # this service takes less at a time, or has no place for so many
            return {each.item.place: self._send_one(each) for each in uploads}
        outcomes = {}
        for each, result in zip(uploads, read_answer(response)["items"], strict=True):
            status, item = result["status"], each.item
            if status in _RETRY_STATUSES:
                outcomes[item.place] = self._send_one(each)
            elif result["outcome"] == "refused":
                reason = describe_problem(result["problem"], status)
                outcomes[item.place] = Outcome(item.label, item.id, "refused", reason)
            else:
                kind = _OUTCOMES[result["outcome"]]
                self.sent[kind] += 1
                same_as = result["already_there_as"] or ""
                outcomes[item.place] = Outcome(item.label, item.id, kind, sent=each.sent, same_as=same_as)
        return outcomes

    def _send_one(self, upload: Upload) -> Outcome:
        form = encode_form({"picture": upload.build_file_part(), **upload.build_document()})
        kind: OutcomeKind = "added" if upload.replaced is None else "replaced"
        put = partial(self.client.put, build_path("/v1/pictures", upload.item.id), files=form)
        return self._send(upload.item, kind, upload.sent, put)

    def _send(self, item: Item, kind: OutcomeKind, sent: SentRecord, send: Callable[[], httpx.Response]) -> Outcome:
        if self.dry_run:
            return Outcome(item.label, item.id, kind)
        response = retry(send, self.stopping)
        if response.status_code in _REFUSED_STATUSES:
            return Outcome(item.label, item.id, "refused", read_problem(response))
        same_as = read_answer(response).get("already_there_as") or ""
        self.sent[kind] += 1
        return Outcome(item.label, item.id, kind, sent=sent, same_as=same_as)


def _group_ids(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield ids in groups, each for one request."""
    some, size = list[str](), 0
    for id in ids:
        length = len(quote(id)) + 12
        if some and (size + length > _QUERY_BYTES or len(some) == _IDS_IN_QUERY):
            yield some
            some, size = [], 0
        some.append(id)
        size += length
    if some:
        yield some
