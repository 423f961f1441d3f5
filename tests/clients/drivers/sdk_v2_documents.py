"""Asks as AWS's content recommendation tutorial does: a document at a time, for its neighbours in one line of JSON."""

import numpy as np
from driver import main
from local_session import connect
from sagemaker.deserializers import JSONDeserializer
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer


def drive(port, queries):
    predictor = Predictor(
        "knn",
        connect(port),
        serializer=CSVSerializer(),
        deserializer=JSONDeserializer(accept="application/jsonlines; verbose=true"),
    )
    return [predictor.predict(topics) for topics in np.load(queries)]


main(drive)
