"""Reading operations: one picture, searches, listings, counts; what comes back is compared with the ledger.

What a process was sent itself it must know at once. What another one was sent it may learn within some seconds.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.torture.client import ADMIN_KEY, Answer, Api
from tests.torture.contents import CAPTION, draw_picture, list_texts
from tests.torture.draws import Step
from tests.torture.languages import Lineage, Vectors
from tests.torture.ledger import Ledger, Matches, Record, State, Violation, describe, judge_counts, judge_hits
from tests.torture.writes import Judge, is_busy, quote_id, record_of

FOLLOWING, BUSY_FOLLOWING = 20.0, 120.0  # seconds within which a process has followed another one's writes
LONGEST = "seconds at most until a process had followed another one"
ABSENT: frozenset[State] = frozenset({None})
Filter = Mapping[str, Any] | None
Vector = np.ndarray[Any, Any]


class Looker:
    """Reads through one API process or the other."""

    def __init__(self, ledger: Ledger, judge: Judge, lineage: Lineage) -> None:
        self._ledger, self._judge, self._lineage = ledger, judge, lineage
        self.bound: dict[str, str] = {}  # collections, and a key that sees this one alone
        self._files: dict[str, int] = {}  # `v` of the address of a stored file, and which picture it is
        self._bytes: dict[str, int] = {}  # hashes of stored files
        self._uploaded: dict[int, Vector] = {}
        self._stored: dict[int, Vector] = {}

    def learn_contents(self, api: Api, contents: Mapping[str, int]) -> None:
        """Note the stored form and the vector of each picture, from ids that have them."""
        for id, content in contents.items():
            item = api.ask_until_done("GET", f"/v1/pictures/{quote_id(id)}").body
            self._files[item["url"].partition("?v=")[2]] = content
            self._bytes[hashlib.sha256(api.ask_until_done("GET", item["url"]).body).hexdigest()] = content
            files = {"picture": ("x", draw_picture(content))}
            answer = api.ask_until_done("POST", "/v1/embeddings", files=files)
            self._uploaded[content] = np.asarray(answer.body["data"][0]["embedding"])
            self._stored[content] = self._uploaded[content].astype(np.float16).astype(float)

    def get(self, api: Api, id: str) -> None:
        begun = time.monotonic()
        answer = api.ask("GET", f"/v1/pictures/{quote_id(id)}")
        if answer.status == 404:
            self._ledger.observe(id, None, begun)
        elif answer.is_ok:
            self._ledger.observe(id, self.record(answer.body), begun)
        else:
            self._judge.accept(answer, f"GET {id}")

    def record(self, item: Mapping[str, Any]) -> Record:
        """Return what an answer says of a picture."""
        return record_of(item, self._files.get(item["url"].partition("?v=")[2], -1))

    def search(self, api: Api, operation: Step) -> None:
        """Search with room for all hits, again while only what others wrote is missing."""
        collection = sorted(self.bound)[operation["content"] % len(self.bound)] if self.bound else None
        if not operation["is_bound"]:
            collection = None
        begun = math.inf  # counted from the first answer on: on a busy machine that alone may take as long
        while True:
            before, writers = self._ledger.snapshot()
            answer = self._ask(api, operation, self.bound[collection] if collection else ADMIN_KEY)
            after, _ = self._ledger.snapshot()
            states = {id: before.get(id, ABSENT) | after[id] for id in after}
            if not answer.is_ok and answer.code != "picture_not_found":
                return self._judge.accept(answer, f"the search {operation}")
            wrong = self._judge_answer(answer, operation, collection, states)
            self._judge.counts["searches"] += 1
            if not wrong:
                return
            own = [w for w in wrong if writers.get(w[1]) == api.process and before.get(w[1]) == after[w[1]]]
            begun = min(begun, time.monotonic())
            late = time.monotonic() - begun
            if own or late > (BUSY_FOLLOWING if is_busy() else FOLLOWING):
                sentences = "; ".join(sentence for _, _, sentence in own or wrong)
                answered = f"{api.process} answered {operation} wrongly after {late:.0f} s"
                raise Violation((own or wrong)[0][0], f"{answered}: {sentences}")
            self._judge.counts[LONGEST] = max(self._judge.counts[LONGEST], math.ceil(late))
            time.sleep(0.2)

    def _ask(self, api: Api, operation: Step, key: str) -> Answer:
        by, language = operation["by"], operation["language"]
        if by == "picture":
            files = {"picture": ("x", draw_picture(operation["content"]))}
            return api.ask("POST", "/v1/search/pictures", key, files=files, data={"limit": "100"})
        question: dict[str, Any] = {"limit": 100, "facets": ["collection"]}
        if operation["filter"]:
            question["filter"] = {"must": [operation["filter"]]}
        if by == "words":
            question |= {"text": choose_word(operation), "mode": "words"}
        elif by == "like":
            question |= {"picture": operation["id"]}
        else:
            question |= {"text": list_texts(language)[operation["text"]], "language": language, "mode": "meaning"}
        return api.ask("POST", "/v1/search/pictures", key, json=question)

    def _judge_answer(
        self, answer: Answer, operation: Step, collection: str | None, states: dict[str, frozenset[State]]
    ) -> list[tuple[str, str, str]]:
        by = operation["by"]
        allowed = make_matcher(None if by == "picture" else operation["filter"], collection)
        if by == "like":
            visible = make_matcher(None, collection)
            asked = states.pop(operation["id"], ABSENT)
            if answer.status == 404:
                is_there = all(state is not None and visible(state) for state in asked)
                return [("lost", operation["id"], f"{operation['id']} is not found")] if is_there else []
            if not any(state is not None and visible(state) for state in asked):
                return [("back", operation["id"], f"{operation['id']} is found and is {describe(asked)}")]
        scores = [item["score"] for item in answer.body["items"]]
        hits = {item["id"]: item["score"] for item in answer.body["items"]}
        if scores != sorted(scores, reverse=True) or len(hits) != len(scores):
            raise Violation("mixed", f"{operation} is answered in the order {scores}")
        has_word: Matches = lambda record: allowed(record) and choose_word(operation) in (record.caption or "").split()  # noqa: E731
        matches = has_word if by == "words" else allowed
        wrong = judge_hits(hits, states, matches, self._make_scorer(operation, answer.body))
        counts = {value["value"]: value["count"] for value in (answer.body.get("facets") or {}).get("collection", [])}
        if counts and by == "text" and not wrong:
            sentences = judge_counts(counts, states, lambda record: [record.collection] if allowed(record) else [])
            wrong += [("mixed", "", sentence) for sentence in sentences]
        return wrong

    def _make_scorer(self, operation: Step, body: Mapping[str, Any]) -> Callable[[int], float] | None:
        by = operation["by"]
        if by == "words":
            return None
        if by == "picture":
            asked = self._uploaded[operation["content"]]
        elif by == "like":
            return None
        else:
            known = self._find_vectors(operation["language"], body)
            if known is None:
                return None
            asked = np.asarray(known[operation["text"]])
        unknown = np.full(asked.shape, np.nan)
        return lambda content: min(1.0, float(asked @ self._stored.get(content, unknown)))  # halves may be longer

    def _find_vectors(self, language: str, body: Mapping[str, Any]) -> Vectors | None:
        """Return the vectors by which an answer must have been made, by the release and version that it names."""
        release, version = body["release"], body["version"]
        if release in self._lineage.releases and self._lineage.version(release, language) != version:
            raise Violation("mixed", f"{language} is read by version {version} in an answer of release {release}")
        return self._lineage.vectors(language, version)

    def file(self, api: Api, id: str) -> None:
        """Compare the stored file of a picture that is there with its content."""
        possible = self._ledger.list_possible(id)
        answer = api.ask("GET", f"/v1/pictures/{quote_id(id)}/content")
        if answer.status == 404 and None not in possible:
            raise Violation("lost", f"the file of {id} is answered 404")
        if not answer.is_ok:
            return self._judge.accept(answer, f"the file of {id}")
        content = self._bytes.get(hashlib.sha256(answer.body).hexdigest(), -1)
        if all(state is None or state.content != content for state in possible):
            raise Violation("mixed", f"the file of {id} shows picture {content}, and it may be {describe(possible)}")

    def counts(self, api: Api) -> None:
        """Compare the list of collections with the ledger."""
        answer = api.ask("GET", "/v1/collections")
        if not answer.is_ok:
            return self._judge.accept(answer, "the collections")
        counts = {item["name"]: item["count"] for item in answer.body["items"]}
        states = {id: self._ledger.list_possible(id) for id in self._ledger.list_ids()}
        if wrong := judge_counts(counts, states, lambda record: [record.collection]):
            raise Violation("mixed", f"{api.process} counts collections wrongly: {'; '.join(wrong)}")

    def judge_listing(self, api: Api, key: str | None = None) -> None:
        """Compare all pictures, page by page, with the ledger."""
        try:
            listed = {item["id"]: self.record(item) for item in api.list_all("/v1/pictures", sort="created_at")}
        except LookupError:
            return  # a fault: other reads judge refusals
        for id in sorted({*listed, *self._ledger.list_ids()}):
            seen, possible = listed.get(id), self._ledger.list_possible(id)
            if seen not in possible:
                kind = "lost" if seen is None else "back" if possible == {None} else "mixed"
                raise Violation(kind, f"{api.process} lists {id} as {seen}, and it may be {describe(possible)}")


def choose_word(operation: Step) -> str:
    return f"{CAPTION}{operation['content'] % 6}"


def make_matcher(condition: Filter, collection: str | None) -> Callable[[Record], bool]:
    """Whether a filter, and the one collection that a key may see, leave a record."""

    def matches(record: Record) -> bool:
        if collection is not None and record.collection != collection:
            return False
        if condition is None:
            return True
        if condition["key"] == "tags":
            return condition["match"]["value"] in record.tags
        if condition["key"] == "collection":
            return record.collection in condition["match"]["any"]
        return record.year is not None and record.year >= condition["range"]["gte"]

    return matches
