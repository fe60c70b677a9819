"""Asks operations of a service while chosen calls fail, and tells what came of it that may not be."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx

from tests.durability.deployment import Deployment
from tests.durability.failing_calls import FailingCalls, Fault
from tests.durability.ledger import Ledger
from tests.durability.operations import Asked, Operation, read_holdings, require_accepted, write_dataset
from tests.service.harness import wait_until

_CHANGING = ("timing_ms", "request_id", "url", "created_at")  # of an answer, from one to the next
# Answers that tell what cannot be read by leaving it out, or by saying so, and that differ in any case.
_INDEFINITE = (
    "verify",
    "get a version",
    "ask for readiness",
    "ask for metrics",
    "embed",
    "list pictures",
    "list keys",
)
_DATABASE = "/registry.db"  # whose checkpoints may fail: they are made again
_WRITTEN_AGAIN = "put a batch"  # pictures that cannot be put together are put one by one, and written anew
_NO_CODE = ("internal_error",)  # documented, but nobody could do anything about it


@cache
def read_documented() -> set[tuple[int, str]]:
    """Return status and code of each refusal in docs/errors.md."""
    text = Path(__file__).parents[2].joinpath("docs", "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d, –]+) \|", text, re.MULTILINE)
    return {(int(status), code) for code, statuses in rows for status in re.findall(r"\d+", statuses)}


@dataclass
class Disturbing:
    """Operations on one service, its faults, and what was found. `counts` are by kind and error of the fault."""

    asked: Asked
    calls: FailingCalls
    problems: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def disturb(self, operation: Operation, fault: Fault) -> bool:
        """Ask for an operation while calls fail; returns whether any did."""
        asked, deployment = self.asked, self.asked.deployment
        asked.number += 1
        send = operation.prepare(asked)
        undisturbed = send() if operation.reads else None
        if fault.kind == "accept":
            asked.client.close()
            asked.deployment.connect()
        with self.calls.fail_calls(fault, deployment.processes["service"].pid, deployment.home):
            try:
                answer = send()
            except httpx.TransportError as error:
                answer = httpx.Response(0, text=type(error).__name__)
        fired, where = self.calls.failed, self.calls.where.removeprefix(str(deployment.home))
        if deployment.processes["service"].poll() is not None:
            self._say(operation, fault, where, f"the service ended\n{deployment.log_end()}")
            deployment.restart()
        operation.write(asked, answer.status_code)
        operation.clean(asked)
        if fired:
            self.counts[(fault.kind, fault.error_name)] += 1
            self._judge(operation, fault, where, answer, undisturbed)
        return bool(fired)

    def _judge(
        self, operation: Operation, fault: Fault, where: str, answer: httpx.Response, undisturbed: httpx.Response | None
    ) -> None:
        status, code = answer.status_code, _read_code(answer)
        self.answers[f"{status} {code}".strip()] += 1
        if status == 0 or (status >= 400 and ((status, code) not in read_documented() or code in _NO_CODE)):
            self._say(operation, fault, where, f"{status} {code or answer.text[:100]}")
        elif fault.kind == "fsync" and _is_acknowledged(answer) and not where.startswith(_DATABASE):
            if fault.count > 1 or operation.name != _WRITTEN_AGAIN:
                self._say(operation, fault, where, f"{status} although it is not durable")
        elif undisturbed is None or status >= 400 or operation.name in _INDEFINITE:
            return
        elif _drop_changing(answer) != _drop_changing(undisturbed):
            self._say(operation, fault, where, f"{answer.text[:300]} in place of {undisturbed.text[:300]}")

    def teach(self, fault: Fault) -> bool:
        """Have a language taught and pictures sealed while calls of the worker fail; returns whether any did.

        Whoever runs a worker starts it again when it ends.
        """
        asked, deployment = self.asked, self.asked.deployment
        asked.number += 1
        if "worker" not in deployment.processes or deployment.processes["worker"].poll() is not None:
            deployment.start("worker", "tests.eager_worker")
        require_accepted(asked.put(f"sealed-{asked.number}", asked.number, str(asked.number)))
        with self.calls.fail_calls(fault, deployment.processes["worker"].pid, deployment.home):
            answer = require_accepted(deployment.learn("br", write_dataset(asked.number)))
            expansion = str(answer.json()["expansion"]["id"])
            wait_until(lambda: self.calls.failed or deployment.has_ended(expansion))
        fired, where = self.calls.failed, self.calls.where.removeprefix(str(deployment.home))
        while not deployment.has_ended(expansion):
            if deployment.processes["worker"].poll() is not None:
                deployment.start("worker", "tests.eager_worker")
            time.sleep(0.1)
        item = deployment.wait_for_end(expansion)
        asked.ledger.possible[f"expansion {expansion}"] = ["br"]
        if item["state"] == "succeeded":
            asked.ledger.possible["language br"] = [item["version"]]
        if fired:
            self.counts[(f"worker's {fault.kind}", fault.error_name)] += 1
            self.answers[f"{item['state']} {(item['error'] or {}).get('code', '')}".strip()] += 1
            if item["state"] != "succeeded":
                self.problems.append(f"teaching, {fault} ({where}): {item['error']}")
        return bool(fired)

    def restart(self) -> None:
        """Start the service without a fault, and `compare`."""
        self.asked.deployment.restart()
        self.problems += compare(self.asked.deployment, self.asked.ledger)

    def _say(self, operation: Operation, fault: Fault, where: str, what: str) -> None:
        self.problems.append(f"{operation.name}, {fault} ({where}): {what}")


def _is_acknowledged(answer: httpx.Response) -> bool:
    """Whether nothing is refused, nor any picture of a batch."""
    items = _drop_changing(answer) if answer.content else None
    each = items.get("items", ()) if isinstance(items, dict) else ()
    return answer.is_success and all(item.get("status", 200) < 300 for item in each)


def _read_code(answer: httpx.Response) -> str:
    if answer.status_code < 400:
        return ""
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError):
        return ""


def _drop_changing(answer: httpx.Response) -> object:
    """Return an answer without what differs each time."""
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return answer.content
    return json.loads(answer.text, object_hook=lambda item: {k: v for k, v in item.items() if k not in _CHANGING})


def compare(deployment: Deployment, ledger: Ledger) -> list[str]:
    """Return how a service that has just started differs from the ledger, what is damaged, what is left over."""
    problems = [*ledger.compare(read_holdings(deployment)), *deployment.list_damaged_pictures()]
    verified = deployment.client.post("/v1/admin/index/verify").json()
    if not verified.get("ok"):
        problems.append(f"verify: {verified}")
    return [*problems, *deployment.list_left_over()]
