import faiss
import pytest

from knn_container.serving.processes import Processes
from knn_container.serving.turns import CpuTurns


def test_a_search_alone_has_all_cpus_and_searches_of_all_processes_share_them():
    processes = Processes(2)
    turns = [CpuTurns(8, processes, slot) for slot in range(2)]
    with turns[0].turn():
        assert faiss.omp_get_max_threads() == 8
        with turns[1].turn():
            assert faiss.omp_get_max_threads() == 4
            with turns[1].turn():
                assert faiss.omp_get_max_threads() == 2
        with turns[1].turn():
            assert faiss.omp_get_max_threads() == 4
    assert processes.searches() == 0


@pytest.mark.parametrize(("cpus", "processes", "searches"), [(1, 1, 1), (2, 2, 1), (8, 2, 4), (8, 3, 3), (1, 4, 1)])
def test_processes_together_search_on_every_cpu(cpus, processes, searches):
    assert CpuTurns(cpus, Processes(processes)).searches == searches


def test_more_searches_than_cpus_have_one_thread_each():
    turns = CpuTurns(1)
    with turns.turn(), turns.turn():
        assert faiss.omp_get_max_threads() == 1


def test_a_process_that_ends_takes_its_searches_and_its_readiness_with_it():
    processes = Processes(2)
    slots = [processes.assign(number) for number in (7, 8)]
    for slot in slots:
        processes.mark_ready(slot)
        processes.note_searches(slot, 3)
    assert (processes.missing(), processes.searches()) == (0, 6)
    processes.free(7)
    assert (processes.missing(), processes.searches()) == (1, 3)
    assert processes.assign(9) == slots[0]
    assert processes.missing() == 1
