"""What one process does for all."""

import os

import pytest

from knn_container import archive, checksums
from knn_container.errors import ArtifactError
from knn_container.serving.preparation import Preparation


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    return tmp_path


def promised(folder):
    return {"a": checksums.describe(folder / "a")}


def in_a_child(work):
    """Runs work in a forked process and tells whether it raised ArtifactError."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except ArtifactError:
            os._exit(3)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_files_that_one_process_has_read_no_other_reads(folder, monkeypatch):
    preparation, files = Preparation(folder), promised(folder)
    assert in_a_child(lambda: preparation.check(folder, files)) == 0
    monkeypatch.setattr(checksums, "describe", None)
    preparation.check(folder, files)


@pytest.mark.parametrize("content", [b"Content", b"content and more", None])
def test_a_file_that_changes_after_the_check_is_checked_again(folder, content):
    preparation, files = Preparation(folder), promised(folder)
    preparation.check(folder, files)
    (folder / "a").unlink()
    if content is not None:
        (folder / "a").write_bytes(content)
    with pytest.raises(ArtifactError):
        preparation.check(folder, files)
    assert in_a_child(lambda: preparation.check(folder, files)) == 3


def test_other_promises_for_the_same_files_are_checked(folder):
    preparation, files = Preparation(folder), promised(folder)
    preparation.check(folder, files)
    with pytest.raises(ArtifactError, match="its SHA-256 is not the manifest's"):
        preparation.check(folder, {"a": files["a"] | {"sha256": "0" * 64}})


def test_a_process_that_dies_in_the_middle_keeps_no_other_out(folder, monkeypatch):
    preparation, files = Preparation(folder), promised(folder)
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "check", lambda *_: os._exit(9))
        assert in_a_child(lambda: preparation.check(folder, files)) == 9
    preparation.check(folder, files)


@pytest.mark.parametrize("manifest", [None, b"", b"[]", b"{}", b'{"files": 3}', b'{"files": {"a": {"bytes": 1}}}'])
def test_the_early_check_says_nothing_of_what_it_cannot_read(folder, manifest):
    if manifest is not None:
        (folder / "manifest.json").write_bytes(manifest)
    Preparation(folder)._check_early()


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path):
    # SHA-256 of nothing and of "abc": FIPS 180-4's examples.
    for content, digest in (
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ):
        (tmp_path / "x").write_bytes(content)
        assert checksums.describe(tmp_path / "x") == {"bytes": len(content), "sha256": digest}


def test_a_packed_model_is_unpacked_once_and_removed(folder, tmp_path):
    packed = tmp_path / "packed"
    archive.pack(folder, packed / "model.tar.gz")
    preparation = Preparation(packed)
    brought = preparation.bring()
    before = (brought / "a").stat().st_ino
    assert in_a_child(preparation.bring) == 0
    assert (preparation.bring(), (brought / "a").stat().st_ino) == (brought, before)
    preparation.clean()
    assert not brought.exists()
