"""The hosts that a job's `resourceconfig.json` names."""

import json

import pytest

from knn_container.errors import UserError
from knn_container.training import job


@pytest.fixture
def read_hosts(tmp_path):
    """This host and all hosts of a job, given the document's text; None for no document."""

    def read(text):
        folders = job.Folders(tmp_path)
        folders.config.mkdir(parents=True)
        if text is not None:
            (folders.config / "resourceconfig.json").write_text(text)
        return job._read_hosts(folders)

    return read


@pytest.mark.parametrize(
    ("document", "host", "hosts"),
    [
        (None, "algo-1", ("algo-1",)),
        ({}, "algo-1", ("algo-1",)),
        ({"current_host": "here"}, "here", ("here",)),
        ({"current_host": "here", "hosts": []}, "here", ("here",)),
        ({"current_host": "b", "hosts": ["b", "c", "a"]}, "b", ("a", "b", "c")),
        # By their names, as SageMaker sorts them, and not by the numbers in them.
        ({"current_host": "algo-2", "hosts": ["algo-2", "algo-10"]}, "algo-2", ("algo-10", "algo-2")),
        ({"current_host": "a", "hosts": ["a", "a"]}, "a", ("a",)),
        (
            {"current_host": "a", "hosts": ["a"], "network_interface_name": "eth0", "instance_groups": [{"hosts": []}]},
            "a",
            ("a",),
        ),
    ],
)
def test_the_hosts_are_those_that_are_named_in_sorted_order(read_hosts, document, host, hosts):
    assert read_hosts(None if document is None else json.dumps(document)) == (host, hosts)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"current_host": "c", "hosts": ["a", "b"]}, "expected current_host to be one of the hosts a, b, 'c' came"),
        ({"hosts": ["a", "b"]}, "'algo-1' came"),
        ({"current_host": 1, "hosts": ["a"]}, "expected the names of the hosts as text, ['a'] and 1 came"),
        (
            {"current_host": "a", "hosts": ["a", None]},
            "expected the names of the hosts as text, ['a', None] and 'a' came",
        ),
        ({"current_host": "a", "hosts": "a"}, "expected the names of the hosts as text, 'a' and 'a' came"),
        ({"current_host": None, "hosts": ["a"]}, "expected the names of the hosts as text"),
    ],
)
def test_hosts_that_cannot_be_told_are_the_users_mistake_and_shown(read_hosts, document, words):
    with pytest.raises(UserError, match=r"resourceconfig\.json: expected") as caught:
        read_hosts(json.dumps(document))
    assert words in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("{", "is not JSON"), ("[]", "expected a JSON object, list came")])
def test_a_document_that_is_none_is_named(read_hosts, text, words):
    with pytest.raises(UserError, match=r"resourceconfig\.json") as caught:
        read_hosts(text)
    assert words in str(caught.value)
