"""Makes one sample of what the hosts of a job have kept."""

import numpy as np

from knn_container import sampling
from knn_container.batch import Float32Array, Int64Array
from knn_container.sampling import Sample, Summary, UInt64Array
from knn_container.training.host import Host
from knn_container.training.hosts import Hosts

_BLOCK = 1 << 25  # bytes of rows that are on their way at a time


def collect(hosts: Hosts, summaries: dict[str, Summary], size: int) -> Sample:
    """Fetches the rows with the smallest keys of all, and no others.

    Args:
        hosts: who hold rows.
        summaries: of each.
        size: rows in the sample.
    """
    kept = {name: it for name, it in summaries.items() if it.rows}

    def count(keys: UInt64Array) -> Int64Array:
        found = hosts.each(Host.count, dict.fromkeys(kept, (keys,)))
        counts: Int64Array = np.sum(list(found.values()), axis=0)
        return counts

    total = sum(it.rows for it in kept.values())
    limit = sampling.last_key(size, count) if total > size else sampling.LARGEST_KEY
    parts = hosts.each(Host.settle, dict.fromkeys(kept, (limit,)))
    labels, ids, places = sampling.merge([summaries[name] for name in parts], list(parts.values()))
    width = next(it.width for it in kept.values())
    features: Float32Array = np.empty((len(ids), width), np.float32)
    step = max(1, _BLOCK // (4 * width * len(parts)))
    for start in range(0, max(map(len, places)), step):
        wanted = {name: place[start : start + step] for name, place in zip(parts, places, strict=True)}
        blocks = hosts.each(Host.rows, {name: (start, start + len(it)) for name, it in wanted.items() if len(it)})
        for name, block in blocks.items():
            features[wanted[name]] = block
    hosts.each(Host.forget, dict.fromkeys(kept, ()))
    rows_read = sum(it.rows_read for it in summaries.values())
    return Sample(features, labels, ids, None, rows_read)
