"""Brings items into a gallery: what is there is skipped, what was said otherwise is changed, the rest is sent."""

import hashlib
import json
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import httpx

from ..client import answer, at, message, patiently, put, sentence
from .about import about
from .items import MOST_TAGS, SUFFIXES, Item, Said, Unreadable, Why, clean_caption, fitting
from .state import Known, State

What = Literal["added", "replaced", "changed", "there", "gone", "refused"]  # gone: deleted in the gallery
_ANOTHER = "The gallery has another picture with this id: --prefix gives ids of their own, --again replaces it."
_REFUSED = (404, 412, 413, 415, 422)  # about one picture; another status is about all of them
_LATER = (429, 503, 507)  # of a picture in a batch: it may be sent again
_OUTCOMES: dict[str, What] = {"created": "added", "replaced": "replaced", "kept": "there"}
_FIELDS = "id,url,collection,tags,metadata,own,etag"
_LOOKED_UP, _QUERY_BYTES = 100, 6_000  # ids in one request: the service takes no longer query
_LARGE = 16 << 20  # bytes from which one picture at a time is read, and sent alone
_SPOKEN = 32  # digits
_READ_BY = 1  # how `about` reads files: whoever changes what it finds raises this, and unchanged files are read again


class Outcome(NamedTuple):
    """What became of an item; `reason` says why it was refused."""

    place: str
    id: str
    what: What
    reason: str = ""
    why: Why = Why.UNUSABLE


@dataclass(frozen=True)
class Found:
    """A picture in the gallery, and its record, of which `item` has the `_FIELDS`."""

    item: Mapping[str, Any]

    def has(self, content: str) -> bool:
        """Whether it is this content, by its hash."""
        (shown,) = parse_qs(urlsplit(self.item["url"]).query)["v"]
        return content.startswith(shown)

    def lacks(self, said: Said, file: Said, *, add: bool) -> dict[str, Any]:
        """The merge patch that makes its record say `said`, and what the `file` says where it says nothing.

        With `add`, its tags and captions stay beside those of `said`. Empty when nothing is missing.
        """
        has, own = self.item["metadata"], self.item["own"]
        metadata = {key: value for key, value in said.metadata.items() if has.get(key) != _normal(value)}
        missing = {key: value for key, value in file.metadata.items() if key not in has and key not in metadata}
        captions = {
            tag: [*dict.fromkeys([*(own.get(tag, ()) if add else ()), *texts])]
            for tag, texts in said.captions.items()
            if not _cleaned(texts) <= {*own.get(tag, ())}
        }
        patch: dict[str, Any] = {
            "metadata": {**fitting(missing, {**has, **metadata}), **metadata},
            "captions": {tag: [*texts] for tag, texts in file.captions.items() if tag not in own} | captions,
        }
        if said.collection not in (None, self.item["collection"]):
            patch["collection"] = said.collection
        if (tags := self._tags(said, file, add)) != self.item["tags"]:
            patch["tags"] = tags
        return {name: part for name, part in patch.items() if part}

    def _tags(self, said: Said, file: Said, add: bool) -> list[str]:
        has: list[str] = self.item["tags"]
        spoken, written = (_normal([*tags]) for tags in (said.tags, file.tags))
        if not spoken:
            return has or list(written)
        stays = has if add else [tag for tag in written if tag in has]
        return list(dict.fromkeys([*stays, *spoken] if add else [*spoken, *stays]))[:MOST_TAGS]

    def under(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A record for another content of this picture: what it says over what is kept; what it does not say stays."""
        over = dict(document)
        for name, own in (("metadata", self.item["metadata"]), ("captions", self.item["own"])):
            if name in over:
                over[name] = {**own, **over[name]}
        if "tags" in over:
            over["tags"] = list(dict.fromkeys([*self.item["tags"], *_normal(over["tags"])]))[:MOST_TAGS]
        return over


@dataclass(frozen=True)
class New:
    """A picture to be sent, and what to remember when it was taken."""

    item: Item
    content: bytes
    said: Said
    found: Found | None
    keep: Known

    def record(self) -> dict[str, Any]:
        """What is said of it, over what the gallery has of the picture that it replaces."""
        document = self.said.document()
        return document if self.found is None else self.found.under(document)

    def file(self) -> tuple[str, bytes, str]:
        """As a part of a form."""
        suffix = PurePosixPath(self.item.place).suffix.lower()
        return "picture", self.content, SUFFIXES.get(suffix, "application/octet-stream")


@dataclass
class Intake:
    """Takes chunks of items, in several threads. `language` is that of descriptions in files that become captions."""

    client: httpx.Client
    state: State
    again: bool = False
    dry_run: bool = False
    language: str | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    sent: Counter[str] = field(default_factory=Counter)  # by what became of them, also of chunks that are not done
    _large: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, chunk: Sequence[Item]) -> list[Outcome]:
        """What became of each. Raises what refuses all of them."""
        known = self.state.known([item.place for item in chunk])
        found = self.find([item.id for item in chunk])
        outcomes: dict[str, tuple[Outcome, Known | None]] = {}
        new: list[New] = []
        try:
            for item in chunk:
                if self.stopping.is_set():
                    break
                taken = self._take(item, known.get(item.place), found.get(item.id))
                if isinstance(taken, New) and len(taken.content) <= _LARGE and not self.dry_run:
                    new.append(taken)
                else:
                    outcomes[item.place] = self._sent_alone(taken) if isinstance(taken, New) else taken
            outcomes |= self._sent_together(new)
        finally:
            kept = [known for _, known in outcomes.values() if known is not None]
            if kept and not self.dry_run:
                self.state.keep(kept)
        return [outcomes[item.place][0] for item in chunk if item.place in outcomes]

    def find(self, ids: Sequence[str]) -> dict[str, Found]:
        """Those of these pictures that are in the gallery."""
        found: dict[str, Found] = {}
        for some in _lookups(ids):
            wanted = json.dumps({"must": [{"key": "id", "match": {"any": some}}]}, ensure_ascii=False)
            query = {"filter": wanted, "limit": str(_LOOKED_UP), "fields": _FIELDS}
            page = answer(patiently(lambda query=query: self.client.get("/v1/pictures", params=query), self.stopping))  # type: ignore[misc]
            found |= {item["id"]: Found(item) for item in page["items"]}
        return found

    def remove(self, known: Known) -> Outcome | None:
        """Delete what was sent of a place that vanished; None when the gallery has something else there, or nothing."""
        found = self.find([known.id]).get(known.id)
        removed = None
        if found is not None and found.has(known.sha256):
            path, seen = at("/v1/pictures", known.id), {"If-Match": f'"{found.item["etag"]}"'}
            response = patiently(lambda: self.client.delete(path, headers=seen), self.stopping)
            if response.status_code not in (404, 412):
                response.raise_for_status()
                removed = Outcome(known.place, known.id, "there")
        self.state.forget([known.place])
        return removed

    def _take(self, item: Item, known: Known | None, found: Found | None) -> "tuple[Outcome, Known | None] | New":
        """What becomes of it without being sent; or the picture to send."""
        said = self._digest(item.said)
        ours = known if known is not None and known.id == item.id and not self.again else None
        spoken = ours is not None and ours.said[:_SPOKEN] == said[:_SPOKEN]  # what is said beside the file is the same
        unread = ours is not None and item.stamp is not None and ours.stamp == item.stamp
        if ours is not None and unread and ours.said == said and found is not None and found.has(ours.sha256):
            return _outcome(item, "there"), None
        if unread and spoken and found is None:
            return _outcome(item, "gone"), None
        large = self._large if item.stamp is None or item.stamp.size > _LARGE else nullcontext()
        try:
            with large:
                content = item.read()
        except Unreadable as fault:
            return _outcome(item, "refused", fault.reason, fault.why), None
        sha256 = hashlib.sha256(content).hexdigest()
        keep = Known(item.place, item.id, item.stamp, sha256, said)
        unchanged = ours is not None and ours.sha256 == sha256
        if unchanged and spoken and found is None:
            return _outcome(item, "gone"), keep
        if found is not None and not self.again:
            if found.has(sha256):
                if ours is not None and unchanged and ours.said == said:
                    return _outcome(item, "there"), keep
                words = Said() if spoken else item.said
                patch = found.lacks(words, self._read(item, content), add=ours is None)
                return self._change(item, patch, keep)
            if ours is None or unchanged:  # somebody else's picture, or what somebody put in place of ours
                return _outcome(item, "refused", _ANOTHER), None
        return New(item, content, self._said(item, self._read(item, content), found), found, keep)

    def _read(self, item: Item, content: bytes) -> Said:
        """What the file says of itself, unless everything is said beside it."""
        return Said() if item.whole else about(content, self.language)

    def _said(self, item: Item, file: Said, found: Found | None) -> Said:
        """All that is said of it; of what the file says, not what would be too long with the rest."""
        rest = {**({} if found is None else found.item["metadata"]), **item.said.metadata}
        return item.said.over(replace(file, metadata=fitting(file.metadata, rest)))

    def _change(self, item: Item, patch: dict[str, Any], keep: Known) -> tuple[Outcome, Known | None]:
        if not patch:
            return _outcome(item, "there"), keep
        return self._sent(item, "changed", keep, lambda: self.client.patch(at("/v1/pictures", item.id), json=patch))

    def _sent_together(self, new: Sequence["New"]) -> dict[str, tuple[Outcome, Known | None]]:
        """The outcomes of pictures that are sent in one request, by place."""
        if len(new) < 2:
            return {each.item.place: self._sent_alone(each) for each in new}
        records = json.dumps([{"id": each.item.id, **each.record()} for each in new], ensure_ascii=False)
        files = [("picture", each.file()) for each in new]

        def send() -> httpx.Response:
            form = {"records": records}
            return self.client.post("/v1/pictures/batch", params={"fields": "id"}, data=form, files=files)

        response = patiently(send, self.stopping)
        if response.status_code in (413, 503):  # this service takes less at a time, or has no place for so many
            return {each.item.place: self._sent_alone(each) for each in new}
        outcomes = {}
        for each, answered in zip(new, answer(response)["items"], strict=True):
            status, item = answered["status"], each.item
            if status in _LATER:
                outcomes[item.place] = self._sent_alone(each)
            elif answered["outcome"] == "refused":
                outcomes[item.place] = (_outcome(item, "refused", message(answered["problem"], status)), None)
            else:
                what = _OUTCOMES[answered["outcome"]]
                self.sent[what] += 1
                outcomes[item.place] = (_outcome(item, what), each.keep)
        return outcomes

    def _sent_alone(self, new: "New") -> tuple[Outcome, Known | None]:
        document = new.record()
        captions: Any = document.pop("captions", {})
        fields = {name: part if isinstance(part, str) else json.dumps(part) for name, part in document.items()}
        what: What = "added" if new.found is None else "replaced"
        return self._sent(
            new.item, what, new.keep, lambda: put(self.client, new.item.id, new.file(), captions, fields, self.stopping)
        )

    def _sent(
        self, item: Item, what: What, keep: Known, send: Callable[[], httpx.Response]
    ) -> tuple[Outcome, Known | None]:
        if self.dry_run:
            return _outcome(item, what), None
        response = patiently(send, self.stopping)
        if response.status_code in _REFUSED:
            return _outcome(item, "refused", sentence(response)), None
        answer(response)
        self.sent[what] += 1
        return _outcome(item, what), keep

    def _digest(self, said: Said) -> str:
        """The hash of what is said beside the file, `_SPOKEN` digits, and then of how the file is read."""
        spoken, read = (
            hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest()
            for each in (said.document(), [self.language, _READ_BY])
        )
        return spoken[:_SPOKEN] + read[:8]


def _outcome(item: Item, what: What, reason: str = "", why: Why = Why.UNUSABLE) -> Outcome:
    return Outcome(item.shown or item.place, item.id, what, reason, why)


def _lookups(ids: Sequence[str]) -> Iterator[list[str]]:
    """Ids in groups, each for one request."""
    some, size = list[str](), 0
    for id in ids:
        length = len(quote(id)) + 12
        if some and (size + length > _QUERY_BYTES or len(some) == _LOOKED_UP):
            yield some
            some, size = [], 0
        some.append(id)
        size += length
    if some:
        yield some


def _normal(value: Any) -> Any:
    """As the service keeps it."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return list(dict.fromkeys(map(_normal, value))) if isinstance(value, list) else value


def _cleaned(texts: Sequence[str]) -> set[str]:
    """Captions as the service keeps them; one that it refuses is as it is, and will be refused."""
    return {clean_caption(text) or text for text in texts}
