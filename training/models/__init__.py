"""Tables of the training room, one file per subject."""

from training.models.data import Dataset, DatasetVersion
from training.models.evaluations import Evaluation
from training.models.jobs import Attempt, DeviceSlot, Job, JobEvent, JobInput
from training.models.presets import OptimizerPreset
from training.models.results import Checkpoint, Metric, MetricPoint, MetricRollup, Sample

__all__ = [
    "Attempt",
    "Checkpoint",
    "Dataset",
    "DatasetVersion",
    "DeviceSlot",
    "Evaluation",
    "Job",
    "JobEvent",
    "JobInput",
    "Metric",
    "MetricPoint",
    "MetricRollup",
    "OptimizerPreset",
    "Sample",
]
