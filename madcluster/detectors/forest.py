"""Isolation forest of rows."""

from __future__ import annotations

import numpy as np

from madcluster.aggregation import Aggregate, Smooth
from madcluster.arguments import check_seed, check_whole
from madcluster.data.series import ScalerKind
from madcluster.detectors.base import Detector

__all__ = ["IsolationForest"]

EULER = 0.5772156649015329


class IsolationForest(Detector):
    """How few random cuts set a row apart (Liu et al., ICDM 2008).

    scikit-learn grows the trees; they are kept as arrays, so that a file of them holds no code. The
    score is 2 to the power of −(mean depth) / (expected depth), as in the paper's equation 2.

    Parameters
    ----------
    n_trees : int
    sample : int
        Rows that a tree is grown on.
    seed : int
    scaler, aggregate, smooth, contamination
        See `Detector`.
    """

    _arrays = ("left_", "right_", "channel_", "cut_", "depth_")

    def __init__(
        self,
        *,
        n_trees: int = 100,
        sample: int = 256,
        seed: int = 0,
        scaler: ScalerKind = "standard",
        aggregate: Aggregate = "mean",
        smooth: Smooth = "off",
        contamination: float = 0.01,
    ) -> None:
        self.n_trees, self.sample, self.seed = n_trees, sample, seed
        self.scaler, self.aggregate, self.smooth = scaler, aggregate, smooth
        self.contamination = contamination

    def check(self) -> None:
        super().check()
        check_whole("n_trees", self.n_trees)
        check_whole("sample", self.sample, 2)
        check_seed(self.seed)

    def _fit(self, z: np.ndarray) -> None:
        rows = min(self.sample, len(z))
        from sklearn.ensemble import IsolationForest as SklearnForest  # takes a while

        forest = SklearnForest(n_estimators=self.n_trees, max_samples=rows, random_state=self.seed)
        trees = [tree.tree_ for tree in forest.fit(z).estimators_]
        size = max(tree.node_count for tree in trees)
        shape = len(trees), size
        itself = np.broadcast_to(np.arange(size, dtype=np.int32), shape)
        self.left_, self.right_ = itself.copy(), itself.copy()
        self.channel_, self.cut_ = np.zeros(shape, np.int32), np.zeros(shape)
        self.depth_ = np.zeros(shape)  # of a leaf, with what its rows would still need
        for i, tree in enumerate(trees):
            leaf = tree.children_left < 0
            own = np.arange(tree.node_count)
            # a leaf leads to itself, so that all rows can go down together
            self.left_[i, : len(own)] = np.where(leaf, own, tree.children_left)
            self.right_[i, : len(own)] = np.where(leaf, own, tree.children_right)
            self.channel_[i, : len(own)] = np.where(leaf, 0, tree.feature)
            self.cut_[i, : len(own)] = tree.threshold
            level = np.zeros(len(own))
            for node in own[~leaf]:  # parents come before their children
                for child in (tree.children_left[node], tree.children_right[node]):
                    level[child] = level[node] + 1
            self.depth_[i, : len(own)] = level + _expected(tree.n_node_samples)
        self.expected_ = float(_expected(np.array([rows]))[0])

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "expected": np.array([self.expected_])}

    def _restore(self, state: dict[str, np.ndarray]) -> None:  # type: ignore[override]
        super()._restore(state)
        (self.expected_,) = state["expected"].tolist()
        self._check_trees()

    def _check_trees(self) -> None:
        """A row that goes down a tree must come to an end of it."""
        whole, numbers = (self.left_, self.right_, self.channel_), (self.cut_, self.depth_)
        if self.left_.ndim != 2 or len({array.shape for array in (*whole, *numbers)}) > 1:
            raise ValueError("its trees have different sizes")
        if not all(array.dtype.kind == "i" for array in whole):
            raise ValueError("its nodes are no whole numbers")
        n, size = self.left_.shape
        own = np.arange(size)
        leaf = (self.left_ == own) & (self.right_ == own)
        first, last = np.minimum(self.left_, self.right_), np.maximum(self.left_, self.right_)
        if not n or not (leaf | ((first > own) & (last < size))).all():
            raise ValueError("a node of its trees does not come before its children")
        if self.channel_.min() < 0 or self.channel_.max() >= self.n_features_in_:
            raise ValueError(f"its trees cut other channels than {self.n_features_in_}")

    def window_scores(self, z: np.ndarray, starts: np.ndarray) -> np.ndarray:
        rows = z[starts]
        depth = np.zeros(len(rows))
        each = np.arange(len(rows))
        for left, right, channel, cut, depths in zip(
            self.left_, self.right_, self.channel_, self.cut_, self.depth_, strict=True
        ):
            node = np.zeros(len(rows), np.int64)
            while True:
                below = np.where(rows[each, channel[node]] <= cut[node], left[node], right[node])
                if (below == node).all():
                    break
                node = below
            depth += depths[node]
        return (2.0 ** (-depth / len(self.left_) / max(self.expected_, 1e-12)))[:, None]


def _expected(n: np.ndarray) -> np.ndarray:
    """Mean depth of an unsuccessful search in a binary tree of n rows, c(n) of the paper."""
    n = np.asarray(n, dtype=np.float64)
    many = 2 * (np.log(np.maximum(n - 1, 1)) + EULER) - 2 * (n - 1) / np.maximum(n, 1)
    return np.where(n > 2, many, np.where(n == 2, 1.0, 0.0))
