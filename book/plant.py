"""Write the sample file of the README: python book/plant.py"""

from pathlib import Path

import numpy as np
import pandas as pd

from madcluster import synthetic

TARGET = Path(__file__).parent / "_static" / "plant.csv"
NAMES = ("inflow", "outflow", "pressure", "level", "pump", "valve", "heat", "cooling")


def plant() -> pd.DataFrame:
    """A day and a half of eight sensors, a row a minute; faults after 20 hours."""
    series = synthetic(n_train=1200, n_test=1000, per_kind=1, seed=1)
    rows = np.concatenate([series.train, series.test]).round(3)
    frame = pd.DataFrame(rows, columns=list(NAMES))
    time = pd.date_range("2026-03-01", periods=len(frame), freq="min").strftime("%Y-%m-%d %H:%M")
    frame.insert(0, "minute", time)
    frame["fault"] = np.concatenate([np.zeros(1200, int), series.labels.astype(int)])
    return frame


if __name__ == "__main__":
    plant().to_csv(TARGET, index=False, float_format="%.3f", lineterminator="\n")
