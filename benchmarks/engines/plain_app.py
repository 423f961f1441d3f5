"""The server that one writes in an afternoon: Flask around a library, a row of CSV a line, labels as JSON."""

from collections.abc import Callable
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np
from flask import Flask, jsonify, request

K = 10


def make(module: str, maker: Callable[..., Any] | str, folder: str, setting: Any = None) -> Flask:
    """Makes the application.

    Args:
        module: of this folder.
        maker: its class.
        folder: with the model: `rows.npy` and `labels.npy`.
        setting: how hard to look, in the library's own words.
    """
    engine = getattr(import_module(module), str(maker))(np.load(f"{folder}/rows.npy"))
    labels = np.load(f"{folder}/labels.npy").astype(np.int64)
    app = Flask(__name__)

    @app.get("/ping")
    def ping() -> str:
        return ""

    @app.post("/invocations")
    def invocations() -> Any:
        rows = np.loadtxt(StringIO(request.get_data(as_text=True)), delimiter=",", dtype=np.float32, ndmin=2)
        _, found = engine(rows, K, setting)
        votes = [int(np.bincount(labels[neighbours]).argmax()) for neighbours in found.astype(np.int64)]
        return jsonify(predictions=[{"predicted_label": float(vote)} for vote in votes])

    return app
