"""How many server processes there are."""

import pytest

from knn_container import cpu, memory, settings
from knn_container.serving import server


@pytest.fixture
def count(monkeypatch, tmp_path):
    """Counts the processes on a machine of so many CPUs and bytes, whose model each process holds in part."""

    def count_(cpus, size=1 << 40, own=0, **variables):
        monkeypatch.setattr(cpu, "budget", lambda: cpus)
        monkeypatch.setattr(memory, "limit", lambda: size)
        monkeypatch.setattr(server, "own_bytes", lambda folder: own)
        return server.count_processes(settings.read({"SAGEMAKER_BASE_DIR": str(tmp_path)} | variables))

    return count_


@pytest.mark.parametrize(("cpus", "processes"), [(1, 1), (2, 2), (16, 16), (96, 16)])
def test_there_are_as_many_as_cpus_and_at_most_16(count, cpus, processes):
    assert count(cpus) == processes


@pytest.mark.parametrize(
    ("size", "own", "processes"), [(1 << 30, 0, 8), (1 << 30, 128 << 20, 4), (1 << 30, 1 << 30, 1), (1 << 20, 0, 1)]
)
def test_what_each_holds_by_itself_must_fit(count, size, own, processes):
    assert count(16, size, own) == processes


def test_a_number_that_is_given_counts(count):
    assert count(2, 1 << 20, SAGEMAKER_MODEL_SERVER_WORKERS="5") == 5


def test_models_that_come_by_requests_have_one_process(count):
    assert count(4, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_MODEL_SERVER_WORKERS="5") == 1


def test_a_model_of_unknown_size_has_one_process(count):
    assert count(4, MODEL_DATA_URL="s3://bucket/model.tar.gz") == 1


def test_a_folder_without_a_model_has_one_for_each_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "budget", lambda: 3)
    assert server.count_processes(settings.read({"SAGEMAKER_BASE_DIR": str(tmp_path)})) == 3
