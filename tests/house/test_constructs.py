"""Constructs that this project forbids, each because it has caused trouble."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.source import ALL_PYTHON, PACKAGES, Module, list_modules, list_tracked

# Modules that may catch every exception: for a request, an expansion, a dataset; in loops that must survive an error.
NETS = (
    "service.requests",
    "service.watch",
    "service.batching",
    "service.lanes",
    "worker.child",
    "worker.celery_app",
    "worker.upkeep",
    "index.scrub",
    "index.stored_items",
    "index.live",
    "index.loader",
    "model.dataset.child",
)
DURABLE = ("store", "model", "index", "service", "worker")  # what writes the data root
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
SECRET = re.compile(r"(^|_)(secret|secret_sha256|password|plaintext|api_key|admin|admin_key|token_secret|sign)$")
_ELAPSED = re.compile(r"\b(monotonic|perf_counter|time\.time)\(\) - [^<]*<")
CONVERTED = ("demo.photos.towers",)  # weights that a package has in no other form; read by whoever trains the base anew
_CALLED = {"print", "load", "extractall", "extract", "delay", "apply_async", "mkdir", "makedirs", "sleep"}
# Tests that wait for another process or thread, or for the clock of the database.
WAITING = (
    "tests.index.world",
    "tests.faults",
    "tests.torture",
    "tests.durability",
    "tests.launcher",
    "tests.redis_server",
    "tests.s3_server",
    "tests.postgresql_server",
    "tests.doubles",
    "tests.browser",
    "tests.contract",
    "tests.worker",
    "tests.client",
    "tests.service",
    "tests.store.test_leases",
    "tests.index.test_live",
)


def list_forbidden(module: Module) -> list[str]:
    """Return each forbidden construct of a module, with its line."""
    violations = {*_search_tree(module), *_search_lines(module)}
    return [f"{module.name}:{line}: {what}" for line, what in sorted(violations)]


def _search_tree(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in _check_call(node, module))
        elif isinstance(node, ast.ExceptHandler) and module.package in PACKAGES and module.name not in NETS:
            yield from ((node.lineno, what) for what in _check_handler(node))
        elif isinstance(node, ast.Compare):
            yield from ((node.lineno, what) for what in (*_check_secrets(node), *_check_timings(node, module)))
    for name, line in module.list_imports():
        if name.split(".")[0] in PICKLES:
            yield line, "a pickle: data files must not run code"
        if name == "mock" or name.startswith("unittest.mock"):
            yield line, "a mock: test through the public surface"


def _check_call(node: ast.Call, module: Module) -> Iterator[str]:
    if (last := _find_last_name(node.func)) not in _CALLED:
        return
    called = ast.unparse(node.func)
    if called == "print":
        yield "print(): log, or write to the console of the command line"
    if called == "torch.load" and module.name not in CONVERTED:
        yield "torch.load(): safetensors and JSON only"
    if last in ("extractall", "extract") and "." in called and "tar" in called + "zip":
        yield f"{last}(): archives are not unpacked"
    if last in ("delay", "apply_async") and module.package != "tests":
        yield f"{last}(): the registry is the queue, only the relay sends hints"
    if last in ("mkdir", "makedirs") and module.package in DURABLE and module.name != "store.files":
        yield f"{last}(): a new folder is lost with the power unless `files.make_folder` makes it"
    if called == "time.sleep" and module.package == "tests" and not module.name.startswith(WAITING):
        yield "a sleep in a unit test"


def _find_last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):  # of `secret.encode()` what is encoded, of `hash_secret(…)` the function
        if isinstance(node.func, ast.Attribute) and node.func.attr == "encode":
            return _find_last_name(node.func.value)
        return _find_last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _check_handler(node: ast.ExceptHandler) -> Iterator[str]:
    if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
        return  # cleans up and raises the exception again
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    for kind in kinds:
        if kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")):
            yield "catches everything: name what may happen"


def _check_secrets(node: ast.Compare) -> Iterator[str]:
    if not any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
        return
    sides = [node.left, *node.comparators]
    compares_two = not any(isinstance(side, ast.Constant) for side in sides)
    if compares_two and any(SECRET.search(_find_last_name(side)) for side in sides):
        yield "compares a secret with ==: hmac.compare_digest on bytes"


def _search_lines(module: Module) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(module.text.splitlines(), 1):
        if re.search(r"#.*\b(" + "TO" + "DO|FIX" + "ME|XXX)\\b", line):
            yield number, "an open task in a comment: do it, or open an issue"


def _check_timings(node: ast.Compare, module: Module) -> Iterator[str]:
    compares_less = module.package == "tests" and any(isinstance(each, ast.Lt | ast.LtE) for each in node.ops)
    if compares_less and _ELAPSED.search(ast.unparse(node)):
        yield "fails on a machine that stands still: `tests.patience.bound_time`, or the time of the processor"


@pytest.mark.row("A9")  # the times themselves, on a quiet machine: `python -m benchmarks.key_timings`
def test_nothing_forbidden_in_the_tree() -> None:
    own = __name__  # contains the examples below
    assert [what for module in list_modules(*ALL_PYTHON) if module.name != own for what in list_forbidden(module)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.picture_files", "folder.mkdir(parents=True, exist_ok=True)"),
        ("worker.supervisor", "import os\nos.makedirs('x')"),
        ("model.base", "import torch\ntorch.load('x')"),
        ("index.build", "import pickle"),
        ("service.routes.search", "print('here')"),
        ("service.routes.search", "from worker.celery_app import expand\nexpand.delay(1)"),
        ("service.auth", "ok = given == self.secret"),
        ("service.auth", "if key.admin_key != presented: raise"),
        ("store.keys", "return stored == hash_secret(secret, salt)"),
        ("service.people", "is_known = proof.encode() == secret.encode()"),
        ("service.context", "if data[:16] != self._sign(query, payload): raise"),
        ("model.pictures", "try:\n    f()\nexcept Exception:\n    pass"),
        ("model.pictures", "try:\n    f()\nexcept:\n    pass"),
        ("model.pictures", "try:\n    f()\nexcept (OSError, BaseException):\n    pass"),
        ("model.dataset", "import tarfile\ntarfile.open('x').extractall('/')"),
        ("tests.model.test_text", "import time\ntime.sleep(1)"),
        ("tests.service.test_search", "assert 1 < time.monotonic() - began < 2"),
        ("tests.model.test_text", "from unittest.mock import patch"),
        ("model.text", "x = 1  # TO" + "DO later"),
    ],
)
def test_a_forbidden_construct_is_found(name: str, text: str) -> None:
    assert len(list_forbidden(Module(name, text))) == 1


def test_similar_but_allowed_constructs_are_accepted() -> None:
    text = "admin_key == ''\nasync_result.delayed()\nprinter(1)\ntry:\n    f()\nexcept ValueError:\n    pass"
    assert list_forbidden(Module("service.auth", text)) == []
    bounds = "until > monotonic()\ntime.monotonic() - began >= 0.3\ntime.process_time() - began < 1"
    assert list_forbidden(Module("tests.service.test_search", bounds)) == []
    tidy = "try:\n    f()\nexcept BaseException:\n    g()\n    raise"
    assert list_forbidden(Module("store.files", tidy)) == []


# Folders of one machine, and hosts of package registries: neither belongs in a repository.
ELSEWHERE = re.compile(
    "|".join(
        (
            "/wo" + "rk/",
            "/opt/" + "wheels",
            r"/ro" + r"ot/\.",
            "/ho" + "me/[a-z]+/",
            "pypi" + r"\.org",
            "npmjs" + r"\.(com|org)",
        )
    )
)


def find_elsewhere(text: str) -> list[str]:
    """Return machine paths and registry hosts in a text."""
    return [
        f"{number}: {line.strip()[:100]}" for number, line in enumerate(text.splitlines(), 1) if ELSEWHERE.search(line)
    ]


def test_no_machine_path_and_no_registry_host() -> None:
    violations: list[str] = []
    for file in list_tracked():
        if file.suffix in (".py", ".md", ".toml", ".yml", ".yaml", ".lock", ".sh", ".js", ".html", ".css", ".json", ""):
            text = file.read_text(encoding="utf-8", errors="replace")
            violations += [f"{file.name}:{line}" for line in find_elsewhere(text)]
    assert violations == []


def test_a_machine_path_is_found() -> None:
    assert find_elsewhere("cd " + "/wo" + "rk/main") and find_elsewhere("--index-url https://" + "pypi" + ".org/simple")
