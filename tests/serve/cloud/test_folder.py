"""The local cloud's folder: who may use it, its version, and what stays in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import FormatError, UnavailableError, UnsupportedError
from kluis.serve.cloud.folder import Folder


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    """It has mode 0700, and ports stay in it."""
    folder = Folder.create(tmp_path / "a" / "cloud")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remember_ports({"attestation": 8443})
    folder.remember_ports({"keyvault": 8444})
    assert Folder.open(folder.path).settings().ports == {"attestation": 8443, "keyvault": 8444}


def test_a_folder_of_a_newer_version(tmp_path: Path) -> None:
    """It is refused, and left as it is."""
    folder = Folder.create(tmp_path / "cloud")
    (folder.path / "cloud.json").write_text('{"version": 2, "more": [1]}')
    with pytest.raises(UnsupportedError) as caught:
        Folder.create(folder.path)
    assert caught.value.message == f"{folder.path}: version: want at most 1, got 2, of a newer Kluis"
    assert caught.value.code == "cloud_newer"
    assert (folder.path / "cloud.json").read_text() == '{"version": 2, "more": [1]}'


def test_a_damaged_file(tmp_path: Path) -> None:
    """It is named."""
    folder = Folder.create(tmp_path / "cloud")
    (folder.path / "cloud.json").write_text("{")
    with pytest.raises(FormatError, match=r"cloud/cloud.json: "):
        Folder.open(folder.path)


def test_no_folder(tmp_path: Path) -> None:
    """Only a start creates one."""
    with pytest.raises(UnavailableError, match="no local cloud is here"):
        Folder.open(tmp_path / "cloud")
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="want a folder, got a link or a file"):
        Folder.create(tmp_path / "file")
