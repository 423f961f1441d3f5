"""Asks as AWS's example notebook does: in 100 CSV batches, first for predictions, then for the neighbours."""

import numpy as np
from driver import main
from local_session import connect
from sagemaker.deserializers import JSONDeserializer
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer


def drive(port, queries):
    predictor = Predictor("knn", connect(port), serializer=CSVSerializer(), deserializer=JSONDeserializer())
    batches = np.array_split(np.load(queries), 100)
    answers = [predictor.predict(batch, initial_args={"ContentType": "text/csv"}) for batch in batches]
    predictor.deserializer = JSONDeserializer(accept="application/json; verbose=true")
    verbose = [predictor.predict(batch) for batch in batches]
    return {
        "predicted": [row["predicted_label"] for answer in answers for row in answer["predictions"]],
        "verbose": [row for answer in verbose for row in answer["predictions"]],
    }


main(drive)
