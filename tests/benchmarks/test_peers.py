"""The measurement beside peers, without the peers: weights, texts, servers that end, and the refusals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import open_clip
import psutil
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from benchmarks.peers import proof, weights
from benchmarks.peers.__main__ import app
from benchmarks.peers.home import Home
from benchmarks.peers.material import list_texts
from benchmarks.peers.processes import build_environment, free_port, start_program
from benchmarks.peers.run import Tuning, choose_fastest
from benchmarks.peers.servers import Server
from model.base import open_base
from model.encoder import Encoder
from model.tokenizer import Tokenizer
from tests.patience import PATIENCE

TINY = "tiny-vit"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Both formats of a tiny architecture."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / f"{TINY}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{TINY}.json")
    written = Home(folder)
    weights.write(written.checkpoint, written.huggingface, TINY)
    return written


def test_our_encoder_and_open_clip_read_the_same_vectors_from_the_weights(home: Home) -> None:
    model = open_clip.create_model(TINY, pretrained=str(home.checkpoint)).eval()
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(
            model.encode_text(open_clip.get_tokenizer(TINY)(list_texts()[:8])), dim=-1
        )
    encoder = Encoder(open_base(f"{TINY}@{home.checkpoint}"))
    found = encoder.encode_texts([(encoder.base_view, text) for text in list_texts()[:8]]).vectors
    assert proof.measure_least_cosine(expected.numpy(), found) > 0.9999
    assert proof.measure_largest_cosine(found) < proof.ALIKE  # so that equal ones differ from others


def test_the_folder_for_transformers_holds_every_number_once(home: Home) -> None:
    one, other = load_file(home.checkpoint), load_file(home.huggingface / "model.safetensors")
    assert len(other) == len(one) + 2 * 2 * 2 * 2  # query, key and value apart: weights and biases, layers, towers
    numbers = [torch.cat([tensor.flatten() for tensor in each.values()]).sort().values for each in (one, other)]
    assert torch.equal(*numbers)
    layer = "transformer.resblocks.1.attn.in_proj_weight"
    query = other["text_model.encoder.layers.1.self_attn.q_proj.weight"]
    assert torch.equal(one[layer][:32], query) and torch.equal(
        one["text_projection"].T, other["text_projection.weight"]
    )


def test_the_tokenizer_for_transformers_is_clips(home: Home) -> None:
    vocabulary = json.loads((home.huggingface / "vocab.json").read_text())
    _, *merges = (home.huggingface / "merges.txt").read_text().splitlines()
    words = {number: token for token, number in vocabulary.items()}
    assert len(vocabulary) == 49408 and len(merges) == 48894 and merges[0] == "i n"
    (ids,) = Tokenizer().encode(["a red boat"])
    assert [words[number] for number in ids] == ["a</w>", "red</w>", "boat</w>"]
    assert (vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (49406, 49407)


def test_run_before_make_is_one_sentence_and_starts_nothing(tmp_path: Path) -> None:
    before = psutil.Process().children()
    ended = CliRunner().invoke(app, ["run", "--home", str(tmp_path / "none")])
    assert str(ended.exception) == (
        f"The peers are not made yet: run `python -m benchmarks.peers make --home {tmp_path / 'none'}` first."
    )
    assert isinstance(ended.exception, SystemExit)
    assert not (tmp_path / "none").exists() and psutil.Process().children() == before


@pytest.mark.parametrize("changed", [{"text": {"ours": 0.99}}, {"pictures": {"infinity": float("nan")}}])
def test_other_vectors_are_refused(changed: dict[str, dict[str, float]]) -> None:
    same = {"unlike_texts": 0.9, "text": {"ours": 0.9999}, "pictures": {"infinity": 1.0}}
    proof.require_same(same)
    with pytest.raises(SystemExit, match="gives other vectors"):
        proof.require_same(same | changed)
    with pytest.raises(SystemExit, match="too alike"):
        proof.require_same(same | {"unlike_texts": 0.999})


def test_infinity_is_measured_as_it_is_fastest_and_gives_the_same_vectors() -> None:
    slow = {"1": 20.0, "16": 50.0, "cosine": 1.0}
    fast = {"1": 18.0, "16": 70.0, "cosine": 1.0}
    other = {"1": 90.0, "16": 90.0, "cosine": 0.98}
    tried: dict[Tuning, dict[str, float]] = {
        (threads, ("--no-compile",)): each for threads, each in enumerate((slow, fast, other))
    }
    assert choose_fastest(tried, proof.ALIKE) == (1, ("--no-compile",))
    assert choose_fastest(tried, 0.9) == (2, ("--no-compile",))


SERVER = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_server_and_its_children_end_with_the_block_even_after_an_error() -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVER, port]
    with (
        pytest.raises(KeyboardInterrupt),
        start_program(command, build_environment(1), f"http://127.0.0.1:{port}/") as process,
    ):
        own = psutil.Process(process.pid)
        running = [own, *own.children()]
        assert len(running) == 2
        assert Server("ours", "", "", bytes, [own]).memory()["rss"] > 10  # type: ignore[arg-type]
        raise KeyboardInterrupt
    _, alive = psutil.wait_procs(running, timeout=PATIENCE)
    assert not alive


STOPPED = """
import signal, sys, time
from benchmarks.peers.processes import build_environment, start_program, stop_on_sigterm
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
stop_on_sigterm()
port = sys.argv[1]
command = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"]
with start_program(command, build_environment(1), f"http://127.0.0.1:{port}/") as process:
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_its_servers(sent: signal.Signals) -> None:
    command = [sys.executable, "-c", STOPPED, str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        server = psutil.Process(int(run.stdout.readline()))
        run.send_signal(sent)
        assert run.wait(PATIENCE) != 0
    _, alive = psutil.wait_procs([server], timeout=PATIENCE)
    assert not alive
