import re

import faiss
import pytest
from fake_gpu import DEVICE, GIB

from knn_container import gpu
from knn_container.gpu.runtime import CudaError, Device
from knn_container.index import FLAT, INDEX_TYPES, IVF_FLAT, IVF_PQ, IVF_SQ_8


def test_a_gpu_that_faiss_has_no_code_for_is_refused(fake):
    with pytest.raises(CudaError, match=r"Fake 9000 has the compute capability 6\.1, FAISS needs 7\.0 or more"):
        gpu.Card(Device(**vars(DEVICE) | {"capability": 61}))


def test_faiss_keeps_half_a_gibibyte_for_its_work_and_pins_none(fake, card):
    assert (fake.temporary, fake.pinned) == (512 << 20, 0)


def test_a_gibibyte_of_what_is_free_stays_free(card, cuda):
    assert card.room() == (8 - 1.5) * GIB
    cuda.free[1] = GIB
    assert card.room() == 0


@pytest.mark.parametrize("kind", INDEX_TYPES)
def test_which_kinds_of_indexes_a_gpu_searches(card, build, kind):
    reason = gpu.obstacle(card, build(kind))
    if kind in (FLAT, IVF_FLAT, IVF_PQ, IVF_SQ_8):
        assert reason is None
    else:
        assert reason.endswith("for GPUs")


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (48, None),
        (40, None),
        (10, "takes 1, 2, 3, 4, 8, .*, this index has 10"),
        (56, "56 codes to a row need 57344 bytes of shared memory, Fake 9000 has 49152"),
        (96, "98304 bytes"),
        (120, "this index has 120"),
    ],
)
def test_how_many_codes_a_gpu_takes(card, codes, reason):
    made = faiss.IndexIVFPQ(faiss.IndexFlat(2 * codes), 2 * codes, 4, codes, 8)
    came = gpu.obstacle(card, made)
    assert came is None if reason is None else re.search(reason, came)


def test_an_index_has_to_fit(card, cuda, build):
    made = build(IVF_FLAT)
    needed = (3000 + 32 * 20) * (16 * 4 + 8) + 20 * 17 * 4
    cuda.free[1] = needed + 3 * GIB // 2
    assert gpu.obstacle(card, made) is None
    cuda.free[1] -= 1
    assert "has room for 0" in gpu.obstacle(card, made)
