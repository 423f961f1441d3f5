"""Serving from a folder that holds nothing but `model.tar.gz`."""

import io
import tarfile
import tempfile

import pytest

QUERY = ",".join(["0.5"] * 64)
FILES = ("manifest.json", "index.faiss", "labels.npy", "ids.npy")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model folder, beside the one in which archives are unpacked and one that nothing may be written to."""
    for name in ("model", "tmp", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "model"


def pack(archive, members, mode="w:gz"):
    """Writes (name, content) members; content that is a TarInfo's attributes makes another kind of member."""
    with tarfile.open(archive, mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for attribute, value in content.items():
                    setattr(member, attribute, value)
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def model_members(trained, prefix=""):
    return [(f"{prefix}{name}", (trained / "model" / name).read_bytes()) for name in FILES]


def outside(folder):
    """Everything below the folders' parent that is neither the archive nor below the folder for unpacking."""
    found = {path for path in folder.parent.rglob("*") if (folder.parent / "tmp") not in path.parents}
    return {path.relative_to(folder.parent).as_posix() for path in found}


UNTOUCHED = {"model", "model/model.tar.gz", "tmp", "outside", "outside/file"}


def predict(client):
    return client.post("/invocations", data=QUERY, content_type="text/csv").get_data()


@pytest.mark.parametrize(("prefix", "mode"), [("", "w:gz"), ("./", "w:gz"), ("", "w")])
def test_a_packed_model_answers_as_the_unpacked_one(serve, trained, folder, prefix, mode):
    pack(folder / "model.tar.gz", model_members(trained, prefix), mode)
    assert predict(serve(folder)) == predict(serve(trained / "model"))
    assert outside(folder) == UNTOUCHED


def test_what_training_packs_can_be_served(serve, train, folder):
    base = train({"train/rows.csv": b"5,0\n6,1\n7,2\n"}, pack=True, k=1)
    (folder / "model.tar.gz").write_bytes((base / "output/model.tar.gz").read_bytes())
    response = serve(folder).post("/invocations", data="2", content_type="text/csv", headers={"Accept": "text/csv"})
    assert response.get_data() == b"7.0\n"


def test_an_unpacked_model_outweighs_an_archive_beside_it(serve, trained, client, folder):
    for name, content in model_members(trained):
        (folder / name).write_bytes(content)
    (folder / "model.tar.gz").write_bytes(b"not an archive")
    assert predict(serve(folder)) == predict(client)


HOSTILE = {
    "a path upwards": lambda root: [("../outside/evil", b"x"), ("../../evil", b"x"), ("a/../../outside/evil", b"x")],
    "an absolute path": lambda root: [(f"{root}/outside/evil", b"x"), (f"{root}/outside/file", b"x")],
    "a symbolic link": lambda root: [
        ("ids.npy", {"type": tarfile.SYMTYPE, "linkname": f"{root}/outside/file"}),
        ("ids.npy", b"x"),
        ("evil", {"type": tarfile.SYMTYPE, "linkname": f"{root}/outside"}),
        ("evil/evil", b"x"),
    ],
    "a hard link": lambda root: [
        ("labels.npy", {"type": tarfile.LNKTYPE, "linkname": f"{root}/outside/file"}),
        ("labels.npy", b"x"),
    ],
    "devices and pipes": lambda root: [
        ("labels.npy", {"type": tarfile.FIFOTYPE}),
        ("ids.npy", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ("index.faiss", {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}),
    ],
    "folders": lambda root: [("..", {"type": tarfile.DIRTYPE}), ("manifest.json", {"type": tarfile.DIRTYPE})],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_writes_nothing_outside(serve, trained, client, folder, kind):
    members = HOSTILE[kind](folder.parent)
    pack(folder / "model.tar.gz", members)
    assert serve(folder).get("/ping").status_code == 503
    # Nor does it where the rest of the archive is a model, which is served.
    pack(folder / "model.tar.gz", members + model_members(trained))
    assert predict(serve(folder)) == predict(client)
    assert outside(folder) == UNTOUCHED
    assert (folder.parent / "outside" / "file").read_text() == "untouched"
    unpacked = [path for path in (folder.parent / "tmp").rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() for path in unpacked)


def refusal(client):
    response = client.get("/ping")
    assert response.status_code == 503
    return response.get_json()["error"]


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b"])
def test_what_is_no_archive_is_refused_with_advice(serve, folder, content):
    (folder / "model.tar.gz").write_bytes(content)
    error = refusal(serve(folder))
    assert "model.tar.gz is not a whole .tar.gz" in error
    assert "Copy it again" in error


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_archive_is_refused_with_advice(serve, trained, folder, share):
    pack(folder / "model.tar.gz", model_members(trained))
    content = (folder / "model.tar.gz").read_bytes()
    (folder / "model.tar.gz").write_bytes(content[: int(len(content) * share)])
    error = refusal(serve(folder))
    assert "model.tar.gz is not a whole .tar.gz" in error
    assert "Copy it again" in error


def test_an_archive_with_a_flipped_byte_is_refused_with_advice_or_holds_the_same(serve, trained, client, folder):
    pack(folder / "model.tar.gz", model_members(trained))
    content = (folder / "model.tar.gz").read_bytes()
    refused = 0
    for at in range(12, len(content), len(content) // 25):
        (folder / "model.tar.gz").write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        damaged = serve(folder)
        if damaged.get("/ping").status_code == 200:  # it fell between the members
            assert predict(damaged) == predict(client)
        else:
            refused += 1
            assert "opy it again" in refusal(damaged), f"byte {at}"
    assert refused > 15


def test_an_archive_without_a_model_is_refused(serve, folder):
    pack(folder / "model.tar.gz", [("readme.txt", b"x")])
    response = serve(folder).get("/ping")
    assert response.status_code == 503
    assert "manifest.json does not exist" in response.get_json()["error"]
