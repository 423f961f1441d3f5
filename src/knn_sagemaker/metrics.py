"""The scores that a training job logs, as SageMaker is told to find them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
        name: SageMaker's.
        regex: finds it in a line of the log.
        predictor_type: whose it is.
        goal: what a tuning job does with it, `Maximize` or `Minimize`; None where it cannot be an objective.
    """

    name: str
    regex: str
    predictor_type: str
    goal: str | None

    @property
    def definition(self) -> dict[str, str]:
        """As CreateTrainingJob takes it."""
        return {"Name": self.name, "Regex": self.regex}


METRICS = (
    Metric("test:accuracy", r"#quality_metric: host=\S+, test accuracy <score>=(\S+)", "classifier", "Maximize"),
    # The log may say nan of it, which no tuning job can compare.
    Metric("test:macro_f_1.000", r"#quality_metric: host=\S+, test macro_f_1.000 <score>=(\S+)", "classifier", None),
    Metric("test:mse", r"#quality_metric: host=\S+, test mse <loss>=(\S+)", "regressor", "Minimize"),
)
OBJECTIVES = {metric.name: metric for metric in METRICS if metric.goal}


def definitions() -> list[dict[str, str]]:
    """All of them: those that a job does not log do no harm."""
    return [metric.definition for metric in METRICS]
