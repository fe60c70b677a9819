"""The compose file, the image and the project file fit the code they start."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from model.settings import NAMES, PREFIX
from tests.house.source import PACKAGES, ROOT, tracked

COMPOSE = ROOT / "docker-compose.yml"
PASSWORDS = {"POSTGRES_PASSWORD": "a", "REDIS_PASSWORD": "b", "PICTOGLOT_ADMIN_KEY": "c" * 32}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


def config(**environment: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    clean = {name: value for name, value in os.environ.items() if name not in PASSWORDS} | environment
    command = [program, "-f", str(COMPOSE), "config"]
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False, timeout=60)


def test_compose_accepts_the_file() -> None:
    done = config(**PASSWORDS)
    assert done.returncode == 0, done.stderr


def test_compose_refuses_to_start_without_passwords() -> None:
    assert config().returncode != 0


def test_only_the_api_is_published_and_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert list(published) == ["api"]
    assert all(str(port).startswith("127.0.0.1:") for port in published["api"])


def test_every_setting_in_the_compose_file_exists(services: dict[str, Any]) -> None:
    named = {
        name for service in services.values() for name in service.get("environment", {}) if name.startswith(PREFIX)
    }
    assert named and {name.removeprefix(PREFIX) for name in named} <= NAMES


def test_redis_keeps_what_it_was_given(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command and "--maxmemory-policy noeviction" in command


def test_every_service_has_a_healthcheck(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "healthcheck" not in service] == []


def test_the_image_runs_without_root_and_with_what_it_copies() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert any(re.match(r"USER (?!root|0\b)", line) for line in lines)
    copied = [word for line in lines if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]]
    sources = [word for word in copied if not word.startswith("--")]
    assert sources and [name for name in sources if not (ROOT / name).exists()] == []


def test_the_console_script_leads_somewhere() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; assert callable(main)"], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 0


def test_data_files_of_the_packages_are_shipped() -> None:
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    left_out = []
    for file in tracked():
        package, *inside = file.relative_to(ROOT).parts
        if package in PACKAGES and file.suffix != ".py":
            patterns = [*shipped["*"], *shipped.get(package, [])]
            if not any(file in set((ROOT / package).glob(pattern)) for pattern in patterns):
                left_out.append("/".join([package, *inside]))
    assert left_out == []
