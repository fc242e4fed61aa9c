"""Own images: two folders, scores, a threshold without labels, and maps as pictures."""

import re

import numpy as np
import pytest
from PIL import Image

from madcluster.images import images_in, read_images, textures, write_maps


def test_shades_say_where_the_threshold_is(tmp_path):
    maps = np.array([[[0.0, 1.0], [2.0, 3.0]], [[4.0, 9.0], [2.1, 1.9]]])
    written = write_maps(maps, ["in/a.jpg", "in/b.png"], tmp_path / "out", threshold=2)
    assert [path.name for path in written] == ["a_map.png", "b_map.png"]
    first, second = (np.asarray(Image.open(path)) for path in written)
    assert first.dtype == np.uint8
    assert first.tolist() == [[0, 64], [128, 191]]
    assert second[0].tolist() == [255, 255]
    assert second[1, 0] > 127 > second[1, 1]


def test_a_threshold_below_all_scores_leaves_them_apart(tmp_path):
    (path,) = write_maps(np.array([[[5.0, 5.5]]]), ["a.png"], tmp_path, threshold=1)
    assert np.asarray(Image.open(path)).tolist() == [[0, 64]]


@pytest.mark.parametrize(
    ("maps", "paths", "threshold", "words"),
    [
        (np.zeros((2, 2)), ["a"], 1, r"maps must be \(n h w\)"),
        (np.full((1, 2, 2), np.nan), ["a"], 1, "maps must be finite"),
        (np.full((1, 2, 2), 1j), ["a"], 1, "maps must be numbers"),
        (np.zeros((1, 2, 2)), "a", 1, "paths must be a list of images, got 'a'"),
        (np.zeros((1, 2, 2)), [""], 1, "paths must name images, got ''"),
        (np.full((1, 2, 2), "a"), ["a"], 1, "maps must be numbers"),
        (np.zeros((1, 2, 2)), ["a", "b"], 1, "paths must name 1 images, got 2"),
        (np.zeros((2, 2, 2)), ["x/a.png", "y/a.jpg"], 1, "two images for a_map.png"),
        (np.zeros((1, 2, 2)), ["a"], np.nan, "threshold must"),
    ],
)
def test_what_cannot_be_shown_is_refused(maps, paths, threshold, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        write_maps(maps, paths, tmp_path, threshold=threshold)
    assert not list(tmp_path.iterdir())


def test_the_five_lines_find_a_spot(tmp_path, monkeypatch, capsys):
    found = textures(
        "brick", n_train=10, n_good=1, per_kind=1, kinds=["spot"], size=64, difficulty=0
    )
    for folder, images in (("good", found.train), ("new", found.test)):
        (tmp_path / folder).mkdir()
        for i, image in enumerate((images[:, 0] * 255).astype(np.uint8)):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    lines = re.search(r"::\n\n((?: {8}.+\n)+)", write_maps.__doc__)[1].splitlines()
    assert len(lines) == 5
    exec("\n".join(line.strip() for line in lines), {})
    assert "1.png" in capsys.readouterr().out
    maps = [np.asarray(Image.open(path)) for path in images_in("maps")]
    assert len(maps) == 2
    assert maps[0].shape == read_images("new").shape[2:]
    assert maps[1].max() > 127
