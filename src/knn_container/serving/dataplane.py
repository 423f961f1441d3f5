"""What the server does with a request, apart from HTTP."""

from dataclasses import dataclass, field

from knn_container.errors import RequestError
from knn_container.formats import mediatype
from knn_container.formats.mediatype import MediaType
from knn_container.model import Model
from knn_container.serving import bodies
from knn_container.serving.answers import Columns
from knn_container.serving.negotiation import Answer, Defaults
from knn_container.serving.turns import CpuTurns


@dataclass(frozen=True)
class DataPlane:
    """Answers requests; safe to use from several threads at once.

    Attributes:
        turns: at the CPUs.
        defaults: what holds where a request does not say.
        euclidean: whether an L2 distance is answered as its root.
    """

    turns: CpuTurns
    defaults: Defaults = field(default_factory=Defaults)
    euclidean: bool = False

    def invoke(self, model: Model, content_type: MediaType, body: bytes, answer: Answer) -> bytes:
        """Answers one request with one search.

        Raises:
            RequestError: its status says what kind, its text what was expected and what came.
        """
        if answer.k is not None and answer.k > model.options.k:
            raise RequestError(400, f"The option k: expected at most the model's {model.options.k}, {answer.k} came.")
        features = bodies.decode(content_type, body, model.options.dimension)
        with self.turns.turn():
            predictions = model.predict(features, answer.k, answer.nprobe)
        tensors = answer.media_type == mediatype.RECORDIO
        columns = Columns(model, predictions, euclidean=self.euclidean, tensors=tensors)
        return bodies.encode(answer, columns.of(answer.columns))
