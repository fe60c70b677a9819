"""Log lines: JSON for programs, words on a terminal, and neither with what is not meant to be logged."""

import io
import json
import logging
import re
import sys
from collections.abc import Callable

import pytest

from store import logs

Written = Callable[[Callable[[logging.Logger], None]], list[str]]


@pytest.fixture(params=[False, True], ids=["file", "terminal"])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Written:
    """What is written to standard error, a file or a terminal; what `configure` sets is as before after the test."""

    def write(log: Callable[[logging.Logger], None]) -> list[str]:
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: request.param)
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("warning")
        log(logging.getLogger("worker.child"))
        return stream.getvalue().splitlines()

    for name in ("", "pictoglot", "service", "worker", "index", "model", "python_multipart"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "level", logger.level)
        monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    return write


def test_a_line_is_json_in_a_file_and_words_for_people(written: Written, request: pytest.FixtureRequest) -> None:
    (line,) = written(lambda log: log.warning("%s failed", "exp_1", extra={"code": "x", "caption": "secret"}))
    assert "secret" not in line
    if request.node.callspec.params["written"]:
        assert re.fullmatch(r"\d\d:\d\d:\d\d warning worker.child: exp_1 failed code=x", line)
    else:
        assert {"level": "warning", "message": "exp_1 failed", "code": "x"}.items() <= json.loads(line).items()


def test_what_a_client_named_cannot_begin_a_line_of_its_own(written: Written) -> None:
    (line,) = written(lambda log: log.warning("request", extra={"target": "a\n12:00:00 error x: forged\x1b"}))
    assert "forged" in line


def test_the_stack_of_an_exception_is_in_it(written: Written) -> None:
    def crash(log: logging.Logger) -> None:
        try:
            raise ValueError("boom")
        except ValueError:
            log.exception("crashed")

    assert "ValueError: boom" in "\n".join(written(crash))
