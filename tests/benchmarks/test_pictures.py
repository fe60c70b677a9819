"""The benchmark of a picture's way measures every step it names."""

from benchmarks.pictures import photograph, steps


def test_every_step_of_a_photograph_is_timed() -> None:
    found = steps((1_280, 960), repeats=1)
    assert {"the way of an upload", "resize to 1,024, hamming", "this process, while a child decodes"} <= set(found)
    assert min(found.values()) >= 0 and found["the way of an upload"] > 0


def test_photographs_are_made_up_the_same_way_every_time() -> None:
    assert photograph((64, 48), 3).tobytes() == photograph((64, 48), 3).tobytes() != photograph((64, 48), 4).tobytes()
