"""After a history: every fault is healed, everything settles, and nothing is lost, back or mixed."""

import re
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from tests.torture.client import ADMIN_KEY, Api
from tests.torture.contents import CAPTION, LANGUAGES, PICTURES, list_texts
from tests.torture.deployment import find_program
from tests.torture.faults import GRACE
from tests.torture.ledger import Violation
from tests.torture.servers import PATIENCE
from tests.torture.steps import Runner

ATTEMPTS = 3  # without progress end an expansion
SETTLING = 900.0  # seconds within which all that was submitted has ended, on a busy machine


def settle(runner: Runner) -> None:
    """Heal, wait, look at everything; raises Violation."""
    deployment = runner.deployment
    deployment.wait_until_ready()
    time.sleep(GRACE)
    runner.nemesis.tend()
    runner.submit_again()
    _wait_for_expansions(runner)
    for number, api in enumerate(deployment.apis.values()):
        _wait_until_whole(runner, api.process)
        runner.looker.judge_listing(api)
        runner.looker.counts(api)
        _look_at_each(runner, api)
        for language in LANGUAGES:
            runner.see_vectors(api, language)
            for text in (0, 1):
                runner.looker.search(api, _search("text", language=language, text=text))
        for content in range(number, PICTURES, 2):
            runner.looker.search(api, _search("picture", content=content))
        verified = api.ask("POST", "/v1/admin/index/verify")
        if not (verified.is_ok and verified.body["ok"]):
            raise Violation("damaged", f"index verify of {api.process} says {verified.body}")
    _ask_the_doctor(runner)


def close(runner: Runner) -> None:
    """Stop everything in order; raises Violation if somebody does not end, or a log has what must not be in one."""
    if wrong := runner.deployment.stop():
        raise Violation("stuck", "; ".join(wrong))
    private = [
        ADMIN_KEY,
        *runner.looker.bound.values(),
        CAPTION,
        *(text for each in LANGUAGES for text in list_texts(each)),
    ]
    for member in runner.deployment.members.values():
        if wrong := judge_log(member.log.read_text(errors="replace"), private):
            raise Violation("log", f"the log of {member.name} has {wrong[0]}")


def judge_log(text: str, private: list[str]) -> list[str]:
    """Return what a log must not have: keys, captions, queries, and stacks of exceptions that nobody expected."""
    wrong = [f"“{secret}”" for secret in private if secret in text]
    wrong += [line.strip()[:400] for line in text.splitlines() if re.search(r"Traceback|\"level\": \"critical\"", line)]
    return wrong


def _search(by: str, **more: object) -> dict[str, object]:
    return {"do": "search", "by": by, "content": 0, "language": "en", "text": 0, "filter": None, "is_bound": False,
            "id": "", **more}  # fmt: skip


def _wait_for_expansions(runner: Runner) -> None:
    until = time.monotonic() + SETTLING
    while time.monotonic() < until:
        runner.nemesis.tend()
        api = runner.api(0)
        open_ones = runner.see_languages(api)
        if not open_ones and api.ask("GET", "/v1/expansions").is_ok:
            return _judge_ends(runner)
        time.sleep(0.5)
    raise Violation("stuck", f"expansions have not ended after {SETTLING} s: {open_ones}")


def _judge_ends(runner: Runner) -> None:
    for expansion in runner.api(0).list_all("/v1/expansions"):
        runner.counts[f"expansions {expansion['state']}"] += 1
        judge_end(expansion, runner.counts["kills of children"])


def judge_end(expansion: Mapping[str, Any], child_kills: int) -> None:
    """Raise Violation for an expansion that failed, unless its own process was killed as often as ends one."""
    if expansion["state"] != "failed":
        return
    if expansion["error"]["code"] != "too_many_attempts" or child_kills < ATTEMPTS:
        raise Violation("failed", f"{expansion['id']} of {expansion['language']}: {expansion['error']}")


def _wait_until_whole(runner: Runner, name: str) -> None:
    until, ready = time.monotonic() + PATIENCE, None
    while time.monotonic() < until:
        ready = runner.deployment.apis[name].ask("GET", "/readyz").body
        if isinstance(ready, dict) and not ready.get("degraded") and ready.get("release") == runner.lineage.newest:
            return
        time.sleep(0.3)
    raise Violation("stuck", f"{name} says {ready}, and the newest release is {runner.lineage.newest}")


def _look_at_each(runner: Runner, api: Api) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        for id in runner.ledger.list_ids():
            runner.looker.get(api, id)
            runner.looker.file(api, id)
        if runner.ledger.is_certain():
            return
        if time.monotonic() > until:
            raise Violation("mixed", "after everything has settled a picture still has two possible states")


def _ask_the_doctor(runner: Runner) -> None:
    api = next(iter(runner.deployment.apis))
    environment = runner.deployment.build_environment(PORT=str(runner.deployment.get_port(api)), KEY=ADMIN_KEY)
    asked = subprocess.run(
        [*find_program(), "doctor"], env=environment, cwd=runner.deployment.folder, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    if asked.returncode != 0:
        raise Violation("damaged", f"pictoglot doctor ends with {asked.returncode}: {asked.stdout}{asked.stderr}")
