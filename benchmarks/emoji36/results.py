"""A file of results: seeds of rows, by name. Runs add to it one after the other, and check first that they may."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.emoji36 import report
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.run import commit
from store import files

CODE = "code"  # in what is said of how a row was made: the digest of its method's sources


def choose_rows(methods: str, known: Iterable[str]) -> Sequence[str]:
    """Return the rows that `--methods` names, with commas; raises `Refused` where one is not `known`.

    A plus before a name is left out: tables of this field have `+teir` for what is added to the row above.
    """
    names, rows = [name.strip().removeprefix("+") for name in methods.split(",")], [*known]
    if strange := [name for name in names if name not in rows]:
        near = dict.fromkeys(match for name in strange for match in get_close_matches(name, rows, 1))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Refused(f"--methods: there is no {', '.join(map(repr, strange))} among {', '.join(rows)}{hint}")
    return names


def read(out: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no file; raises `Refused` for anything else."""
    try:
        results = json.loads(out.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refused(f"{out}: {error.strerror}; name another file") from error
    except ValueError as error:
        raise Refused(f"{out}: not JSON; name another file") from error
    if not isinstance(results, dict):
        raise Refused(f"{out}: holds no results; name another file")
    return results


def write(out: Path, results: dict[str, Any]) -> None:
    """Replace the file in one step; a matrix is one line, since it would be thousands."""
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(out, json.dumps(results).encode() + b"\n")


def lock(out: Path) -> FileLock:
    """Return held by whoever reads the file to write it: other runs may write it, too."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(out.resolve().with_name(f".{out.name}.lock"))


def load_results(
    out: Path, head: Mapping[str, Any], rows: Mapping[str, Any], seed: int, tell: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Return the results so far, to which `rows` of a seed may be added, each described as it is made.

    Raises `Refused` where results of `head`, or rows made like this, do not fit them. Results of earlier releases do
    not say the code of their methods; they fit, and `tell` gets a line of each.
    """
    results = read(out) or {"methods": {}, **head}
    methods = results.get("methods")
    if not isinstance(methods, dict) or not all(_is_row(each) for each in methods.values()):
        raise Refused(f"{out}: holds no results of rows; name another file")
    said = {**head, "set": {}} | results  # older files lack some
    if unlike := next((name for name in head if said[name] != head[name]), None):
        raise Refused(f"--out: {out} holds results of other {unlike}; name another file")
    for name, made in rows.items():
        others = {key: each for key, each in methods.get(name, {"seeds": {}})["seeds"].items() if key != str(seed)}
        if not all(_is_alike(each.get("made"), made) for each in others.values()):
            raise Refused(f"--out: {out} holds {name} of another seed, made in another way; name another file")
        unsaid = [key for key, each in others.items() if _has_code(made) and not _has_code(each.get("made"))]
        if tell and unsaid:
            commits = dict.fromkeys(each[:9] for key in unsaid for each in others[key].get("commits", ["unknown"]))
            tell(f"{out} does not say the code of {name}, seed {', '.join(unsaid)}: measured at {', '.join(commits)}")
    return results


def merge(out: Path, head: Mapping[str, Any], name: str, seed: int, ledger: dict[str, Any]) -> None:
    """Put one row of one seed into the file, beside other rows and seeds; raises `Refused` as `load_results` does."""
    with lock(out):
        results = load_results(out, head, {name: ledger["made"]}, seed) | {**head, "commit": commit()}
        results["methods"].setdefault(name, {"seeds": {}})["seeds"][str(seed)] = report.seed_results(ledger)
        results["seeds"] = sorted({int(key) for row in results["methods"].values() for key in row["seeds"]})
        report.conclude(results)
        write(out, results)


def _is_row(held: Any) -> bool:
    seeds = held.get("seeds") if isinstance(held, dict) else None
    return isinstance(seeds, dict) and all(isinstance(each, dict) for each in seeds.values())


def _is_alike(held: Any, made: Any) -> bool:
    """Whether two seeds were made in the same way; where `load_results` does not say its code, that is not compared."""
    left_out = ("seed",) if _has_code(held) else ("seed", CODE)
    return bool(_drop_keys(left_out, held) == _drop_keys(left_out, made))


def _has_code(made: Any) -> bool:
    return bool(made != _drop_keys((CODE,), made))


def _drop_keys(names: Sequence[str], made: Any) -> Any:
    """Return the value without these keys, as JSON gives it back."""
    return json.loads(
        json.dumps(made), object_hook=lambda pairs: {name: pairs[name] for name in pairs if name not in names}
    )
