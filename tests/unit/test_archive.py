import gzip
import io
import os
import resource
import tarfile
from contextlib import contextmanager, suppress

import pytest

from knn_container import archive
from knn_container.errors import ArtifactError

FILES = {"manifest.json": b"{}", "index.faiss": bytes(range(256)) * 4000, "labels.npy": b""}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def target(tmp_path):
    target = tmp_path / "outer" / "target"
    target.mkdir(parents=True)
    return target


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@contextmanager
def files_no_larger_than(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_packed_is_what_comes_out(folder, target, tmp_path):
    archive.pack(folder, tmp_path / "new" / "model.tar.gz")
    archive.unpack(tmp_path / "new" / "model.tar.gz", target)
    assert contents(target) == FILES
    assert list(contents(tmp_path / "new")) == ["model.tar.gz"]


def test_other_tools_read_what_is_packed(folder, tmp_path):
    archive.pack(folder, tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz", "r:gz") as tar:
        assert tar.getnames() == sorted(FILES)
        assert {name: tar.extractfile(name).read() for name in FILES} == FILES


def test_the_same_files_give_the_same_bytes_whatever_their_dates_modes_and_order(folder, tmp_path):
    archive.pack(folder, tmp_path / "first.tar.gz")
    other = tmp_path / "other"
    other.mkdir()
    for number, name in enumerate(reversed(FILES)):
        (other / name).write_bytes(FILES[name])
        (other / name).chmod(0o600 + number)
        os.utime(other / name, (number, number))
    archive.pack(other, tmp_path / "second.tar.gz")
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()


def test_an_archive_in_the_folder_that_it_packs_leaves_itself_out(folder):
    (folder / "nested").mkdir()
    for _ in range(2):
        archive.pack(folder, folder / "model.tar.gz")
        with tarfile.open(folder / "model.tar.gz") as tar:
            assert tar.getnames() == sorted(FILES)


def test_an_archive_that_does_not_fit_leaves_nothing(folder, tmp_path):
    (folder / "noise").write_bytes(os.urandom(300_000))
    with files_no_larger_than(100_000), pytest.raises(OSError, match="File too large"):
        archive.pack(folder, tmp_path / "out" / "model.tar.gz")
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_archive_of_any_tar_is_unpacked(tmp_path, target, mode, prefix):
    write_tar(tmp_path / "x", [(member(prefix + name), content) for name, content in FILES.items()], mode)
    archive.unpack(tmp_path / "x", target)
    assert contents(target) == FILES


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped"),
        member("/escaped"),
        member("./../escaped"),
        member(".//escaped"),
        member(".."),
        member("."),
        member("./"),
        member("deep/file"),
        member("link", tarfile.SYMTYPE, "../escaped"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.LNKTYPE, "manifest.json"),
        member("fifo", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
        member("folder", tarfile.DIRTYPE),
    ],
    ids=lambda info: f"{info.name} {info.type.decode()}",
)
def test_only_plain_files_at_the_root_leave_an_archive(tmp_path, target, hostile):
    write_tar(tmp_path / "x", [(hostile, b"" if hostile.type != tarfile.REGTYPE else b"evil")])
    with tarfile.open(tmp_path / "y", "w:gz") as tar:
        hostile.size = 0
        tar.addfile(hostile)
        tar.addfile(member("manifest.json"))
    archive.unpack(tmp_path / "x", target)
    archive.unpack(tmp_path / "y", target)
    assert contents(target) == {"manifest.json": b""}
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_link_and_a_file_of_its_name_write_no_further_than_the_folder(tmp_path, target):
    members = [(member("name", tarfile.SYMTYPE, str(tmp_path / "escaped")), b""), (member("name"), b"evil")]
    write_tar(tmp_path / "x", members)
    archive.unpack(tmp_path / "x", target)
    assert contents(target) == {"name": b"evil"}
    assert not (tmp_path / "escaped").exists()


def test_a_name_that_no_file_can_have_is_refused_or_left_out(tmp_path, target):
    info = member("manifest.json")
    info.pax_headers = {"path": "zero\0byte"}
    write_tar(tmp_path / "x", [(info, b"")])
    with suppress(ArtifactError):
        archive.unpack(tmp_path / "x", target)
    assert len(contents(target)) <= 1


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar"), b"\x1f\x8b" + bytes(100)])
def test_what_is_no_archive_is_refused(tmp_path, target, content):
    (tmp_path / "model.tar.gz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"(?s)model\.tar\.gz is not a whole \.tar\.gz.*Copy it again"):
        archive.unpack(tmp_path / "model.tar.gz", target)


def test_a_shortened_archive_is_refused_wherever_it_ends(folder, target, tmp_path):
    (folder / "noise").write_bytes(os.urandom(20_000))
    archive.pack(folder, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for end in range(0, len(whole) - 8, 997):
        (tmp_path / "part").write_bytes(whole[:end])
        with pytest.raises(ArtifactError):
            archive.unpack(tmp_path / "part", target)


def test_a_damaged_archive_is_refused_or_unpacked_and_raises_nothing_else(folder, target, tmp_path):
    (folder / "noise").write_bytes(os.urandom(20_000))
    archive.pack(folder, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    refused = 0
    for place in range(10, len(whole), 499):
        damaged = whole[:place] + bytes(b ^ 0xFF for b in whole[place : place + 3]) + whole[place + 3 :]
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            archive.unpack(tmp_path / "damaged", target)
        except ArtifactError:
            refused += 1
    assert refused
