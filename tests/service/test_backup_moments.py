"""Backups while pictures come and go and languages are taught: each restore is what the registry was at one moment."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index.backup import list_folders, take
from index.copier import dump_registry
from index.indexer import Indexer
from index.janitor import sweep
from service.settings import Settings
from tests.service.harness import Service, picture, running
from tests.service.test_languages import teach

pytestmark = pytest.mark.row("F10")
IDS = [f"p{number}" for number in range(8)]
State = dict[str, tuple[list[bytes], Any]]  # by id: the files, and the captions
Moment = tuple[dict[str, int], int]


def read_state(service: Service) -> State:
    items = service.admin.get("/v1/pictures", params={"limit": 100}).raise_for_status().json()["items"]
    kinds = ("content", "thumbnail", "original")
    return {
        item["id"]: (
            [service.admin.get(f"/v1/pictures/{item['id']}/{kind}").raise_for_status().content for kind in kinds],
            item["captions"],
        )
        for item in items
    }


@pytest.mark.parametrize("kept", [86_400.0, 0.0], ids=["kept for a day", "purged at once"])
def test_what_is_replaced_between_registry_and_files_is_restored_or_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    states = list[State]()

    def dump(*given: Any) -> None:
        dump_registry(*given)
        states.append(read_state(service))
        if len(states) == 1:
            service.put("p0", picture(20))
            service.put("new", picture(22))
            assert service.admin.delete("/v1/pictures/p2").status_code == 204
            Indexer(service.context.live.sets, seal_at=1).run()
            sweep(service.context.live.sets, kept_seconds=kept)

    monkeypatch.setattr("index.backup.dump_registry", dump)
    with running(tmp_path / "home", keep_originals=True) as service:
        for number in range(4):
            service.put(f"p{number}", picture(number), en=[f"motif {number}"])
        assert teach(service).status_code == 202
        Indexer(service.context.live.sets, seal_at=1).run()
        made = take(service.context.settings, tmp_path / "backups")
    assert len(states) == (1 if kept else 2) and not made.manifest["missing"]
    made.verify()
    made.restore(Settings(home=tmp_path / "restored"))
    with running(tmp_path / "restored") as restored:
        assert read_state(restored) == states[-1]
        answer = restored.admin.post("/v1/admin/index/verify").json()
        assert (answer["ok"], answer["problems"]) == (True, [])


class Load(threading.Thread):
    """Puts, replaces, deletes and purges pictures, one after another, and teaches; `states` are those after each step.

    A state is which step put the picture of each id, and the version that serves.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self.service, self.sent, self.ended = service, 0, threading.Event()
        self.states, self.numbers = list[Moment]([({}, 0)]), dict[bytes, int]()

    def run(self) -> None:
        while not self.ended.is_set():
            pictures, taught = dict(self.states[-1][0]), self.states[-1][1]
            self.sent += 1
            id = IDS[self.sent * 5 % len(IDS)]
            if self.sent % 9 == 0:
                taught = self.service.learn("cy").number
            elif self.sent % 7 == 0:
                Indexer(self.service.context.live.sets, seal_at=1).run()
                sweep(self.service.context.live.sets, kept_seconds=0.0)
            elif id in pictures and self.sent % 3 == 0:
                assert self.service.admin.delete(f"/v1/pictures/{id}").status_code == 204
                del pictures[id]
            else:
                self.numbers[data := picture(self.sent)] = self.sent
                assert self.service.put(id, data, en=[f"motif {self.sent}"]).is_success
                pictures[id] = self.sent
            self.states.append((pictures, taught))

    def read(self, restored: Service) -> Moment:
        pictures = {id: self.numbers[files[2]] for id, (files, _) in read_state(restored).items()}
        return pictures, restored.context.registry.releases.get_serving().languages.get("cy", 0)


@pytest.mark.parametrize("drills", [3, pytest.param(50, marks=pytest.mark.nightly)])
def test_each_restore_is_one_moment_of_its_backup(tmp_path: Path, new_database: Callable[[], str], drills: int) -> None:
    with running(tmp_path / "home", database_url=new_database(), keep_originals=True) as service:
        load = Load(service)
        load.start()
        for number in range(drills):
            first = len(load.states) - 1
            made = take(service.context.settings, tmp_path / "backups", keep=2)
            last = load.sent
            made.verify()
            home, url = tmp_path / f"restored-{number}", new_database()
            made.restore(Settings(home=home, database_url=url))
            with running(home, database_url=url) as restored:
                found = load.read(restored)
            assert found in load.states[first : last + 1]
        assert load.is_alive()
        load.ended.set()
        load.join()
    # where languages are taught by name alone, files are missing: such a backup removes none
    assert len(list_folders(tmp_path / "backups")) == (drills if made.manifest["missing_count"] else 2)
