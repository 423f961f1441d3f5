"""The Flask application of a multi-model endpoint.

Routes and statuses are those of SageMaker's developer guide, "Build Your Own Container for SageMaker Multi-Model
Endpoints", the bodies those of awslabs/multi-model-server.
"""

import json
from pathlib import Path

from flask import Flask, request
from flask.typing import ResponseReturnValue

from knn_container.errors import RequestError
from knn_container.serving.app import Endpoint, read_body
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.negotiation import whole_number
from knn_container.serving.store import ModelStore

_PAGE = 100
_LARGEST_CALL = 1 << 16  # bytes of a body that names a model


def create_multi_model_app(
    plane: DataPlane, store: ModelStore, max_content_length: int, waiting_bytes: int = 1 << 30
) -> Flask:
    """Makes the application.

    Args:
        plane: does the work.
        store: has the models.
        max_content_length: the largest request body in bytes.
        waiting_bytes: as for `Endpoint`.
    """
    endpoint = Endpoint(plane, max_content_length, waiting_bytes)
    app = endpoint.make_app()

    @app.get("/ping")
    def ping() -> ResponseReturnValue:
        return "", 200

    @app.post("/models")
    def load() -> ResponseReturnValue:
        try:
            body = json.loads(read_body(request, _LARGEST_CALL))
        except ValueError:
            body = None
        if not isinstance(body, dict) or not all(isinstance(body.get(key), str) for key in ("model_name", "url")):
            raise RequestError(400, 'Expected {"model_name": "...", "url": "/folder/of/the/model"}.')
        store.load(body["model_name"], Path(body["url"]))
        return {"status": f'Model "{body["model_name"]}" registered'}

    @app.get("/models")
    def list_models() -> ResponseReturnValue:
        start, limit = _query_number("next_page_token", 0), _query_number("limit", _PAGE)
        models, end = store.list(), start + max(1, min(limit, _PAGE))
        page = {"models": [{"modelName": name, "modelUrl": url} for name, url in models[start:end]]}
        return page | ({"nextPageToken": str(end)} if end < len(models) else {})

    @app.get("/models/<name>")
    def describe(name: str) -> ResponseReturnValue:
        name, url = store.describe(name)
        return {"modelName": name, "modelUrl": url}

    @app.delete("/models/<name>")
    def unload(name: str) -> ResponseReturnValue:
        store.unload(name)
        return {"status": f'Model "{name}" unregistered'}

    @app.post("/models/<name>/invoke")
    def invoke(name: str) -> ResponseReturnValue:
        store.describe(name)
        return endpoint.invoke(lambda: store.use(name))

    return app


def _query_number(name: str, default: int) -> int:
    return whole_number(request.args.get(name, str(default)), 0, name)
