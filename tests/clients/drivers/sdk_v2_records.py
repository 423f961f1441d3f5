"""Asks with the predictor that the SDK has for the built-in algorithm."""

import http.client
import io

import numpy as np
from driver import main
from local_session import connect
from sagemaker.amazon.common import read_records, write_spmatrix_to_sparse_tensor
from sagemaker.amazon.knn import KNNPredictor
from sagemaker.serializers import IdentitySerializer
from scipy.sparse import csr_matrix

RECORDIO = "application/x-recordio-protobuf"


def drive(port, queries):
    sent = watch_headers()
    rows = np.load(queries)
    predictor = KNNPredictor("knn", connect(port))
    answers = {
        "float32": predictor.predict(rows),
        "float64": predictor.predict(rows.astype(np.float64)),
        "one row": predictor.predict(rows[0]),
        "verbose": predictor.predict(rows, initial_args={"Accept": f"{RECORDIO}; verbose=true"}),
    }
    body = io.BytesIO()
    write_spmatrix_to_sparse_tensor(body, csr_matrix(rows))
    predictor.serializer = IdentitySerializer(RECORDIO)
    answers["sparse"] = predictor.predict(body.getvalue())
    body.seek(0)
    return {
        "headers": sent,
        "answers": {name: [values(record) for record in records] for name, records in answers.items()},
        "stored": [len(record.features["values"].float32_tensor.keys) for record in read_records(body)],
    }


def watch_headers():
    """Notes the headers of each request as they are sent."""
    requests = []
    putrequest, putheader = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.putheader

    def begin(connection, *arguments, **options):
        requests.append({})
        putrequest(connection, *arguments, **options)

    def note(connection, header, *values):
        requests[-1][str(header).lower()] = ", ".join(
            it.decode() if isinstance(it, bytes) else str(it) for it in values
        )
        putheader(connection, header, *values)

    http.client.HTTPConnection.putrequest, http.client.HTTPConnection.putheader = begin, note
    return requests


def values(record):
    assert not record.features
    return {name: list(value.float32_tensor.values) for name, value in record.label.items()}


main(drive)
