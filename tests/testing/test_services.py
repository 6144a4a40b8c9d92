"""The services as a fixture: a user's tests use them with Azure's own clients and the session's variables."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.tee.process import linux, native
from kluis.testing.services import ServicesOptions, running

HEAP_BYTES = 512 << 20
CONFTEST = """
import pytest
from kluis.testing.plugin import *
from kluis.testing.services import ServicesOptions

@pytest.fixture(scope="session")
def kluis_services_options():
    return ServicesOptions(services=("keyvault",))
"""
TEST = """
import json, os
from azure.identity import CertificateCredential
from azure.keyvault.keys import KeyClient

def test_key(kluis_services):
    assert set(kluis_services.urls) == {"keyvault"}
    env, ca = kluis_services.env, str(kluis_services.ca)
    credential = CertificateCredential(
        env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_CERTIFICATE_PATH"],
        authority=env["AZURE_AUTHORITY_HOST"], disable_instance_discovery=True, connection_verify=ca,
    )
    keys = KeyClient(kluis_services.urls["keyvault"], credential, connection_verify=ca)
    assert keys.create_ec_key("of-a-test").key_type == "EC"

def test_the_same_services(kluis_services):
    assert kluis_services.levels["keyvault"] in ("process", "process-user")
    assert b"of-a-test" not in (kluis_services.folder / "run.json").read_bytes()
"""


def test_a_users_tests(tmp_path: Path) -> None:
    """A session starts the services that its conftest names, once, and leaves nothing running."""
    try:
        native.guardian()
    except UnavailableError as missing_one:
        pytest.skip(missing_one.message)
    if missing := sorted(linux.missing(HEAP_BYTES)):
        pytest.skip(f"the services are for a machine that has everything: {missing[0]}")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "t")],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    for folder in (tmp_path / "t").rglob("cloud"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not (folder / "run.json").exists()


@pytest.mark.slow
def test_services_that_do_not_start(tmp_path: Path) -> None:
    """The error is theirs, and no record of them is left."""
    options = ServicesOptions(services=("keyvault",), given={"keyvault": {"nonsense": 1}})
    with pytest.raises(UsageError) as error, running(tmp_path / "cloud", options):
        pass
    assert error.value.message == "keyvault settings: Object contains unknown field `nonsense`"
    assert not (tmp_path / "cloud" / "run.json").exists()
