"""What the leading host makes of what Dask tells it, without a network."""

import logging
import socket
import time
from types import SimpleNamespace

import pytest

from knn_container.errors import AlgorithmError, PlatformError, UserError
from knn_container.training import cluster
from knn_container.training.stopping import Stopper

HOSTS = ("algo-1", "algo-2", "algo-3")


class Host:
    """The host that leads; it notes what it is told to fail with."""

    def __init__(self):
        self.name = "algo-1"
        self.task = SimpleNamespace(hosts=HOSTS)
        self.failures = []
        self.stop = SimpleNamespace(fail=self.failures.append)
        self.done = []

    def work(self, text):
        self.done.append(text)
        return len(self.done)

    def fail(self, error):
        raise error


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def watch(host):
    """A watch that has seen all hosts join, from addresses that end as their names do."""
    watch = cluster._Watch(host)
    for name in HOSTS:
        join(watch, name)
    return watch


def join(watch, name):
    address = f"tcp://10.0.0.{name[-1]}:4000"
    watch.add_worker(SimpleNamespace(workers={address: SimpleNamespace(name=name)}), address)


def leave(watch, name):
    watch.remove_worker(None, f"tcp://10.0.0.{name[-1]}:4000", stimulus_id="x")


def test_hosts_are_known_by_their_names(watch):
    assert watch.address("algo-2") == "tcp://10.0.0.2:4000"
    assert watch.present(besides="algo-1") == ["tcp://10.0.0.2:4000", "tcp://10.0.0.3:4000"]


def test_hosts_may_come_and_go_until_all_are_there(host, watch):
    leave(watch, "algo-3")
    assert set(watch.names.values()) == {"algo-1", "algo-2"}
    join(watch, "algo-3")
    watch.guard()
    assert host.failures == []


def test_a_host_that_goes_between_the_last_look_and_the_work_is_lost(watch):
    leave(watch, "algo-2")
    with pytest.raises(PlatformError, match="The host algo-2 was lost: it was ended from outside"):
        watch.guard()


def test_a_host_that_goes_in_mid_work_fails_the_job_by_name(host, watch):
    watch.guard()
    leave(watch, "algo-3")
    (failure,) = host.failures
    assert isinstance(failure, PlatformError)
    assert str(failure).startswith("The host algo-3 was lost: ")
    assert str(watch.lost()) == str(failure)
    assert watch.present(besides="algo-1") == ["tcp://10.0.0.2:4000"]


def test_hosts_that_go_at_the_end_are_not_missed(host, watch):
    watch.guard()
    watch.release()
    leave(watch, "algo-2")
    leave(watch, "algo-3")
    assert host.failures == []
    assert watch.lost() is None


@pytest.fixture
def here(host, monkeypatch):
    """The worker of this host."""
    here = cluster._Here(host)
    monkeypatch.setattr(cluster, "get_worker", lambda: SimpleNamespace(plugins={here.name: here}))
    return here


@pytest.mark.usefixtures("here")
def test_what_was_done_once_is_not_done_again(host):
    assert cluster._do(1, Host.work, "a") == 1
    assert cluster._do(3, Host.work, "b") == 2
    with pytest.raises(PlatformError, match="Host algo-1: What it had done could not be fetched"):
        cluster._do(3, Host.work, "b")
    assert host.done == ["a", "b"]


@pytest.mark.usefixtures("here")
def test_a_mistake_of_the_user_names_the_host_and_nothing_is_logged(caplog):
    with pytest.raises(UserError, match="Host algo-1: file 'x', row 7"):
        cluster._do(1, Host.fail, UserError("file 'x', row 7"))
    assert caplog.records == []


@pytest.mark.usefixtures("here")
def test_a_mistake_of_ours_leaves_its_traceback_in_the_log_of_its_host(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(AlgorithmError, match="Host algo-1: KeyError: 'x'"):
        cluster._do(1, Host.fail, KeyError("x"))
    (record,) = caplog.records
    assert record.exc_info[0] is KeyError


def test_a_host_that_does_not_find_itself_says_so(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    host = SimpleNamespace(name="algo-2", stop=Stopper())
    with pytest.raises(PlatformError, match="for the host algo-2, which finds no address by its own name") as caught:
        cluster._own_address(host, time.monotonic() - 1, 5)
    assert str(caught.value).startswith("Waited 5 seconds (SAGEMAKER_STARTUP_TIMEOUT) ")


def test_a_host_that_is_stopped_while_it_waits_says_so(monkeypatch):
    host = SimpleNamespace(name="algo-2", stop=Stopper())
    host.stop.request()
    with pytest.raises(UserError, match="SIGTERM came before the first row was read"):
        cluster._wait(host, time.monotonic() + 60, 60, ["algo-1"])


def test_of_several_addresses_the_one_that_all_hosts_can_use_is_taken(monkeypatch):
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::2", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert cluster._own_address(SimpleNamespace(name="algo-2"), 0, 5) == "10.0.0.2"
