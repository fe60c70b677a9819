"""Writing operations of a burst: sent, and entered in the ledger by what came back."""

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.torture.client import Answer, Api
from tests.torture.contents import draw_picture
from tests.torture.draws import Step
from tests.torture.faults import Windows
from tests.torture.ledger import Ledger, Record, State, Violation, Write

DOUBT = 4.0  # seconds within which a database may still carry out what its client, now dead, had sent
REFUSED = frozenset({400, 408, 412, 413, 415, 422, 429})
BUSY = "refused on a busy machine"  # 2 % of the writes at a load of 28
SERVERS_AWAY = ("registry_unavailable", "store_unavailable")  # which run on this machine too


class Judge:
    """Says of each answer whether it may be; counts refusals."""

    def __init__(self, windows: Windows, counts: Counter[str]) -> None:
        self.windows, self.counts = windows, counts

    def accept(self, answer: Answer, what: str) -> None:
        """Raise Violation unless it is a success, a plain 404 or 409, or a refusal that a fault excuses."""
        if answer.status == 0:
            if answer.was_sent and not self.windows.explain_silence(answer.process, answer.begun, answer.ended):
                raise Violation("silent", f"{answer.process} did not answer {what}, and no fault was on it")
            self.counts["unanswered"] += 1
            return
        if answer.is_ok or answer.status in (404, 409):
            return
        if answer.status == 500 or not answer.code:
            raise Violation("undocumented", f"{answer.process} answered {what} with {answer.status} {answer.body!r}")
        if self.windows.excuse(answer.process, answer.code, answer.begun, answer.ended):
            self.counts["refused during a fault"] += 1
        elif answer.code in SERVERS_AWAY and is_busy() and self._is_rare(BUSY):
            self.counts[BUSY] += 1
        else:
            raise Violation("undocumented", f"{answer.process} refused {what} without a fault: {answer.body}")

    def _is_rare(self, refusal: str) -> bool:
        return self.counts[refusal] < 5 + self.counts["acknowledged writes"] / 10


def is_busy() -> bool:
    """Whether this machine is so busy that who holds a lock of SQLite may not run, or wait for a disk, for seconds.

    The load is an average of the last minute, and tells nothing at the begin of a run; Linux's pressure does.
    """
    for resource in ("cpu", "io"):
        with suppress(OSError, ValueError, IndexError):
            waiting = Path("/proc/pressure", resource).read_text().partition("avg10=")[2].split()[0]
            if float(waiting) > 50:  # of the last ten seconds, in percent: somebody could not go on
                return True
    return os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)


class Writer:
    """Puts, patches, deletes, and batches of puts."""

    def __init__(self, ledger: Ledger, judge: Judge) -> None:
        self._ledger, self._judge = ledger, judge

    def do(self, api: Api, operation: Step) -> None:
        """Carry out one operation on one picture; raises Violation if its answer cannot be."""
        write = Write(operation["do"], operation["id"], freeze(operation.get("changes", {})))
        before = self._ledger.begin(write)
        answer = self._send(api, write)
        self._enter(api.process, write, before, answer)

    def batch(self, api: Api, operation: Step) -> None:
        """Send several puts in one request, each with an outcome of its own."""
        writes = [Write("put", put["id"], freeze(put["changes"])) for put in operation["puts"]]
        before = [self._ledger.begin(write) for write in writes]
        records = [{"id": write.id, **build_fields(write.changes)} for write in writes]
        files = [("picture", ("x", draw_picture(write.changes["content"]))) for write in writes]
        answer = api.ask("POST", "/v1/pictures/batch", files=files, data={"records": json.dumps(records)})
        if answer.code == "overloaded":  # an API process takes two batches at a time
            self._judge.counts["refused beside other batches"] += 1
            for write, states in zip(writes, before, strict=True):
                self._ledger.refuse(write, states)
            return
        if not answer.is_ok:
            for write, states in zip(writes, before, strict=True):
                self._enter(api.process, write, states, answer)
            return
        for write, states, item in zip(writes, before, answer.body["items"], strict=True):
            status = 200 if item["outcome"] in ("replaced", "kept") else item["status"]
            own = Answer(api.process, status, item["problem"], True, answer.begun, answer.ended)
            self._enter(api.process, write, states, own)

    def _send(self, api: Api, write: Write) -> Answer:
        path = f"/v1/pictures/{quote_id(write.id)}"
        if write.kind == "delete":
            return api.ask("DELETE", path)
        fields = build_fields(write.changes)
        if write.kind == "patch":
            headers = {"Content-Type": "application/merge-patch+json"}
            return api.ask("PATCH", path, content=json.dumps(fields), headers=headers)
        form = {name: value if name == "collection" else json.dumps(value) for name, value in fields.items()}
        return api.ask("PUT", path, files={"picture": ("x", draw_picture(write.changes["content"]))}, data=form)

    def _enter(self, process: str, write: Write, before: frozenset[State], answer: Answer) -> None:
        self._ledger.note(write=write.kind, id=write.id, changes=dict(write.changes), process=process,
                          status=answer.status, code=answer.code)  # fmt: skip
        if answer.is_ok or answer.status == 404:
            self._judge.counts["acknowledged writes"] += 1
            return self._ledger.acknowledge(write, before, answer.status, process)
        if answer.status in REFUSED or not answer.was_sent:
            self._ledger.refuse(write, before)
        else:
            self._ledger.note_lost_answer(write, time.monotonic() + DOUBT)
        self._judge.accept(answer, f"{write.kind} {write.id}")


def freeze(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}


def build_fields(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes as the API takes them."""
    fields: dict[str, Any] = {name: changes[name] for name in ("collection", "tags") if name in changes}
    if "year" in changes:
        fields["metadata"] = {"year": changes["year"]}
    if "caption" in changes:
        fields["captions"] = {"en": [changes["caption"]]}
    return fields


def record_of(item: Mapping[str, Any], content: int) -> Record:
    """Return what an answer of the API says of a picture."""
    captions = item["own"].get("en", [None])
    return Record(content, item["collection"], tuple(item["tags"]), item["metadata"].get("year"), captions[0])


def quote_id(id: str) -> str:
    return id.replace("%", "%25").replace("/", "%2F").replace(" ", "%20")
