"""Files are written whole or not at all; a changed bit is noticed by a checksum."""

import os
import random
import subprocess
from pathlib import Path

import pytest
from support.disk import read_only
from support.files import flip_bit

from lungsound.errors import CorruptFileError, Interrupted, StorageError
from lungsound.storage.files import (
    is_intact_folder,
    link_or_copy,
    quarantine,
    quarantine_mismatched,
    read_file,
    remove,
    write_file,
    write_folder,
    write_stream,
)

CONTENT = bytes(range(256)) * 3
FILES = [("a.txt", b"1"), ("below/b.txt", b"22")]


def test_a_removed_link_leaves_the_folder_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    write_folder(tmp_path / "folder", FILES)
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "outside")
    with read_only(tmp_path), pytest.raises(StorageError, match="link: expected to remove it"):
        remove(tmp_path / "link")
    remove(tmp_path / "link")
    remove(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]


@pytest.mark.parametrize("embedded", [True, False])
def test_what_is_written_is_read(tmp_path: Path, embedded: bool) -> None:
    path = tmp_path / "new" / "file"
    for content in (CONTENT, b"", b"\n"):
        write_file(path, content, embedded)
        assert read_file(path, embedded) == content
    write_stream(path, (CONTENT[start : start + 100] for start in range(0, len(CONTENT), 100)))
    assert read_file(path) == CONTENT
    assert [path.name for path in path.parent.iterdir()] == ["file"]


def test_embedded_checksum_shows_every_damage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, CONTENT, embed_checksum=True)
    intact, rng = path.read_bytes(), random.Random(0)
    damages = [intact[:place] for place in (0, *rng.sample(range(1, len(intact)), 50))]
    damages += [flip_bit(intact, place) for place in range(len(intact))]
    for damaged in (*damages, intact + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match="file is damaged"):
            read_file(path, embedded_checksum=True)


def test_quarantined_files_are_numbered_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        (tmp_path / "file").write_bytes(bytes([number]))
        quarantine(tmp_path / "file")
        assert (tmp_path / f"file.damaged-{number}").read_bytes() == bytes([number])
        assert f"{tmp_path / 'file'} is damaged" in capsys.readouterr().out
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("name", ["a.txt", "below/b.txt", "SHA256SUMS"])
def test_every_damage_of_a_folder_is_noticed_and_put_aside(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path, FILES)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)
    path = tmp_path / name
    content = path.read_bytes()
    flipped = [flip_bit(content, place) for place in range(len(content))]
    for damaged in (*flipped, b"", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        assert not is_intact_folder(tmp_path)
        quarantine_mismatched(tmp_path)
        assert not (tmp_path / "SHA256SUMS").exists()
        write_folder(tmp_path, FILES)
        assert is_intact_folder(tmp_path)
    if name != "SHA256SUMS":
        assert len(list(path.parent.glob(f"{path.name}.damaged-*"))) == len(flipped) + 1


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "below/../../outside", "a\0b"])
def test_checksums_of_other_folders_are_ignored(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside").write_text("not ours")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    quarantine_mismatched(folder)
    assert [path.name for path in tmp_path.iterdir() if path != folder] == ["outside"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "file", b"old")

    def full(*_: object) -> None:
        raise OSError("no space")

    def interrupted(*_: object) -> None:
        raise Interrupted(2, "now")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space"):
        write_file(tmp_path / "file", b"new")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(Interrupted):
        write_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert read_file(tmp_path / "file") == b"old"


def test_a_link_is_a_copy_if_the_file_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    source.write_bytes(CONTENT)
    for _ in range(2):  # also over an earlier one
        link_or_copy(source, target)
        assert target.samefile(source)

    def no_links(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    link_or_copy(source, target)
    assert not target.samefile(source)
    assert target.read_bytes() == CONTENT
