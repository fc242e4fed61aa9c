"""Image sets: what they refuse, what readers make of the official layouts, and planted defects."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from madcluster import images
from madcluster.data import MissingDataError, fetch
from madcluster.images import KINDS, TEXTURES, ImageFileError, ImageSet, planted, textures

RNG = np.random.default_rng(0)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def color(h=40, w=40, rng=RNG):
    return rng.integers(0, 256, (h, w, 3), dtype=np.uint8)


def mask(h=40, w=40, value=255):
    marked = np.zeros((h, w), dtype=np.uint8)
    marked[5:9, 10:20] = value
    return marked


@pytest.fixture
def tree(tmp_path):
    """One class in the layout of MVTec AD."""
    for i in range(3):
        save(tmp_path / f"bottle/train/good/{i:03}.png", color())
    save(tmp_path / "bottle/test/good/000.png", color())
    for kind in ("broken", "scratch"):
        save(tmp_path / f"bottle/test/{kind}/000.png", color())
        save(tmp_path / f"bottle/ground_truth/{kind}/000_mask.png", mask())
    (tmp_path / "readme.txt").write_text("no class")
    return tmp_path


def good_set(**changes):
    fields = {
        "name": "made",
        "train": np.zeros((2, 3, 8, 8), np.float32),
        "test": np.ones((2, 3, 8, 8), np.float32),
        "labels": np.array([False, True]),
        "kinds": ("good", "spot"),
        "masks": np.arange(2)[:, None, None] * np.ones((2, 8, 8)) > 0,
    }
    return ImageSet(**{**fields, **changes})


def test_a_set_is_checked_and_found_by_kind():
    found = good_set(train=np.full((2, 3, 8, 8), 255, np.uint8))
    assert found.train.dtype == np.float32
    assert found.train.max() == 1
    assert found.of_kind("spot").kinds == ("good", "spot")
    with pytest.raises(
        ValueError, match=r"made has defects of the kinds \['spot'\], got \['hole'\]"
    ):
        found.of_kind("hole")
    with pytest.raises(ValueError, match=r"got \[\['spot'\]\]"):
        found.of_kind(["spot"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": np.zeros((2, 8, 8), np.float32)}, r"made: train must be images \(n c h w\)"),
        ({"train": np.zeros((0, 3, 8, 8), np.float32)}, "not empty"),
        ({"train": np.zeros((2, 3, 8, 8), int)}, "made: train must be floating point or uint8"),
        ({"test": np.full((2, 3, 8, 8), 1.5)}, "made: test must lie between 0 and 1, image 0"),
        ({"test": np.full((2, 3, 8, 8), np.nan)}, "made: test must lie between 0 and 1, image 0"),
        ({"train": np.zeros((2, 1, 8, 8), np.float32)}, r"images of train are \(1, 8, 8\)"),
        ({"labels": np.array([0, 1])}, "made: labels must be"),
        ({"masks": np.zeros((2, 8, 9), bool)}, "made: masks must be"),
        ({"kinds": ("good",)}, "kinds must be 2 names, got 1"),
        (
            {"kinds": ("good", "good")},
            "test image 1 has the label 1, the kind 'good' and 64 pixels",
        ),
        ({"masks": np.zeros((2, 8, 8), bool)}, "test image 1 .* contradict"),
        ({"name": "a\nb"}, "name must be one line"),
        ({"kinds": ("good", 1)}, "made: a kind must be one line of text, got 1"),
        ({"test": np.ma.masked_less(np.zeros((2, 3, 8, 8)), 1)}, "made: test must not be masked"),
        ({"test": [np.zeros((3, 8, 8)), np.zeros((3, 4, 4))]}, "test must be images of one shape"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        good_set(**changes)


def test_a_set_is_equal_to_itself_alone():
    found = good_set(kinds=np.array(["good", "spot"]))
    assert found != good_set()
    assert found in {found}
    assert [type(kind) for kind in found.kinds] == [str, str]


def test_what_is_no_image_is_passed_by(tree):
    """A hidden folder of an editor, and a folder with the name of an image."""
    (tree / "bottle" / "test" / ".ipynb_checkpoints").mkdir()
    (tree / "bottle" / "train" / "good" / "old.png").mkdir()
    before = len(images.images_in(tree / "bottle" / "train" / "good"))
    assert len(images.read_mvtec(tree, "bottle", size=8).train) == before
    lost = tree / "bottle" / "train" / "good" / "lost.png"
    lost.symlink_to("nowhere.png")  # an image that should be there
    with pytest.raises(FileNotFoundError, match="lost"):
        images.read_images(lost.parent)
    lost.unlink()
    with pytest.raises(ValueError, match="class_name must be one line of text, got None"):
        images.read_mvtec(tree, None)
    with pytest.raises(ValueError, match="size must be at most 16384"):
        images.read_mvtec(tree, "bottle", size=10**9)


def test_the_layout_of_mvtec(tree):
    found = images.read_mvtec(tree, "bottle", size=20)
    assert found.name == "mvtec/bottle"
    assert found.train.shape == (3, 3, 20, 20)
    assert found.kinds == ("broken", "good", "scratch")
    assert found.labels.tolist() == [True, False, True]
    expected = np.zeros((20, 20), bool)
    expected[2:5, 5:10] = True  # rows 5 to 8 touch 2 to 4 of the smaller mask
    np.testing.assert_array_equal(found.masks[0], expected)
    as_it_is = images.read_mvtec(tree, "bottle", size=None)
    first = np.asarray(Image.open(tree / "bottle/train/good/000.png"), dtype=np.float32) / 255
    np.testing.assert_array_equal(as_it_is.train[0], first.transpose(2, 0, 1))
    np.testing.assert_array_equal(as_it_is.masks[0], mask() > 0)


def test_no_defect_vanishes_when_its_mask_becomes_smaller(tree):
    point = np.zeros((40, 40), np.uint8)
    point[17, 33] = 1
    save(tree / "bottle/ground_truth/scratch/000_mask.png", point)
    assert images.read_mvtec(tree, "bottle", size=5).masks[2].sum() == 1


@pytest.mark.parametrize(
    ("made", "channels_differ"),
    [
        (color()[..., 0], False),
        (RNG.integers(0, 2**16, (40, 40)).astype(np.uint16), False),
        (np.dstack([color(), np.full((40, 40), 9, np.uint8)]), True),
        (color()[..., 0] > 99, False),
    ],
    ids=["gray", "16 bit", "transparent", "black and white"],
)
def test_other_kinds_of_pixels_become_three_channels(tree, made, channels_differ):
    path = save(tree / "bottle/train/good/000.png", made)
    image = images.read_image(path, None)
    assert image.shape == (3, 40, 40)
    assert (image[0] != image[1]).any() == channels_differ
    white = {"uint8": 255, "uint16": 65535, "bool": 1}[str(made.dtype)]
    plane = made[..., 0] if made.ndim == 3 else made
    np.testing.assert_allclose(image[0], plane / white, atol=1e-6)
    assert images.read_mvtec(tree, "bottle", size=16).train.shape == (3, 3, 16, 16)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    made = color(10, 20)
    how = Image.Exif()
    how[0x0112] = 6  # a quarter to the right
    path = save(tmp_path / "a.png", made, exif=how)
    turned = np.rot90(made, -1).astype(np.float32) / 255
    np.testing.assert_allclose(images.read_image(path, None), turned.transpose(2, 0, 1))


def break_off(tree):
    path = tree / "bottle/train/good/001.png"
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def no_image(tree):
    path = tree / "bottle/test/good/000.png"
    path.write_bytes(b"none")
    return path


def wide_integers(tree):
    return save(tree / "bottle/test/good/000.tif", np.zeros((40, 40), np.int32))


def other_mask(tree):
    return save(tree / "bottle/ground_truth/scratch/000_mask.png", mask(40, 50))


def empty_mask(tree):
    return save(tree / "bottle/ground_truth/broken/000_mask.png", mask(value=0))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_off, "is damaged or no image"),
        (no_image, "is damaged or no image"),
        (wide_integers, "pixels of 32 bits"),
        (other_mask, "has 40 x 50 pixels, its image .* has 40 x 40"),
        (empty_mask, "marks no pixel"),
    ],
)
def test_an_odd_file_is_named(tree, spoil, words):
    path = spoil(tree)
    with pytest.raises(ImageFileError, match=words) as caught:
        images.read_mvtec(tree, "bottle")
    assert str(path) in str(caught.value)


def test_a_missing_mask_is_named_with_its_class(tree):
    gone = tree / "bottle/ground_truth/scratch/000_mask.png"
    gone.unlink()
    with pytest.raises(MissingDataError, match="class 'bottle' of MVTec AD has no mask") as caught:
        images.read_mvtec(tree, "bottle")
    assert str(gone) in str(caught.value)


def test_what_is_not_there_is_said(tree, tmp_path):
    with pytest.raises(MissingDataError, match="no class 'botle' of MVTec AD; did you mean bottle"):
        images.read_mvtec(tree, "botle")
    with pytest.raises(MissingDataError, match=r"no class 'x' of MVTec AD; it has bottle"):
        images.read_mvtec(tree, "x")
    with pytest.raises(MissingDataError, match=r"holds no class of MVTec AD\. Download"):
        images.read_mvtec(tree / "bottle/test/good", "bottle")
    (tree / "empty").mkdir()
    with pytest.raises(MissingDataError, match="there is no image"):
        images.read_images(tree / "empty")
    with pytest.raises(MissingDataError, match="there is no folder"):
        images.read_images(tree / "nowhere")
    (tree / "cable/train/good").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="class 'cable' of MVTec AD has no folder"):
        images.read_mvtec(tree, "cable")


@pytest.mark.parametrize("name", ["MVTec AD", "VisA"])
def test_fetch_says_where_sets_of_images_are(name):
    with pytest.raises(MissingDataError, match=f"{name} is not fetched. Download .* from https://"):
        fetch(name)


def test_images_of_other_sizes_need_one(tmp_path):
    for i, side in enumerate((20, 30)):
        save(tmp_path / f"{i}.png", color(side, side))
    assert images.read_images(tmp_path, 16).shape == (2, 3, 16, 16)
    with pytest.raises(ImageFileError, match=r"1\.png has 30 x 30 pixels, the first image 20 x 20"):
        images.read_images(tmp_path, None)
    with pytest.raises(ValueError, match="size must be a positive integer"):
        images.read_images(tmp_path, 0)


@pytest.fixture
def visa(tmp_path):
    rows = []
    for i in range(4):
        save(tmp_path / f"candle/Data/Images/Normal/{i}.JPG", color())
        split = "train" if i < 3 else "test"
        rows.append(["candle", split, "normal", f"candle/Data/Images/Normal/{i}.JPG", ""])
    save(tmp_path / "candle/Data/Images/Anomaly/0.JPG", color())
    save(tmp_path / "candle/Data/Masks/Anomaly/0.png", mask(value=3))
    parts = "candle/Data/Images/Anomaly/0.JPG", "candle/Data/Masks/Anomaly/0.png"
    rows.append(["candle", "test", "anomaly", *parts])
    write_split(tmp_path, rows)
    return tmp_path, rows


def write_split(root, rows, header=("object", "split", "label", "image", "mask")):
    (root / "split_csv").mkdir(exist_ok=True)
    with (root / "split_csv/1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_the_layout_of_visa(visa):
    root, _ = visa
    found = images.read_visa(root, "candle", size=None)
    assert found.train.shape == (3, 3, 40, 40)
    assert found.kinds == ("good", "anomaly")
    np.testing.assert_array_equal(found.masks[1], mask() > 0)  # a mask holds numbers of kinds


def test_what_is_wrong_with_visa_is_said(visa):
    root, rows = visa
    with pytest.raises(MissingDataError, match="no class 'pcb1' of VisA; it has candle"):
        images.read_visa(root, "pcb1")
    write_split(root, [[*rows[0][:3], "candle/gone.JPG", ""], *rows[1:]])
    with pytest.raises(
        MissingDataError, match=r"class 'candle' of VisA has no file .*gone.JPG.*line 2"
    ):
        images.read_visa(root, "candle")
    write_split(root, [[*rows[0][:2], "fine", *rows[0][3:]], *rows[1:]])
    with pytest.raises(ImageFileError, match=r"line 2: split must be train or test .* 'fine'"):
        images.read_visa(root, "candle")
    write_split(root, [*rows, ["candle", "train", *rows[-1][2:]]])
    with pytest.raises(ImageFileError, match=r"line 7: .*0\.JPG is an anomaly"):
        images.read_visa(root, "candle")
    write_split(root, rows[:3])
    with pytest.raises(MissingDataError, match="no test image"):
        images.read_visa(root, "candle")
    write_split(root, rows, ("object", "split", "label", "picture", "mask"))
    with pytest.raises(ImageFileError, match="no column image"):
        images.read_visa(root, "candle")
    with pytest.raises(MissingDataError, match="Download VisA"):
        images.read_visa(root / "candle", "candle")


@settings(max_examples=60)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 2**32 - 1),
    st.integers(16, 60),
    st.integers(16, 60),
    st.floats(0, 0.99),
)
def test_a_defect_is_where_its_mask_says(kind, seed, h, w, difficulty):
    rng = np.random.default_rng(seed)
    image = rng.random((2, h, w), dtype=np.float32)
    new, where = planted(image, kind, rng, difficulty=difficulty)
    assert new.shape == (2, h, w)
    assert 0 <= new.min() <= new.max() <= 1
    assert where.any()
    assert not where.all()
    np.testing.assert_array_equal(new[:, ~where], image[:, ~where])
    changed = (new != image).any(0)
    # upside down, the middle of an odd height shows itself, and any piece may by chance
    assert changed.sum() >= 0.5 * where.sum()
    # difficulty sets how much is seen, and neither size nor shape
    rng = np.random.default_rng(seed)
    assert np.array_equal(image, rng.random((2, h, w), dtype=np.float32))
    plain, same = planted(image, kind, rng, difficulty=0)
    np.testing.assert_array_equal(where, same)
    np.testing.assert_allclose(new - image, (1 - difficulty) * (plain - image), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "hole"}, "kind must be one of"),
        ({"difficulty": 1}, r"difficulty must lie in \[0, 1\)"),
        ({"rng": 0}, "rng must be a generator"),
        ({"image": np.zeros((1, 15, 40), np.float32)}, "sides of at least 16 pixels, got 15 x 40"),
        ({"image": np.zeros((40, 40), np.float32)}, "image must be images"),
        (
            {"kind": "texture exchange", "other": np.zeros((3, 40, 40), np.float32)},
            "other must be",
        ),
    ],
)
def test_what_cannot_be_planted_is_refused(arguments, words):
    arguments = {
        "image": np.zeros((1, 40, 40), np.float32),
        "kind": "spot",
        "rng": np.random.default_rng(0),
        **arguments,
    }
    with pytest.raises(ValueError, match=words):
        planted(**arguments)


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_is_a_set(name):
    found = textures(name, n_train=3, n_good=2, per_kind=2, size=48, seed=5)
    assert found.train.shape == (3, 1, 48, 48)
    assert found.kinds == ("good",) * 2 + tuple(kind for kind in KINDS for _ in range(2))
    again = textures(name, n_train=3, n_good=2, per_kind=2, size=48, seed=5)
    np.testing.assert_array_equal(found.test, again.test)
    other = textures(name, n_train=3, n_good=2, per_kind=2, size=48, seed=6)
    assert (found.test != other.test).any()
    assert not images.texture(name).flags.writeable


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_is_the_photograph_of_scikit_image(name):
    from skimage import data

    np.testing.assert_array_equal(images.texture(name), getattr(data, name)() / np.float32(255))


def test_no_test_image_of_a_texture_shows_what_was_learned():
    found = textures("gravel", n_train=40, n_good=40, per_kind=1, size=32, light=0)
    surface = images.texture("gravel")
    for split, left, right in ((found.train, 0, 320), (found.test[:40], 320, 512)):
        views = np.lib.stride_tricks.sliding_window_view(surface[:, left:right], (4, 4))
        there = {row.tobytes() for row in views.reshape(-1, 16)}
        for at in (np.s_[:, 0, :4, :4], np.s_[:, 0, -4:, -4:]):
            assert all(row.tobytes() in there for row in split[at].reshape(len(split), -1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "wood"}, "name must be one of"),
        ({"size": 193}, "size must be at most 192"),
        ({"name": ["brick"]}, "name must be one of"),
        ({"kinds": "spot"}, "kinds must be a list"),
        ({"kinds": {"spot", "scratch"}}, "kinds must be a list"),
        ({"kinds": ["hole"]}, "kinds must be one of"),
        ({"light": 1.0}, "light must lie in"),
        ({"n_train": 0}, "n_train must be a positive integer"),
    ],
)
def test_what_a_texture_cannot_be_is_refused(arguments, words):
    if "name" in arguments:
        with pytest.raises(ValueError, match=words):
            images.texture(arguments["name"])
    with pytest.raises(ValueError, match=words):
        textures(**arguments)
