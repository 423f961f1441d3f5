"""Which host reads which file of a channel, so that every row is read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knn_container.errors import UserError
from knn_container.training.channels import FULLY_REPLICATED, SHARDED, Channel, File


@dataclass(frozen=True)
class Piece:
    """What one host is to read of one file.

    Attributes:
        path: the file's, below its channel.
        size: of the file in bytes; 0 where it is not known.
        place: by what name its rows are known in the sample: the path, where that tells it from all other files.
        turn, turns: of every `turns` stretches of `mini_batch_size` rows the one numbered `turn`, counted from 0, is
            this host's.
    """

    path: str
    size: int
    place: str
    turn: int = 0
    turns: int = 1


def divide(channel: Channel, found: Mapping[str, Sequence[File]]) -> dict[str, list[Piece]]:
    """Divides a channel's files among the hosts of a job.

    A file that several hosts see is read by one of them, the largest files being given out first; under
    `ShardedByS3Key`, where the platform has divided the files, each host reads what it has. A pipe is read by
    every host; under `FullyReplicated` the hosts take turns at its rows.

    Args:
        channel: whose files they are.
        found: what each host sees; with marks, unless the platform has said how the files are distributed.

    Returns:
        For each host its pieces in data order.

    Raises:
        UserError: there is no file, hosts see different files that should be the same, or several hosts have pipes
            and nobody has said whether they carry the same.
    """
    if not any(found.values()):
        raise UserError(
            f"The channel {channel.name!r} has no files: {channel.source.where} is empty or does not exist."
        )
    hosts = sorted(found)
    if len(hosts) == 1:
        return {host: [Piece(file.path, file.size or 0, file.path) for file in found[host]] for host in hosts}
    if channel.is_pipe:
        return _divide_pipes(channel, found)
    taken: dict[str, list[Piece]] = {host: [] for host in hosts}
    loads = dict.fromkeys(hosts, 0)
    for file, seeing, alone in sorted(_copies(channel, found), key=lambda it: -(it[0].size or 0)):
        reader = min(seeing, key=lambda host: (loads[host], host))
        loads[reader] += file.size or 0
        place = file.path if alone else f"{file.path}\0{hosts.index(reader):06}"  # no path has a NUL
        taken[reader].append(Piece(file.path, file.size or 0, place))
    return {
        host: sorted(pieces, key=lambda it: it.path.encode("utf-8", "surrogateescape"))
        for host, pieces in taken.items()
    }


def _copies(channel: Channel, found: Mapping[str, Sequence[File]]) -> list[tuple[File, list[str], bool]]:
    """Each file with the hosts that see it, and whether no other file has its path."""
    copies: dict[str, dict[tuple[int | str | None, ...], tuple[File, list[str]]]] = {}
    for host in sorted(found):
        for file in found[host]:
            same = (host,) if channel.distribution == SHARDED else (file.size, file.mark)
            copies.setdefault(file.path, {}).setdefault(same, (file, []))[1].append(host)
    if channel.distribution == FULLY_REPLICATED:
        for path, versions in copies.items():
            seeing = [host for _, hosts in versions.values() for host in hosts]
            if len(versions) > 1 or len(seeing) < len(found):
                raise UserError(
                    f"Channel {channel.name!r}: expected the same files on all hosts ({FULLY_REPLICATED}), "
                    f"{path!r} is not the same on all: {_describe(path, found)}."
                )
    return [(file, hosts, len(versions) == 1) for versions in copies.values() for file, hosts in versions.values()]


def _describe(path: str, found: Mapping[str, Sequence[File]]) -> str:
    sizes = {
        host: next((f"{it.size} bytes" for it in found[host] if it.path == path), "none") for host in sorted(found)
    }
    return ", ".join(f"{host} has {size}" for host, size in sizes.items())


def _divide_pipes(channel: Channel, found: Mapping[str, Sequence[File]]) -> dict[str, list[Piece]]:
    match channel.distribution:
        case "ShardedByS3Key":
            return {
                host: [Piece(file.path, 0, f"{rank:06}/{file.path}") for file in found[host]]
                for rank, host in enumerate(sorted(found))
            }
        case "FullyReplicated":
            return {
                host: [Piece(file.path, 0, file.path, rank, len(found)) for file in found[host]]
                for rank, host in enumerate(sorted(found))
            }
        case _:
            raise UserError(
                f"Channel {channel.name!r}: expected an S3DistributionType, {FULLY_REPLICATED} or {SHARDED}, none "
                "came: of the pipes of several hosts nothing else tells whether they carry the same rows."
            )
