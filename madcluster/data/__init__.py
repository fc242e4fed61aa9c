"""Series: made, read from the public benchmarks, or from a file of one's own."""

from madcluster.data.benchmarks import DATASETS, MissingDataError, data_root, entities, load
from madcluster.data.fetch import ArchiveError, fetch
from madcluster.data.series import Event, OutlierWarning, Scaler, Series, segments, windows
from madcluster.data.synthetic import KINDS, synthetic
from madcluster.data.tables import ClockWarning, ContaminationWarning, from_csv

__all__ = [
    "DATASETS",
    "KINDS",
    "ArchiveError",
    "ClockWarning",
    "ContaminationWarning",
    "Event",
    "MissingDataError",
    "OutlierWarning",
    "Scaler",
    "Series",
    "data_root",
    "entities",
    "fetch",
    "from_csv",
    "load",
    "segments",
    "synthetic",
    "windows",
]
