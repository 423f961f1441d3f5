"""`model.tar.gz`: packed after training, unpacked before serving."""

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path

from knn_container.errors import ArtifactError

_BLOCK = 1 << 24  # bytes that are packed without another thread in between, which may hold Python for 5 ms a time


def pack(folder: Path, archive: Path) -> None:
    """Packs the files of a folder; the same files give the same bytes.

    Raises:
        OSError: the archive cannot be written; nothing is left under its name then.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.name}.part")
    try:
        with (
            part.open("wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as zipped,
            tarfile.TarFile(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_BLOCK) as tar,
        ):
            for path in sorted(folder.iterdir()):
                if path.is_file() and path not in (archive, part):
                    tar.add(path, path.name, filter=_anonymous)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks the plain files at the root of an archive; whatever else it holds is left out.

    Raises:
        ArtifactError: it is not a whole archive.
    """
    try:
        room = shutil.disk_usage(folder).free
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if not member.isfile() or not name or name in (".", "..") or "/" in name or "\0" in name:
                    continue
                if (room := room - member.size) < 0:
                    raise ArtifactError(f"{archive} unpacks to more than the disk of {folder} has room for.")
                source = tar.extractfile(member)
                if source is not None:
                    with source, (folder / name).open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{archive} is not a whole .tar.gz: {reason}. Copy it again.") from error
