"""The job as its owner sees it: its key is sealed to a verified enclave, and its results are encrypted."""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kluis.errors import RemoteError

FOLDER = Path(__file__).parents[1]
KEY_INFO, INPUT, RESULTS = b"project_name key", b"project_name input", b"project_name results"


def test_results_are_for_the_owner(enclave, recipient_of):
    job, key, nonce = enclave(FOLDER / "app.py"), AESGCM.generate_key(256), os.urandom(12)
    encrypted = nonce + AESGCM(key).encrypt(nonce, (FOLDER / "records.csv").read_bytes(), INPUT)

    answer = job.run(recipient_of(job).seal(key, info=KEY_INFO), encrypted)

    assert b"glaucoma" not in answer
    assert json.loads(AESGCM(key).decrypt(answer[:12], answer[12:], RESULTS)) == {"glaucoma": 63.0}


def test_input_under_another_key(enclave, recipient_of):
    job = enclave(FOLDER / "app.py")
    with pytest.raises(RemoteError, match="not encrypted under the sealed key"):
        job.run(recipient_of(job).seal(bytes(32), info=KEY_INFO), bytes(64))
