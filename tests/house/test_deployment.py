"""The compose file, the image, the project file and what docs/deploy sets up match the code."""

import os
import re
import shutil
import subprocess
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values

from client.settings import list_names
from demo.emojis import LANGUAGES
from index.copier import LEFT_OUT
from scripts.image import ARGUMENTS
from service.context import _OVERHEAD
from service.settings import Settings
from store.settings import MISCONFIGURED, PREFIX
from tests.house.source import ROOT
from tests.house.test_docs import list_settings
from tests.patience import PATIENCE
from worker.supervisor import STOP_SECONDS

COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
DEPLOY = ROOT / "docs/deploy"
SETTINGS = Settings.model_construct()
PASSWORDS = {"POSTGRES_PASSWORD": "a", "REDIS_PASSWORD": "b", "PICTOGLOT_ADMIN_KEY": "c" * 32}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return dict(content["services"])


def compose() -> list[str] | None:
    """Compose as a plugin of docker (v2), or as a program of its own."""
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def run_config(**environment: str) -> subprocess.CompletedProcess[str]:
    program = compose()
    if program is None:
        pytest.skip("neither docker compose nor docker-compose is installed")
    clean = {name: value for name, value in os.environ.items() if name not in PASSWORDS} | environment
    own = ["--env-file", os.devnull]  # not the `.env` of the person who runs the tests
    command = [*program, *own, "-f", str(COMPOSE), "config"]
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_compose_accepts_the_file_with_passwords_alone() -> None:
    done = run_config(**PASSWORDS)
    assert done.returncode == 0, done.stderr
    assert run_config().returncode != 0


def test_the_files_pass_the_index_of_torch_on(services: dict[str, Any]) -> None:
    for name in ("api", "worker"):
        assert services[name]["build"]["args"] == {"TORCH_INDEX": "${TORCH_INDEX:-}"}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "ARG TORCH_INDEX" in dockerfile and '--extra-index-url "$TORCH_INDEX"' in dockerfile
    assert all(f"ARG {name}=" in dockerfile for name in ARGUMENTS)


def test_only_the_api_is_published_and_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert list(published) == ["api"]
    assert all(str(port).startswith("127.0.0.1:") for port in published["api"])


def test_every_setting_in_the_compose_file_exists(services: dict[str, Any]) -> None:
    named = {
        name for service in services.values() for name in service.get("environment", {}) if name.startswith(PREFIX)
    }
    assert named and {name.removeprefix(PREFIX) for name in named} <= list_names()


def test_containers_write_to_their_volumes_alone_have_limits_and_ours_no_capability(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and service["pids_limit"], name
        assert service["mem_limit"] and service["cpus"], name
        assert ("cap_add" in service) == (name in ("postgres", "redis"))


def test_kubernetes_accepts_what_kustomize_builds_and_no_secret_is_in_it() -> None:
    if not shutil.which("kustomize"):
        pytest.skip("kustomize is not installed")
    built = subprocess.run(
        ["kustomize", "build", str(ROOT / "deploy/kustomize")], capture_output=True, text=True, check=True
    ).stdout
    documents = list(yaml.safe_load_all(built))
    assert sorted(document["kind"] for document in documents) == sorted(
        ["ConfigMap", "Deployment", "Deployment", "PersistentVolumeClaim", "PodDisruptionBudget", "Service"]
    )
    newest = kubernetes_validate.latest_version()
    for document in documents:
        kubernetes_validate.validate(document, newest, strict=True)
    (given,) = [document["data"] for document in documents if document["kind"] == "ConfigMap"]
    assert {name.removeprefix(PREFIX) for name in given} <= list_names() - {"ADMIN_KEY", "DATABASE_URL", "BROKER_URL"}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for deployment in (document for document in documents if document["kind"] == "Deployment"):
        assert deployment["spec"]["template"]["spec"]["enableServiceLinks"] is False
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"pictoglot:{version}" and container["securityContext"]["readOnlyRootFilesystem"]
        assert container["readinessProbe"] and container["resources"]["limits"]["memory"]


def test_redis_keeps_its_messages(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command and "--maxmemory-policy noeviction" in command


@pytest.mark.nightly
@pytest.mark.timeout(2_700)
def test_the_compose_file_runs_with_the_image_and_all_comes_back() -> None:
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip("needs root on Debian")
    subprocess.run(["make", "image-test"], cwd=ROOT, check=True)


def test_the_image_keeps_the_locales_of_the_demo() -> None:
    (kept,) = re.findall(r"babel/locale-data .*\\\((.+)\\\)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert set(kept.split("\\|")) == {"root", "en", *LANGUAGES}


def test_every_service_has_a_health_check_and_ours_use_our_own_commands(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "healthcheck" not in service] == []
    for name, command in (("api", "serve"), ("worker", "worker")):
        assert services[name]["healthcheck"]["test"] == ["CMD", "pictoglot", command, "--check"]


def read_example_names() -> set[str]:
    """Return what `.env.example` names, commented out or not."""
    return set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_example_of_settings_names_only_real_ones() -> None:
    named = {name for name in read_example_names() if name.startswith(PREFIX)}
    assert named and named <= list_settings()


def test_the_example_of_settings_has_all_that_compose_reads() -> None:
    read = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text(encoding="utf-8")))
    assert set(PASSWORDS) <= read <= read_example_names()


def test_an_unchanged_copy_of_the_example_sets_nothing() -> None:
    assert dotenv_values(EXAMPLE) == {}


def test_the_image_runs_without_root_and_copies_existing_files() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert any(re.match(r"USER (?!root|0\b)", line) for line in lines)
    copied = [word for line in lines if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]]
    sources = [word for word in copied if not word.startswith("--")]
    assert sources and [name for name in sources if not (ROOT / name).exists()] == []
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {f"!{name.removeprefix('./')}" for name in sources} <= set(sent)


def test_one_version_everywhere(services: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    label = re.search(r'image\.version="([^"]+)"', (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    images = {services[name]["image"] for name in ("api", "worker")}
    assert (label and label[1], cited, images) == (version, version, {f"pictoglot:{version}"})


@pytest.mark.parametrize("target", ["demo", "up", "test"])
def test_what_installs_for_a_minute_says_so_before(target: str) -> None:
    lines = subprocess.run(
        ["make", "--dry-run", "--always-make", target, "VENV=/nothing"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE,
    ).stdout.splitlines()  # fmt: skip
    installing = [number for number, line in enumerate(lines) if " install " in line and "--require-hashes" in line]
    assert len(installing) == (2 if target == "test" else 1)
    for number, after in zip(installing, [0, *installing], strict=False):
        assert any(line.startswith('echo "Installing') for line in lines[after:number]), lines[number]


def number(file: str, pattern: str) -> int:
    """Return the number that a pattern finds in a file, once."""
    (found,) = re.findall(pattern, (DEPLOY / file).read_text(encoding="utf-8"), re.MULTILINE)
    return int(found)


def test_nginx_lets_through_what_the_service_takes() -> None:
    assert number("nginx.conf", r"client_max_body_size (\d+)m;") << 20 >= SETTINGS.dataset_bytes + _OVERHEAD
    assert SETTINGS.dataset_bytes > SETTINGS.batch_bytes > SETTINGS.picture_bytes > SETTINGS.json_bytes
    for limit in ("proxy_read_timeout", "proxy_send_timeout"):
        assert number("nginx.conf", rf"{limit} (\d+)s;") >= SETTINGS.dataset_seconds


def test_nginx_shares_requests_between_the_two_processes_of_the_guide() -> None:
    servers = re.findall(r"^    server 127\.0\.0\.1:(\d+);$", (DEPLOY / "nginx.conf").read_text(encoding="utf-8"), re.M)
    guide = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    assert servers == [str(SETTINGS.port), str(SETTINGS.port + 1)]
    assert {*servers} == {*re.findall(r"pictoglot-api@(\d+)", guide)}


@pytest.mark.parametrize("unit", ["pictoglot-api@.service", "pictoglot-worker@.service"])
def test_units_wait_for_an_orderly_end_and_do_not_repeat_what_is_misconfigured(unit: str) -> None:
    assert number(unit, r"^RestartPreventExitStatus=(\d+)$") == MISCONFIGURED
    seconds = number(unit, r"^TimeoutStopSec=(\d+)$")
    assert seconds > max(SETTINGS.drain_seconds + SETTINGS.request_seconds + 5, 2 * STOP_SECONDS)


def test_a_backup_leaves_out_what_the_guide_says_and_nothing_else() -> None:
    guide = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+/`) \| [^|]+ \| (yes|no)\b", guide, re.MULTILINE)
    assert {name for named, answer in rows if answer == "no" for name in re.findall(r"`([.\w]+)/`", named)} == {
        *LEFT_OUT
    }
