"""`python -m scripts.reference` writes docs/settings.md and docs/errors.md from the classes; a test compares them."""

from collections import defaultdict
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import worker.gate  # noqa: F401  whose error is found among the subclasses
from client.settings import ClientSettings
from service.problems import get_status
from service.settings import Settings
from store.errors import Failure, PictoglotError
from store.settings import PREFIX, CommonSettings
from worker.settings import WorkerSettings

DOCS = Path(__file__).parent.parent / "docs"
SETTINGS = (CommonSettings, Settings, WorkerSettings, ClientSettings)

_SETTINGS_PAGE = """\
# Settings

Written by `make reference` from the code. Settings are environment variables, or lines of a file `.env` in the folder
where a process starts; the environment goes first. One `.env` can serve service, worker and client, but not
[containers](operate.md#containers). An unknown variable that begins with `PICTOGLOT_`, or a value out of bounds, ends
the start with one sentence and exit status 78. Sizes are in bytes, times in seconds, shares between 0 and 1.
`${{NAME}}` in `.env` is not replaced.

## Service and worker

Give both the same values. Raise `PICTOGLOT_THREADS` only where cores are idle: with OpenMP's default, a search beside a
training took 20 times as long.

{common}

`auto` is what made the vectors of the data root. In a new one it is OpenVINO where it is installed and there is no GPU,
and bfloat16 where the processor is fast with it. `CUDA_VISIBLE_DEVICES` chooses the GPU; empty, it hides all. On a
terminal, `pictoglot up` logs `warning` and above unless `PICTOGLOT_LOG_LEVEL` is set. In `PICTOGLOT_BROKER_URL`, write
`/` and `#` of a password as %2F and %23.

## Service

{service}

A JSON body has at most 64 KiB, a batch of pictures 64 MiB, a dataset 512 MiB. A body must arrive within 30 seconds, a
dataset within 15 minutes. At most 128 texts or pictures wait to be encoded; when too many wait, the answer is 503
`overloaded`. A picture may take a second to decode for each 8 million of `PICTOGLOT_PICTURE_PIXELS`, and at least 5.

[Operate](operate.md#people-who-sign-in) tells of people, and has an example of `PICTOGLOT_GROUPS`: each group has a
`scope`, and perhaps `collections` and a `default_collection`.

Without `PICTOGLOT_ADMIN_KEY`, in `local` alone, a key is made, kept in `admin.key` under the data root and printed at
each start.

## Worker

{worker}

`PICTOGLOT_MIN_RECALL` decides whether a language is served. By chance, R@10 is 10 divided by the number of candidates.
Among 1,000 that is 0.01, and the default asks for 0.01 + 0.2 × 0.99 = 0.208. With fewer than 50 candidates, R@1 is
used. `PICTOGLOT_FORGETTING_BUDGET` also decides whether searches that name no language move to the new shared table.

## Client

For commands that ask a running service. **Address and key come from one place**, the environment or `.env`: a folder
that you downloaded may have a `.env` with somebody else's address, which must not get your key.

{client}
"""
_ERRORS_PAGE = """\
# Error codes

Written by `make reference` from the code. A refusal is `application/problem+json` with `type`, `title`, `status`,
`detail`, `code`, `request_id` and `errors`, a list of `{{location, code}}`. 429 and 503 carry `retry_after_seconds` and
`Retry-After`. Answers to a request with a key have `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`.

Programs decide by `code`: codes are stable, texts are not. A `location` is a place in the request (`body.limit`,
`header.Idempotency-Key`) or a line of the dataset (`line 71`). No answer repeats what was sent or names a file of the
server.

## Answers to a request

{answers}

## Failures of expansions, files and bases

No request is answered with these: they are the `error.code` of a failed expansion, or in the log and in `/readyz`.

{failures}
"""


def describe_settings() -> str:
    """Return docs/settings.md."""
    parts: dict[str, tuple[type[BaseModel], type[BaseModel] | None]] = {"common": (CommonSettings, None)}
    parts |= {
        "service": (Settings, CommonSettings),
        "worker": (WorkerSettings, CommonSettings),
        "client": (ClientSettings, Settings),
    }
    head = "| variable | default | bounds | meaning |\n|---|---|---|---|\n"
    tables = {
        name: head + "\n".join(
            f"| `{PREFIX}{field.upper()}` | {_format_default(info)} | {_format_bounds(info)} | {info.description} |"
            for field, info in kind.model_fields.items()
            if below is None or field not in below.model_fields
        )
        for name, (kind, below) in parts.items()
    }  # fmt: skip
    return _SETTINGS_PAGE.format(**tables)


def _format_default(info: FieldInfo) -> str:
    if isinstance(info.default, bool):
        return f"`{info.default:d}`"
    return f"`{info.default}`" if info.default != "" else "empty"


def _format_bounds(info: FieldInfo) -> str:
    signs = {Gt: ("> ", "gt"), Ge: ("≥ ", "ge"), Le: ("≤ ", "le")}
    found = [
        f"{sign}{getattr(each, name):,}"
        for each in info.metadata
        for kind, (sign, name) in signs.items()
        if isinstance(each, kind)
    ]
    return ", ".join(found)


def list_errors(kind: type[PictoglotError] = PictoglotError) -> Iterator[type[PictoglotError]]:
    """Yield the classes of the product that have a code of their own, each before its subclasses."""
    if kind.code != getattr(kind.__base__, "code", "") and kind.__module__.split(".")[0] != "tests":
        yield kind
    for below in kind.__subclasses__():
        yield from list_errors(below)


def describe_errors() -> str:
    """Return docs/errors.md. What several classes say of one code stands in one row."""
    rows = defaultdict[str, list[tuple[str, str]]](list)
    for kind in list_errors():
        status = get_status(kind())
        shown = "–" if issubclass(kind, Failure) and status == 500 else str(status)
        rows[kind.code].append((shown, cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")))
    answers, failures = list[str](), list[str]()
    for code, said in sorted(rows.items(), key=lambda row: (min(row[1])[0], row[0])):
        statuses, meanings = zip(*sorted(said), strict=True)
        row = f"| `{code}` | {', '.join(dict.fromkeys(statuses))} | {' '.join(meanings)} |"
        (failures if "–" in statuses else answers).append(row)
    head = "| code | status | meaning |\n|---|---|---|\n"
    return _ERRORS_PAGE.format(answers=head + "\n".join(answers), failures=head + "\n".join(failures))


PAGES = {DOCS / "settings.md": describe_settings, DOCS / "errors.md": describe_errors}

if __name__ == "__main__":
    for path, describe in PAGES.items():
        path.write_text(describe(), encoding="utf-8")
