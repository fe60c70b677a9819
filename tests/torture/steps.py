"""A history carried out: each step against the deployment, each answer against the ledger."""

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event, Lock
from typing import Any

from tests.torture.client import Api
from tests.torture.contents import IDS, LESSON, PICTURES, list_texts, write_dataset
from tests.torture.deployment import APIS, Deployment
from tests.torture.draws import Step
from tests.torture.faults import Nemesis, Windows
from tests.torture.languages import Lineage, has_ended
from tests.torture.ledger import Ledger, Violation
from tests.torture.looks import BUSY_FOLLOWING, FOLLOWING, Looker
from tests.torture.restores import Copy
from tests.torture.servers import PATIENCE
from tests.torture.writes import Judge, Writer, is_busy, quote_id

CLIENTS = 4


class Runner:
    """Carries out steps; raises Violation at the first broken promise."""

    def __init__(self, deployment: Deployment, ledger: Ledger, counts: Counter[str]) -> None:
        self.deployment, self.ledger, self.counts = deployment, ledger, counts
        self.windows, self.lineage = Windows(), Lineage()
        self.judge = Judge(self.windows, counts)
        self.nemesis = Nemesis(deployment, self.windows, counts)
        self.writer = Writer(ledger, self.judge)
        self.looker = Looker(ledger, self.judge, self.lineage)
        self.pending: dict[str, dict[str, Any]] = {}  # submissions whose answer got lost, by their idempotency key
        self._locks = {id: Lock() for id in IDS}
        self._keys = 0

    def begin(self) -> None:
        """Fill the gallery with one picture of each kind, and learn how each is stored."""
        api, contents = self.deployment.apis[APIS[0]], dict(zip(IDS, range(PICTURES), strict=False))
        changes: dict[str, Any] = {"collection": "default", "tags": [], "caption": "motif0 left", "year": 1900}
        missing, until = [*contents], time.monotonic() + PATIENCE
        while missing:  # a busy machine refuses some
            puts = [{"id": id, "changes": {**changes, "content": contents[id]}} for id in missing]
            self.writer.batch(api, {"puts": puts})
            missing = [id for id in missing if not api.ask("GET", f"/v1/pictures/{quote_id(id)}").is_ok]
            if time.monotonic() > until:
                raise Violation("stuck", f"pictures are refused for {PATIENCE} s")
        self.looker.learn_contents(api, contents)
        self.see_languages(api)

    def api(self, number: int) -> Api:
        """Return the API process that a step names, or the other one where that is not ready; waits for one of them."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for name in (APIS[number], APIS[1 - number]):
                if not self.nemesis.is_starting(name):
                    return self.deployment.apis[name]
            self.nemesis.tend()
            time.sleep(0.2)
        raise Violation("stuck", f"no API is ready after {PATIENCE} s: {self.deployment.log_tail()}")

    def do(self, step: Step) -> None:
        self.nemesis.tend()
        self.ledger.note(**step)
        self.counts["steps"] += 1
        getattr(self, f"_{step['step']}")(step)
        if self.deployment.unexpected:
            raise Violation("died", "; ".join(self.deployment.unexpected))

    def _burst(self, step: Step) -> None:
        answered, struck, counted = Event(), step.get("fault"), Lock()
        done = [0]

        def run(operation: Step) -> None:
            ids = [put["id"] for put in operation["puts"]] if "puts" in operation else [operation["id"]]
            with ExitStack() as held:
                for id in sorted(ids) if operation["do"] != "search" else []:
                    held.enter_context(self._locks[id])
                self._operate(operation)
            with counted:
                done[0] += 1
                if struck and done[0] > struck["after"]:
                    answered.set()

        def strike() -> None:
            assert struck is not None
            answered.wait(PATIENCE)
            self.nemesis.strike(struck["kind"], struck["target"], struck["seconds"], struck["detail"])

        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            futures = [pool.submit(strike)] if struck else []
            futures += [pool.submit(run, operation) for operation in step["operations"]]
            failures = [error for future in futures if (error := future.exception()) is not None]
            answered.set()
        if failures:
            raise failures[0]

    def _backup(self, step: Step) -> None:
        copy = Copy(self.deployment)
        with self.ledger.watch() as moments, ThreadPoolExecutor(1) as pool:
            making = pool.submit(copy.make)
            self._burst(step)
            making.result()
        copy.restore()
        copy.check(self.looker, moments)
        copy.remove()
        self.counts["restored copies"] += 1

    def _operate(self, operation: Step) -> None:
        api = self.api(operation["api"])
        self.counts["operations"] += 1
        if operation["do"] == "search":
            self.looker.search(api, operation)
        elif operation["do"] == "get":
            self.looker.get(api, operation["id"])
        elif operation["do"] == "batch":
            self.writer.batch(api, operation)
        else:
            self.writer.do(api, operation)

    def _teach(self, step: Step) -> None:
        self._keys += 1
        kind = {"assess": "true"} if step["step"] == "assess" else {"force": "true"}
        if step["replace"] and step["step"] == "teach":
            kind["replace"] = "true"
        form = {"language": step["language"], "confirmed": "true", "settings": json.dumps(LESSON), **kind}
        self._submit(f"torture-{self._keys}", {"data": form, "number": step["dataset"]}, step["api"])

    _assess = _teach

    def _submit(self, key: str, form: dict[str, Any], number: int) -> None:
        language = form["data"]["language"]
        file = ("dataset.jsonl", write_dataset(language, form["number"]))
        headers = {"Idempotency-Key": key}
        answer = self.api(number).ask(
            "POST", "/v1/languages", data=form["data"], files={"dataset": file}, headers=headers
        )
        self.ledger.note(submission=key, language=language, status=answer.status, code=answer.code)
        self.judge.accept(answer, f"the submission {key}")
        if answer.status == 202:
            id, known = answer.body["expansion"]["id"], self.pending.pop(key, {}).get("id")
            if known not in (None, id):
                raise Violation("mixed", f"the submission {key} is {known} and {id}")
            self.lineage.submitted[id] = language
            self.counts["submissions"] += 1
        elif answer.was_sent and answer.status not in (404, 409):
            self.pending[key] = form
        else:
            self.pending.pop(key, None)

    def submit_again(self) -> None:
        """Send each submission whose answer got lost again, with the same key."""
        for key, form in list(self.pending.items()):
            self._submit(key, form, 0)

    def _cancel(self, step: Step) -> None:
        if not self.lineage.submitted:
            return
        id = [*self.lineage.submitted][-1]
        answer = self.api(step["api"]).ask("POST", f"/v1/expansions/{id}/cancel")
        if answer.status == 404:
            raise Violation("lost", f"the expansion {id} was acknowledged and is answered 404")
        self.judge.accept(answer, f"the end of {id}")

    def _rollback(self, step: Step) -> None:
        api = self.api(step["api"])
        self.see_languages(api)
        answer = api.ask(
            "POST", f"/v1/admin/languages/{step['language']}/rollback", json={"expected": self.lineage.newest}
        )
        self.judge.accept(answer, f"the rollback of {step['language']}")
        self.counts["rollbacks"] += answer.is_ok
        self.see_languages(api)

    def _restore(self, step: Step) -> None:
        api = self.api(step["api"])
        self.see_languages(api)
        newest = self.lineage.newest
        path = f"/v1/admin/releases/{max(1, newest - step['back'])}/restore"
        answer = api.ask("POST", path, json={"expected": newest})
        self.judge.accept(answer, path)
        self.counts["restores"] += answer.is_ok
        self.see_languages(api)

    def _prune(self, step: Step) -> None:
        answer = self.api(step["api"]).ask("POST", "/v1/admin/prune", json={"keep": step["keep"]})
        self.judge.accept(answer, "the pruning")
        self.counts["prunings"] += answer.is_ok

    def _key(self, step: Step) -> None:
        api, collection = self.api(step["api"]), step["collection"]
        body = {"scope": "search", "collections": [collection]}
        answer = api.ask("POST", "/v1/admin/keys", json=body)
        self.judge.accept(answer, "a new key")
        if not answer.is_ok:
            return
        key = answer.body["key"]

        if not step["revoke"]:
            self.looker.bound[collection] = key
            return self._wait_until(lambda: self._is_taken(key), "a new key is refused")
        revoked = api.ask("DELETE", f"/v1/admin/keys/{answer.body['id']}")
        self.judge.accept(revoked, "the end of a key")
        if revoked.is_ok:
            self._wait_until(lambda: self._is_refused(key), "a revoked key is accepted")

    def _is_taken(self, key: str) -> bool:
        return all(api.ask("GET", "/v1/models", key).status != 401 for api in self.deployment.apis.values())

    def _is_refused(self, key: str) -> bool:
        return all(not api.ask("GET", "/v1/models", key).is_ok for api in self.deployment.apis.values())

    def _wait_until(self, holds: Callable[[], bool], what: str) -> None:
        begun = time.monotonic()
        while not holds():
            late = time.monotonic() - begun
            if late > (BUSY_FOLLOWING if is_busy() else FOLLOWING):
                raise Violation("stuck", f"{what} after {late:.0f} s")
            time.sleep(0.2)

    def _verify(self, step: Step) -> None:
        answer = self.api(step["api"]).ask("POST", "/v1/admin/index/verify")
        self.judge.accept(answer, "index verify")
        if answer.is_ok and not answer.body["ok"] and not self.windows.are_open():
            raise Violation("damaged", f"index verify says {answer.body}")

    def _vectors(self, step: Step) -> None:
        api = self.api(step["api"])
        self.see_languages(api)
        for language in ("en", step["language"]):
            self.see_vectors(api, language)

    def _listing(self, step: Step) -> None:
        api = self.api(step["api"])
        self.looker.judge_listing(api)
        self.looker.counts(api)
        self.see_languages(api)

    def see_languages(self, api: Api) -> list[Any]:
        """Look at releases, versions and expansions; returns the expansions that have not ended."""
        ready = api.ask("GET", "/readyz")
        if ready.is_ok and not ready.body["degraded"]:
            self.lineage.see_served(api.process, ready.body["release"])
        try:
            # first: what has ended has published its release before
            expansions, versions = list(api.list_all("/v1/expansions")), list(api.list_all("/v1/versions"))
            self.lineage.see_releases(list(api.list_all("/v1/admin/releases")))
        except LookupError:
            return []
        self.lineage.see_expansions(expansions, versions)
        return [expansion for expansion in expansions if not has_ended(expansion)]

    def see_vectors(self, api: Api, language: str) -> None:
        """Compare the vectors of a language with those that its version had before, unless a release comes between."""
        try:
            before = api.ask("GET", "/readyz").body["release"]
            vectors = tuple(tuple(api.fetch_vector(text, language)) for text in list_texts(language))
            after = api.ask("GET", "/readyz").body["release"]
        except (LookupError, TypeError, KeyError):
            return  # the language is not there, or a fault is
        self.lineage.see_served(api.process, after)
        if before == after and before in self.lineage.releases:
            version = self.lineage.version(before, language)
            if version is not None:
                self.lineage.see_vectors(language, version, vectors)
                self.counts["vectors compared"] += 1
