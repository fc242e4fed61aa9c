"""Damaged and hostile files: every reader answers with its documented error, or with a right value.

`MADCLUSTER_FUZZ=17000 pytest tests/test_fuzz.py` tries that many inputs on each of the seven readers.
What was found so stands as `@example`, or by name in the tests of the reader.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from madcluster import MADCluster, from_csv, load, synthetic
from madcluster.data import ClockWarning, ContaminationWarning, benchmarks
from madcluster.data.fetch import ArchiveError, _nasa_arrays
from madcluster.images import ImageMADCluster
from madcluster.service.checkpoints import CheckpointError
from madcluster.service.streams import Stream

N = int(os.environ.get("MADCLUSTER_FUZZ", "60"))
fuzzed = settings(
    max_examples=N,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

place = st.integers(0, 10**6)
change = st.one_of(
    st.tuples(st.just("flip"), place, st.integers(1, 255)),
    st.tuples(st.just("cut"), place, st.integers(1, 300)),
    st.tuples(st.just("put"), place, st.binary(max_size=12)),
    st.tuples(st.just("end"), place, st.just(0)),
    st.tuples(st.just("digit"), place, st.sampled_from(b"0123456789-.e")),
)
changes = st.lists(change, min_size=1, max_size=6)


def changed(content, steps, *, within=None):
    """Bytes with some flipped, cut, put in, or all cut off from a place on."""
    data = bytearray(content)
    for kind, where, value in steps:
        if not data:
            break
        at = where % min(len(data), within or len(data))
        if kind == "flip":
            data[at] ^= value
        elif kind == "cut":
            del data[at : at + value]
        elif kind == "put":
            data[at:at] = value
        elif kind == "end":
            del data[at:]
        else:  # another digit where there is one
            digits = [i for i in range(at, min(at + 200, len(data))) if 48 <= data[i] <= 57]
            if digits:
                data[digits[0]] = value
    return bytes(data)


def tried(action, error):
    """What the action returns, or None if it is refused with words by the documented error."""
    try:
        return action()
    except error as refusal:
        if not str(refusal):
            pytest.fail("refused without a word")
        return None


@pytest.fixture(scope="module")
def series():
    return synthetic(n_train=300, n_test=300, n_channels=3, kinds=("spike",), seed=0)


@pytest.fixture(scope="module")
def detector(series):
    options = {"d": 4, "n_layers": 2}
    return MADCluster(window=10, stride=10, epochs=1, options=options).fit(series.train)


@pytest.fixture(scope="module")
def checkpoint(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "detector"
    detector.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def stream_file(detector, series, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "stream"
    stream = detector.stream()
    stream.update(series.test[:50])
    stream.save(path)
    return path.read_bytes()


cell = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.integers(-(10**400), 10**400).map(str),
    st.sampled_from(
        ["", "NA", "nan", "1_000", "0x10", "1e999", "-0", "١٢", "=1+1", '"', "\x00", "½"]
    ),
    st.text(max_size=6),
)
line = st.lists(cell, max_size=5).flatmap(
    lambda c: st.sampled_from([",", ";", "\t"]).map(lambda s: s.join(c))
)
table = st.lists(line, max_size=12).flatmap(
    lambda rows: st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\u2028"]).map(
        lambda end: end.join(rows)
    )
)
columns = st.sampled_from([None, "a", "time", "", "\x00"])


@fuzzed
@given(
    st.one_of(
        table.map(lambda text: text.encode("utf-8", "surrogatepass")),
        changes.map(lambda steps: changed(CSV, steps)),
        changes.map(lambda steps: changed(GZIP, steps)),
        changes.map(lambda steps: gzip.compress(changed(CSV, steps))),
        changes.map(lambda steps: changed(PARQUET, steps)),
        st.binary(max_size=200),
    ),
    columns,
    columns,
    st.sampled_from([None, "ffill", "interpolate"]),
    st.fixed_dictionaries(
        {},
        optional={
            "decimal": st.sampled_from(".,"),
            "encoding": st.sampled_from(["utf-8-sig", "cp1252", "utf-16"]),
            "time_format": st.sampled_from(["%Y-%m-%d %H:%M", "%d.%m.%Y", "%s", "%%"]) | st.text(),
            "na_values": st.lists(st.text(max_size=3), max_size=2),
        },
    ),
)
def test_from_csv(tmp_path, content, time, label, fill, reading):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ContaminationWarning)
        warnings.simplefilter("ignore", ClockWarning)
        series = tried(
            lambda: from_csv(path, time=time, label=label, fill=fill, **reading), ValueError
        )
    if series is None:
        return
    assert np.isfinite(series.train).all()
    assert np.isfinite(series.test).all()


CSV = b"time,a,b\n" + b"".join(b"2026-01-01 00:%02d,%d,%d.5\n" % (i, i % 2, i) for i in range(12))
GZIP = gzip.compress(CSV)
PARQUET = pd.read_csv(io.BytesIO(CSV), index_col="time", parse_dates=True).to_parquet()


@fuzzed
@given(changes, st.sampled_from([None, 2500]))
def test_checkpoints(checkpoint, series, tmp_path, steps, within):
    """Half of the changes go into the header, where there are names and numbers."""
    path = tmp_path / "detector"
    path.write_bytes(changed(checkpoint, steps, within=within))
    read = tried(lambda: MADCluster.load(path), CheckpointError)
    if read is None:
        return
    # a number of channels that was changed is refused here
    scores = tried(lambda: read.decision_function(series.test), ValueError)
    assert scores is None or scores.shape == (300,)


@fuzzed
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.floats()
        | st.integers(-(2**40), 2**40)
        | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=5,
    ),
    st.sampled_from(
        ["format", "versions", "n_features_in", "channels", "threshold", "params"]
        + [f"params.{name}" for name in MADCluster().get_params()]
    ),
)
def test_values_in_a_header(checkpoint, series, tmp_path, value, name):
    size = int.from_bytes(checkpoint[:8], "little")
    header = json.loads(checkpoint[8 : 8 + size])
    inner = json.loads(header["__metadata__"]["madcluster.detector"])
    where = inner
    *outer, last = name.split(".")
    for key in outer:
        where = where[key]
    where[last] = value
    header["__metadata__"]["madcluster.detector"] = json.dumps(inner)
    text = json.dumps(header).encode()
    path = tmp_path / "detector"
    path.write_bytes(len(text).to_bytes(8, "little") + text + checkpoint[8 + size :])
    read = tried(lambda: MADCluster.load(path), CheckpointError)
    if read is not None:
        predicted = tried(lambda: read.predict(series.test), ValueError)
        assert predicted is None or set(predicted) <= {0, 1}


IMAGES = np.random.default_rng(0).random((3, 1, 16, 16), np.float32)


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "images"
    ImageMADCluster("pyramidflow", k=2, epochs=1, device="cpu").fit(IMAGES).save(path)
    return path.read_bytes()


@fuzzed
@given(changes, st.sampled_from([None, 2500]))
def test_image_checkpoints(image_file, tmp_path, steps, within):
    path = tmp_path / "images"
    path.write_bytes(changed(image_file, steps, within=within))
    read = tried(lambda: ImageMADCluster.load(path, device="cpu"), CheckpointError)
    if read is not None:  # sides that were changed are refused here
        found = tried(lambda: read.maps(IMAGES), ValueError)
        assert found is None or found.shape == (3, 16, 16)


@fuzzed
@given(changes)
def test_streams(stream_file, detector, series, tmp_path, steps):
    path = tmp_path / "stream"
    path.write_bytes(changed(stream_file, steps))
    stream = tried(lambda: Stream.load(path, detector), CheckpointError)
    assert stream is None or stream.update(series.test[:20]).shape == (20,)


def npy(rows):
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


ARRAY = npy(np.zeros((40, 55)))
LABELS = 'chan_id,spacecraft,anomaly_sequences,class,num_values\nC-1,MSL,"[[3, 9]]",[point],40\n'


@pytest.fixture(scope="module")
def official():
    """The label table and the arrays of this file are the official ones."""
    contents = {"labeled_anomalies.csv": LABELS.encode()}
    contents |= {f"{split}/C-1.npy": ARRAY for split in ("train", "test")}
    files = {
        f"MSL_SMAP/{name}": (len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        for module in (benchmarks, sys.modules[_nasa_arrays.__module__]):
            patch.setattr(module, "official_files", lambda: files)
        yield


@fuzzed
@given(changes, st.sampled_from([None, 128]))
@example([("digit", 60, ord("9"))] * 6, 128)  # a header that asks for more memory than there is
def test_arrays(official, tmp_path, steps, within):
    for split in ("train", "test"):
        (tmp_path / "MSL" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "MSL" / split / "C-1.npy").write_bytes(ARRAY)
    (tmp_path / "MSL" / "labeled_anomalies.csv").write_text(LABELS)
    (tmp_path / "MSL" / "train" / "C-1.npy").write_bytes(changed(ARRAY, steps, within=within))
    read = tried(lambda: load("MSL", "C-1", tmp_path), ValueError)
    if read is None:
        return
    assert read.train.shape[1] == 55
    assert np.isfinite(read.train).all()


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("data/data/train/C-1.npy", ARRAY)
        target.writestr("data/data/test/C-1.npy", ARRAY)
    return file.getvalue()


ARCHIVE = archive()


@fuzzed
@given(changes)
def test_archives(official, tmp_path, steps):
    """The official arrays are unpacked, or nothing is."""
    path = tmp_path / "data.zip"
    path.write_bytes(changed(ARCHIVE, steps))
    folder = tmp_path / "root"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "labeled_anomalies.csv").write_text(LABELS)
    done = tried(lambda: _nasa_arrays("MSL", folder, path) or True, ArchiveError)
    found = [file.read_bytes() for file in folder.rglob("*.npy*")]
    assert found == ([ARRAY, ARRAY] if done else [])
