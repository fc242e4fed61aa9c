"""Download and verify the official files; nothing that fails its SHA-256 is ever kept."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from pathlib import Path, PurePosixPath

from madcluster.data.benchmarks import (
    LABELS,
    NASA,
    MissingDataError,
    data_root,
    nasa_labels,
    official_files,
)
from madcluster.files import whole_file
from madcluster.progress import progress

__all__ = ["ArchiveError", "fetch"]

ADDRESSES = {
    "SMD": "https://raw.githubusercontent.com/NetManAIOps/OmniAnomaly/master/ServerMachineDataset/",
    "PSM": "https://raw.githubusercontent.com/eBay/RANSynCoders/main/data/",
    "NASA": "https://raw.githubusercontent.com/khundman/telemanom/master/",
}
KAGGLE = "patrickfleith/nasa-anomaly-detection-dataset-smap-msl"
# sets of images that are read by `madcluster.images` and are downloaded by hand
BY_HAND = {
    "MVTec AD": (
        "Download mvtec_anomaly_detection.tar.xz from https://www.mvtec.com/company/research/datasets/"
        "mvtec-ad (CC BY-NC-SA 4.0: no commercial use), unpack it, and give that folder to "
        "madcluster.images.read_mvtec(folder, 'bottle')"
    ),
    "VisA": (
        "Download VisA_20220922.tar from https://github.com/amazon-science/spot-diff (CC BY 4.0), "
        "unpack it, and give that folder to madcluster.images.read_visa(folder, 'candle')"
    ),
}


class ArchiveError(ValueError):
    """An archive is damaged, unsafe, or not the one that was expected."""


def fetch(
    dataset: str,
    root: str | os.PathLike[str] | None = None,
    *,
    archive: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
) -> Path:
    """Bring the official files of a data set to `root` and verify every one.

    Files that are there and verified are not fetched again, so a call that was interrupted goes on
    where it stopped, file by file. A file appears under its name only when it is whole.

    Parameters
    ----------
    dataset : "SMD", "PSM", "MSL" or "SMAP"
        "MVTec AD" and "VisA", which are sets of images, are downloaded by hand: the error says where.
    root : folder of the data sets; see `data_root`
    archive : the zip file of the Kaggle data set
        `patrickfleith/nasa-anomaly-detection-dataset-smap-msl`, for MSL and SMAP: their arrays can be
        had with a Kaggle account only.
    base_url : another address than the official one, such as a mirror

    Returns
    -------
    The folder of the data set.

    Raises
    ------
    ValueError
        If the data set is unknown, or a downloaded file is not the official one.
    MissingDataError
        If MSL or SMAP lack arrays and no archive is given, and for "MVTec AD" and "VisA".
    ArchiveError
        If the archive is damaged, names paths outside itself, or holds other arrays.
    requests.exceptions.RequestException
        If the address does not answer.
    """
    if dataset in BY_HAND:
        raise MissingDataError(f"{dataset} is not fetched. {BY_HAND[dataset]}")
    known = ("MSL", "SMAP", "SMD", "PSM")
    if dataset not in known:
        raise ValueError(f"dataset must be one of {known}, got {dataset!r}")
    folder = data_root(root) / dataset
    hashes = {name: sha for name, (_, sha) in official_files().items()}
    if dataset in NASA:
        _download(base_url or ADDRESSES["NASA"], LABELS, folder, hashes[f"MSL_SMAP/{LABELS}"])
        _nasa_arrays(dataset, folder, archive)
        return folder
    if archive is not None:
        raise ValueError(f"archive is for MSL and SMAP; {dataset} is downloaded file by file")
    names = [name.partition("/")[2] for name in hashes if name.startswith(f"{dataset}/")]
    for name in progress(names, f"fetching {dataset}", unit="file"):
        _download(base_url or ADDRESSES[dataset], name, folder, hashes[f"{dataset}/{name}"])
    return folder


def _download(address: str, name: str, folder: Path, sha256: str) -> None:
    import pooch  # late: in a notebook it warns of a missing progress widget

    target = folder / name
    pooch.get_logger().setLevel("WARNING")
    pooch.retrieve(
        f"{address.rstrip('/')}/{name}",
        known_hash=f"sha256:{sha256}",
        fname=target.name,
        path=target.parent,
        progressbar=False,
    )


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _nasa_arrays(dataset: str, folder: Path, archive: str | os.PathLike[str] | None) -> None:
    """Take the arrays of one spacecraft out of the archive, which mixes both."""
    official = official_files()
    crafts = {name: craft for name, (craft, *_) in nasa_labels(folder / LABELS).items()}
    wanted = {}
    for name in official:
        split, _, file = name.removeprefix("MSL_SMAP/").partition("/")
        if file and crafts.get(Path(file).stem) == dataset:
            wanted[f"{split}/{file}"] = official[name]
    missing = {name: v for name, v in wanted.items() if _sha256(folder / name) != v[1]}
    if not missing:
        return
    if archive is None:
        raise MissingDataError(
            f"{dataset}: {len(missing)} of {len(wanted)} arrays are missing. Download the Kaggle data "
            f"set {KAGGLE} and call fetch('{dataset}', archive='<the zip file>')"
        )
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = _safe_members(bundle)
            absent = sorted(set(missing) - set(members))
            if absent:
                raise ArchiveError(f"{archive} lacks {len(absent)} arrays, such as {absent[0]}")
            # everything is verified before anything is written
            for name, (size, sha256) in missing.items():
                found = members[name].file_size
                if found != size:
                    raise ArchiveError(f"{archive}: {name} has {found} bytes, not {size}")
                if hashlib.sha256(bundle.read(members[name])).hexdigest() != sha256:
                    raise ArchiveError(f"{archive}: {name} is not the official array")
            for name in progress(missing, f"unpacking {dataset}", unit="file"):
                _write(folder / name, bundle.read(members[name]))
    except FileNotFoundError as error:
        raise MissingDataError(f"no archive at {archive}") from error
    except IsADirectoryError as error:
        raise ArchiveError(f"{archive} is a folder; give the zip file as downloaded") from error
    except (ArchiveError, PermissionError):
        raise
    # zipfile has many: RuntimeError for a password, NotImplementedError for an unknown method, OSError
    # for a place outside of the file, EOFError, zlib.error, struct.error, UnicodeDecodeError
    except Exception as error:
        raise ArchiveError(f"{archive} is not a whole zip file: {error}") from error


def _safe_members(file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Members by "split/channel.npy"; refuses an archive with a path or link that leads outside."""
    members = {}
    for info in file.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in info.filename:
            raise ArchiveError(f"{file.filename} holds an unsafe path: {info.filename!r}")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ArchiveError(f"{file.filename} holds a link: {info.filename!r}")
        members["/".join(path.parts[-2:])] = info
    return members


def _write(target: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as part:
        part.write_bytes(content)
