"""Series: made, read from the public benchmarks, or from a file of one's own."""

from madcluster.data.series import Event, Scaler, Series, segments, windows
from madcluster.data.synthetic import KINDS, synthetic

__all__ = ["KINDS", "Event", "Scaler", "Series", "segments", "synthetic", "windows"]
