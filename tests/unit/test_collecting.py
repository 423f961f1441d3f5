"""One sample of what several hosts have kept, the hosts being objects of this process."""

import numpy as np
import pytest

from knn_container.sampling import BottomK
from knn_container.training import collecting
from knn_container.training.collecting import collect
from knn_container.training.host import Host


class Reader(Host):
    """A host that has nothing but its rows."""

    def __init__(self, sampler):
        self._sampler = sampler

    @property
    def name(self):
        return "reader"


class FakeHosts:
    """Calls hosts as `Cluster` does, and notes who was asked for what."""

    def __init__(self, samplers):
        self.readers = {name: Reader(sampler) for name, sampler in samplers.items()}
        self.calls = []

    @property
    def names(self):
        return sorted(self.readers)

    def each(self, work, arguments):
        self.calls.extend((work.__name__, name, given) for name, given in arguments.items())
        return {name: work(self.readers[name], *given) for name, given in arguments.items()}

    def summaries(self):
        return {name: self.readers[name]._sampler.summary() for name in self.names}


def rows_of(first, count):
    numbers = np.arange(first, first + count)
    return np.stack([numbers, numbers**2], axis=1).astype(np.float32), (numbers % 3).astype(np.float32)


@pytest.fixture
def hosts():
    """Makes hosts that each have read a file of so many rows, and the sample of one host that has read all."""

    def make(counts, size):
        samplers, one, first = {}, BottomK(size, 0), 0
        for place, count in enumerate(counts):
            sampler = samplers[f"host {place}"] = BottomK(size, 0)
            for reader in (sampler, one) if count else ():
                reader.add(f"file {place}", 0, *rows_of(first, count))
            first += count
        return FakeHosts(samplers), one.finish()

    return make


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
@pytest.mark.parametrize("counts", [(40, 30, 20), (0, 90, 0), (88, 1, 1), (90,)])
@pytest.mark.parametrize("block", [1, 100, 1 << 25])
def test_the_sample_is_that_of_one_host_in_blocks_of_any_size(*, hosts, monkeypatch, counts, size, block):
    monkeypatch.setattr(collecting, "_BLOCK", block)
    several, expected = hosts(counts, size)
    sample = collect(several, several.summaries(), size)
    assert sample.rows_read == expected.rows_read == 90
    assert sample.order is None
    np.testing.assert_array_equal(sample.ids, expected.ids)
    np.testing.assert_array_equal(sample.labels, expected.labels)
    np.testing.assert_array_equal(sample.features, expected.features[expected.order])


def test_only_rows_that_stay_are_asked_for_and_each_once(hosts, monkeypatch):
    monkeypatch.setattr(collecting, "_BLOCK", 8 * 3 * 4)  # 4 rows of 2 columns from each of 3 hosts
    several, expected = hosts((500, 300, 200), 60)
    collect(several, several.summaries(), 60)
    asked = [(name, *given) for work, name, given in several.calls if work == "rows"]
    assert sum(stop - start for _, start, stop in asked) == len(expected) == 60
    for name in several.names:
        spans = [(start, stop) for it, start, stop in asked if it == name]
        assert all(0 < stop - start <= 4 for start, stop in spans)
        assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]


def test_hosts_without_rows_are_left_in_peace_and_the_others_forget_theirs(hosts):
    several, _ = hosts((0, 20, 10), 5)
    collect(several, several.summaries(), 5)
    assert {name for _, name, _ in several.calls} == {"host 1", "host 2"}
    assert all(len(several.readers[name]._sampler) == 0 for name in ("host 1", "host 2"))


def test_where_all_rows_stay_no_key_is_looked_for(hosts):
    several, _ = hosts((20, 10), 30)
    collect(several, several.summaries(), 30)
    assert "count" not in {work for work, _, _ in several.calls}
