"""The official layouts with their oddities: on small files made here, and on the real ones."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from madcluster.data import MissingDataError, benchmarks, data_root, entities, load

GOLDEN = Path(__file__).parent / "golden" / "entities.csv"
TABLE = """chan_id,spacecraft,anomaly_sequences,class,num_values
P-1,SMAP,"[[10, 12], [30, 30]]","[contextual, point]",50
P-2,SMAP,"[[5, 20]]",[point],50
M-1,MSL,"[[1, 3]]",[point],40
P-2,SMAP,"[[15, 29]]",[point],50
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """SMAP, SMD and PSM in small, with the label table's hash as the official one."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 50)):
        (tmp_path / "SMAP" / split).mkdir(parents=True)
        for name in ("P-1", "P-2"):
            np.save(tmp_path / "SMAP" / split / f"{name}.npy", rng.random((n, 25)))
        (tmp_path / "SMD" / split).mkdir(parents=True)
        np.savetxt(tmp_path / "SMD" / split / "machine-1-1.txt", rng.random((n, 38)), delimiter=",")
    (tmp_path / "SMAP" / "labeled_anomalies.csv").write_text(TABLE)
    official = {"MSL_SMAP/labeled_anomalies.csv": (0, hashlib.sha256(TABLE.encode()).hexdigest())}
    monkeypatch.setattr(benchmarks, "official_files", lambda: official)
    for folder, text in (
        ("test_label", "0\n" * 40 + "1\n" * 10),
        ("interpretation_label", "40-50:1,38\n"),
    ):
        (tmp_path / "SMD" / folder).mkdir()
        (tmp_path / "SMD" / folder / "machine-1-1.txt").write_text(text)
    header = "timestamp_(min)," + ",".join(f"feature_{i}" for i in range(25))
    (tmp_path / "PSM").mkdir()
    for split, n, start in (("train", 20, 0), ("test", 30, 20)):
        rows = [f"{start + i}.0," + ",".join(["0.5"] * 24 + [str(i)]) for i in range(n)]
        (tmp_path / "PSM" / f"{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    marks = [f"{20 + i}.0,{int(i > 25)}" for i in range(30)]
    (tmp_path / "PSM" / "test_label.csv").write_text("\n".join(["timestamp_(min),label", *marks]))
    return tmp_path


def test_both_ends_of_a_nasa_sequence_are_anomalous(small):
    series = load("SMAP", "P-1", small)
    assert np.flatnonzero(series.labels).tolist() == [10, 11, 12, 30]
    assert [event.kind for event in series.events] == ["contextual", "point"]


def test_p_2_is_the_union_of_its_two_rows(small):
    series = load("SMAP", "P-2", small)
    assert series.segments.tolist() == [[5, 30]]
    assert entities("SMAP", small) == ["P-1", "P-2"]


def test_smd_has_no_header_and_half_open_incidents(small):
    series = load("SMD", "machine-1-1", small)
    assert series.train.shape == (40, 38)
    assert series.segments.tolist() == [[40, 50]]
    (event,) = series.events
    assert (event.start, event.stop, event.channels) == (40, 50, (0, 37))


def test_psm_keeps_its_time_stamps_apart(small):
    series = load("PSM", root=small)
    assert series.n_channels == 25
    assert series.time[0] == 20
    assert series.labels.sum() == 4


def test_psm_missing_values_are_refused_or_filled_and_counted(small):
    path = small / "PSM" / "train.csv"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace("0.5", "", 2)
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"train\.csv: row 4, column 'feature_0' is missing"):
        load("PSM", root=small)
    series = load("PSM", root=small, fill="ffill")
    assert series.filled == 2
    assert series.train[2, 0] == 0.5
    series = load("PSM", root=small, fill="zero")  # as released
    assert series.filled == 2
    assert (series.train[2, :2] == 0).all()


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


BAD = {
    "older label table": (
        "SMAP",
        "P-1",
        "SMAP/labeled_anomalies.csv",
        lambda b: b.replace(b"[10, 12]", b"[3, 5]"),
        "not the official label table",
    ),
    "truncated npy": ("SMAP", "P-1", "SMAP/test/P-1.npy", lambda b: b[:-8], "not a whole .npy"),
    "empty npy": ("SMAP", "P-1", "SMAP/test/P-1.npy", lambda b: b"", "not a whole .npy"),
    "text for npy": ("SMAP", "P-1", "SMAP/test/P-1.npy", lambda b: b"hello", "not a whole .npy"),
    "text in SMD": (
        "SMD",
        "machine-1-1",
        "SMD/train/machine-1-1.txt",
        lambda b: b"\n".join([*b.split(b"\n")[:2], b"x," + b"0," * 36 + b"0"]),
        "machine-1-1.txt: row 3, column 1 holds 'x'",
    ),
    "ragged SMD": (
        "SMD",
        "machine-1-1",
        "SMD/train/machine-1-1.txt",
        lambda b: b"\n".join([b.split(b"\n")[0], b"0,0"]),
        "row 2 has 2 columns, expected 38",
    ),
    "narrow SMD": (
        "SMD",
        "machine-1-1",
        "SMD/train/machine-1-1.txt",
        lambda b: b"0,0\n0,0\n",
        "row 1 has 2 columns, expected 38",
    ),
    "empty SMD": (
        "SMD",
        "machine-1-1",
        "SMD/train/machine-1-1.txt",
        lambda b: b"",
        "the file is empty",
    ),
    "nan in SMD": (
        "SMD",
        "machine-1-1",
        "SMD/train/machine-1-1.txt",
        lambda b: b"\n".join([b.split(b"\n")[0], b"nan" + b",0" * 37]),
        "SMD/machine-1-1: train holds NaN in row 1, channel 0",
    ),
    "short SMD labels": (
        "SMD",
        "machine-1-1",
        "SMD/test_label/machine-1-1.txt",
        lambda b: b[:-2],
        r"labels have shape \(49,\)",
    ),
    "bad root cause": (
        "SMD",
        "machine-1-1",
        "SMD/interpretation_label/machine-1-1.txt",
        lambda b: b"40:1",
        "row 1 is not 'first-last:channel",
    ),
    "root cause 0": (
        "SMD",
        "machine-1-1",
        "SMD/interpretation_label/machine-1-1.txt",
        lambda b: b"40-50:0,3",
        "row 1 is not 'first-last:channel",
    ),
    "reversed root cause": (
        "SMD",
        "machine-1-1",
        "SMD/interpretation_label/machine-1-1.txt",
        lambda b: b"50-40:3",
        "row 1 is not 'first-last:channel",
    ),
    "root cause 39": (
        "SMD",
        "machine-1-1",
        "SMD/interpretation_label/machine-1-1.txt",
        lambda b: b"40-50:39",
        "does not fit 50 rows and 38 channels",
    ),
    "root cause past the end": (
        "SMD",
        "machine-1-1",
        "SMD/interpretation_label/machine-1-1.txt",
        lambda b: b"40-51:3",
        "does not fit 50 rows and 38 channels",
    ),
    "PSM labels of other rows": (
        "PSM",
        None,
        "PSM/test_label.csv",
        lambda b: b.replace(b"21.0", b"20.5"),
        "does not have the time stamps",
    ),
    "PSM text": (
        "PSM",
        None,
        "PSM/test.csv",
        lambda b: b.replace(b"20.0,0.5", b"20.0,off"),
        "row 2, column 'feature_0' holds 'off'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_is_named(small, case):
    dataset, entity, file, change, message = BAD[case]
    edit(small / file, change)
    with pytest.raises(ValueError, match=message):
        load(dataset, entity, small)


def test_a_pickled_array_is_never_loaded(small):
    np.save(
        small / "SMAP" / "test" / "P-1.npy", np.array([{}, []], dtype=object), allow_pickle=True
    )
    with pytest.raises(ValueError, match="array of numbers"):
        load("SMAP", "P-1", small)


def test_a_header_that_promises_too_much_is_refused(small):
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 25)}
    with (small / "SMAP" / "test" / "P-1.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ValueError, match="not a whole"):
        load("SMAP", "P-1", small)


@pytest.mark.parametrize("part", ["train", "test_label", "interpretation_label"])
def test_a_half_fetched_machine_is_no_entity(small, part):
    (small / "SMD" / part / "machine-1-1.txt").unlink()
    with pytest.raises(MissingDataError):
        entities("SMD", small)


def test_an_array_of_another_width_or_length_is_refused(small):
    np.save(small / "SMAP" / "test" / "P-1.npy", np.zeros((50, 24)))
    with pytest.raises(ValueError, match=r"must hold \(rows, 25\), got \(50, 24\)"):
        load("SMAP", "P-1", small)
    np.save(small / "SMAP" / "test" / "P-1.npy", np.zeros((49, 25)))
    with pytest.raises(ValueError, match="speaks of 50 test rows, the array has 49"):
        load("SMAP", "P-1", small)


def test_unknown_names_are_answered_with_near_ones(small):
    with pytest.raises(
        ValueError, match=r"dataset must be one of .*'PSM'.*'synthetic'.*, got 'SWaT'"
    ):
        load("SWaT", root=small)
    with pytest.raises(ValueError, match="synthetic has no entity 'plant'; it has synthetic"):
        load("synthetic", "plant")
    assert entities("synthetic") == ["synthetic"]
    assert load("synthetic", "synthetic").test.shape == load("synthetic").test.shape
    with pytest.raises(ValueError, match="did you mean machine-1-1"):
        load("SMD", "machine-1-2", small)
    with pytest.raises(ValueError, match="no entity None; it has P-1, P-2"):
        load("SMAP", root=small)


@pytest.mark.parametrize("dataset", [*benchmarks.DATASETS, "synthetic"])
def test_an_unknown_fill_is_refused_before_anything_is_read(tmp_path, dataset):
    with pytest.raises(ValueError, match="fill must be 'ffill', 'interpolate' or None, got 'mean'"):
        load(dataset, root=tmp_path, fill="mean")


@pytest.mark.parametrize("dataset", ["MSL", "SMD", "PSM"])
def test_missing_data_says_how_to_get_it(tmp_path, dataset):
    with pytest.raises(MissingDataError, match=rf"fetch\('{dataset}'"):
        load(dataset, "x", tmp_path)
    (tmp_path / "SMD" / "test").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="missing"):
        entities("SMD", tmp_path)


def test_the_excerpt_does_not_send_the_reader_to_fetch(tmp_path):
    with pytest.raises(MissingDataError, match="cannot be fetched"):
        load("PSM_excerpt", root=tmp_path)


def test_where_data_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MADCLUSTER_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("here") == Path("here")
    monkeypatch.delenv("MADCLUSTER_DATA")
    assert data_root().name == "madcluster"


# --- the real files -------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "n"), [("MSL", 27), ("SMAP", 54), ("SMD", 19)])
def test_every_real_entity_has_its_published_totals(data_root, dataset, n):
    with GOLDEN.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == dataset]
    assert [row["entity"] for row in sorted(rows, key=lambda r: r["entity"])] == entities(
        dataset, data_root
    )
    assert len(rows) == n
    for row in rows:
        series = load(dataset, row["entity"], data_root)
        got = (
            series.n_channels,
            len(series.train),
            len(series.test),
            int(series.labels.sum()),
            len(series.segments),
        )
        keys = ("channels", "train_rows", "test_rows", "anomalous_rows", "segments")
        assert got == tuple(int(row[key]) for key in keys), row["entity"]


def test_real_oddities(data_root):
    p10, p14 = (load("MSL", name, data_root) for name in ("P-10", "P-14"))
    assert np.array_equal(p10.test, p14.test)
    assert p10.labels.sum() != p14.labels.sum()
    assert load("SMAP", "P-2", data_root).segments.tolist() == [[5300, 6576]]
    assert load("MSL", "M-6", data_root).test[:, 0].max() == pytest.approx(258, abs=1)
    assert np.ptp(load("SMAP", "A-1", data_root).train[:, 0]) == 0
    assert "T-10" not in entities("MSL", data_root)
    excerpt = load("PSM_excerpt", root=data_root)
    assert (len(excerpt.train), len(excerpt.test), int(excerpt.labels.sum())) == (2517, 5777, 1170)
