import os

import pytest

from knn_container import cpu


@pytest.fixture
def eight_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def version_1(folder, quota, period):
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")


def version_2(folder, quota, period):
    (folder / "cpu.max").write_text(f"{quota} {period}\n")


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize("write", [version_1, version_2])
@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [
        (200_000, 100_000, 2),
        (150_000, 100_000, 2),
        (100_001, 100_000, 2),
        (100_000, 100_000, 1),
        (50_000, 100_000, 1),
        (1, 1_000_000, 1),
        (25_000, 10_000, 3),
        (6_400_000, 100_000, 8),
    ],
)
def test_a_quota_is_rounded_up_and_bounded_by_the_affinity_mask(tmp_path, write, quota, period, cpus):
    write(tmp_path, quota, period)
    assert cpu.budget(tmp_path) == cpus


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(("write", "unlimited"), [(version_1, -1), (version_2, "max")])
def test_without_a_quota_the_affinity_mask_counts(tmp_path, write, unlimited):
    write(tmp_path, unlimited, 100_000)
    assert cpu.budget(tmp_path) == 8


@pytest.mark.usefixtures("eight_cpus")
def test_without_a_control_group_the_affinity_mask_counts(tmp_path):
    assert cpu.budget(tmp_path / "nowhere") == 8


def test_this_machine_gives_at_least_one_and_no_more_than_its_mask():
    assert 1 <= cpu.budget() <= len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("eight_cpus")
def test_where_the_budget_comes_from_is_told(tmp_path):
    assert cpu.origin(tmp_path) == "8 in the affinity mask, no cgroup quota"
    version_2(tmp_path, 150_000, 100_000)
    assert cpu.origin(tmp_path) == "8 in the affinity mask, a cgroup quota of 1.5"
