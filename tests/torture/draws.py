"""Which steps a history has: drawn from a seed alone, so that the same numbers give the same steps on any machine.

A step is plain data and does not depend on how the ones before it went: any part of a history is a history.
"""

import random
from typing import Any

from tests.torture.contents import CAPTION, COLLECTIONS, DATASETS, IDS, INVENTED, LANGUAGES, PICTURES, TAGS, YEARS
from tests.torture.faults import STEPS, lease_of

Step = dict[str, Any]
FAULTS = {  # and how often
    "kill_api": 5,
    "kill_worker": 4,
    "kill_child": 4,
    "stop_api": 3,
    "stop_worker": 3,
    "stop_child": 1,
    "step_clock": 3,
    "strobe_clock": 1,
    "fill_disk": 4,
    "kill_database": 4,
    "lose_commits": 3,
    "restart_api": 2,
    "kill_broker": 1,
    "break_store": 3,
}
STEPS_DRAWN = {
    "burst": 60,
    "teach": 6,
    "cancel": 1,
    "assess": 1,
    "rollback": 3,
    "restore": 2,
    "prune": 1,
    "key": 2,
    "verify": 2,
    "vectors": 4,
    "listing": 4,
    "backup": 1,
}
OPERATIONS = {"put": 8, "patch": 4, "delete": 4, "batch": 2, "get": 4, "search": 6}
SEARCHES = ("text", "picture", "like", "words")


def draw(seed: int, number: int) -> Step:
    chance = random.Random(f"{seed}/{number}")
    kind = _choose(chance, STEPS_DRAWN)
    step: Step = {"step": kind, "api": chance.randrange(2)}
    if kind in ("burst", "backup"):
        step["operations"] = [_draw_operation(chance) for _ in range(chance.randint(4, 16))]
        if kind == "burst" and chance.random() < 0.9:
            step["fault"] = _draw_fault(chance, len(step["operations"]))
    elif kind in ("teach", "assess"):
        step |= {"language": chance.choice([*INVENTED]), "dataset": chance.randrange(DATASETS)}
        step["replace"] = chance.random() < 0.3
    elif kind in ("rollback", "vectors"):
        step["language"] = chance.choice([*INVENTED])
    elif kind == "restore":
        step["back"] = chance.randint(1, 4)
    elif kind == "prune":
        step["keep"] = chance.randint(2, 5)
    elif kind == "key":
        step |= {"collection": chance.choice(COLLECTIONS), "revoke": chance.random() < 0.3}
    return step


def _draw_operation(chance: random.Random) -> Step:
    kind = _choose(chance, OPERATIONS)
    operation: Step = {"do": kind, "api": chance.randrange(2), "id": chance.choice(IDS)}
    if kind == "put":
        operation["changes"] = _draw_changes(chance, content=True)
    elif kind == "patch":
        operation["changes"] = _draw_changes(chance)
    elif kind == "batch":
        ids = chance.sample(IDS, chance.randint(2, 6))
        operation["puts"] = [{"id": id, "changes": _draw_changes(chance, content=True)} for id in ids]
    elif kind == "search":
        operation |= {
            "by": chance.choice(SEARCHES),
            "content": chance.randrange(PICTURES),
            "language": chance.choice(LANGUAGES),
            "text": chance.randrange(2),
            "filter": _filter(chance),
            "is_bound": chance.random() < 0.3,
        }
    return operation


def _draw_changes(chance: random.Random, content: bool = False) -> dict[str, Any]:
    changes: dict[str, Any] = {"content": chance.randrange(PICTURES)} if content else {}
    if chance.random() < 0.6:
        changes["collection"] = chance.choice(COLLECTIONS)
    if chance.random() < 0.5:
        changes["tags"] = sorted(chance.sample(TAGS, chance.randint(0, 3)))
    if chance.random() < 0.4:
        changes["year"] = chance.choice(YEARS)
    if chance.random() < 0.5 or not changes:
        changes["caption"] = f"{CAPTION}{chance.randrange(6)} {chance.choice(('left', 'right'))}"
    return changes


def _filter(chance: random.Random) -> dict[str, Any] | None:
    kind = chance.randrange(4)
    if kind == 1:
        return {"key": "tags", "match": {"value": chance.choice(TAGS)}}
    if kind == 2:
        return {"key": "collection", "match": {"any": chance.sample(COLLECTIONS, 2)}}
    return {"key": "year", "range": {"gte": 1950}} if kind == 3 else None


def _draw_fault(chance: random.Random, operations: int) -> Step:
    kind = _choose(chance, FAULTS)
    return {
        "kind": kind,
        "target": chance.randrange(100),
        "after": chance.randrange(operations),
        "seconds": lease_of(kind),
        "detail": chance.choice(STEPS),
    }


def _choose(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices([*weights], [*weights.values()])[0]
