"""The chapter on pictures takes the official layout of MVTec AD in place of its textures."""

from pathlib import Path

import numpy as np
from PIL import Image

from madcluster.images import textures
from madcluster.notebooks import run_notebook

CHAPTER = Path(__file__).parents[1] / "book" / "16_pictures.ipynb"


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * image).round().astype(np.uint8)).save(path)


def test_it_runs_on_a_folder_of_mvtec(tmp_path):
    made = textures("gravel", n_train=6, n_good=3, per_kind=2, kinds=["scratch", "spot"], size=72)
    root = tmp_path / "mvtec"
    for i, image in enumerate(made.train):
        save(root / f"tile/train/good/{i:03}.png", image[0])
    for i, (image, kind, mask) in enumerate(zip(made.test, made.kinds, made.masks, strict=True)):
        save(root / f"tile/test/{kind}/{i:03}.png", image[0])
        if kind != "good":
            save(root / f"tile/ground_truth/{kind}/{i:03}_mask.png", mask)
    output = tmp_path / "out.ipynb"
    parameters = {"DATA": str(root), "CLASS": "tile", "FAST": True}
    run_notebook(CHAPTER, output, parameters, cwd=CHAPTER.parent)
    text = output.read_text()
    assert "mvtec/tile train (6, 3, 64, 64) test (7, 3, 64, 64)" in text
