"""What a bound key sees of a picture that another process has just moved: nothing of before the move."""

import json
from pathlib import Path

from index.gallery import NewPicture
from index.records import Patch
from tests.contract.test_bound_keys import FAR, OTHER, SECRET, Keys
from tests.doubles import WeightlessEncoder
from tests.service.harness import running


def test_what_was_before_a_move_is_not_shown_by_a_process_that_is_behind(tmp_path: Path) -> None:
    with running(tmp_path, watch_seconds=60.0) as service:
        keys = Keys(service)
        keys.put(keys.unbound, FAR, 7, collection=OTHER, captions=json.dumps({"en": [SECRET]}))
        change = {"captions": {"en": ["public"]}, "collection": "near"}
        service.context.gallery.patch(Patch(FAR, change), {})  # as another process: this one does not follow yet
        ask = {"text": "x", "language": "en", "captions": "all"}
        searched, listed, one = (
            {http: http.post("/v1/search/pictures", json=ask) for http in (keys.bound, keys.unbound)},
            keys.bound.get("/v1/pictures"),
            keys.bound.get(f"/v1/pictures/{FAR}"),
        )
        assert SECRET in str([hit["captions"] for hit in searched[keys.unbound].json()["items"]])  # it is behind
        for answer in (searched[keys.bound], listed):
            captions = {item["id"]: item["captions"] for item in answer.json()["items"]}
            assert captions[FAR] == {} and captions["near-1"] == {"en": ["a red apple"]}
        assert one.json()["captions"] == {}
        gallery = service.context.gallery
        near = gallery.get("near-1")
        gallery.put([NewPicture(FAR, near.content_sha256, 48, 48)], WeightlessEncoder.image_fingerprint)
        asked = [
            [http.post("/v1/search/captions", json={"picture": id}).json()["items"] for id in (FAR, "near-1")]
            for http in (keys.bound, keys.unbound)
        ]
        assert asked[0][0] == asked[0][1] and asked[1][0] != asked[1][1]
        service.context.live.refresh()
        assert keys.bound.get(f"/v1/pictures/{FAR}").json()["captions"] == {"en": ["public"]}
        keys.bound.close()
        keys.unbound.close()
