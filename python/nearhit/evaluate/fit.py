"""Fitting of the pair verifier: boosted trees, a small network, and their calibration.

Needs scikit-learn and LightGBM (extra "train"); what is fitted runs in the core without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nearhit import _core
from nearhit._errors import MissingDependencyError
from nearhit.evaluate.verifier_file import Calibration, Network, Tree, VerifierFile, Words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit.evaluate.data import Pair
    from nearhit.evaluate.vectors import VectorTable

__all__ = ["Fitted", "Options", "Rows", "fit", "rarity_of", "rows_of"]

BUCKETS = 16_384
DIFFERENCE, PRODUCT = 8.0, 20.0
"""Factors that bring |a - b| and a * b of 384-wide unit vectors to the size of the other inputs."""
RISING = frozenset({"similarity", "weighted_jaccard"})
"""More of these never makes the trees less sure: what holds in other domains, too."""
LIMIT = 4.0
"""Standardised features are cut off here, as in the core."""
CONVERGED = 1e-9


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes and strengths, chosen by trials on parts of QQP and the stream.

    Attributes:
        trees: Boosted trees.
        leaves: Leaves of each.
        learning_rate: Of boosting.
        hidden: Units of the network.
        decay: L2 penalty of the network.
        epochs: Passes over the rows in training the network.
        word_strength: Inverse L2 penalty of the learned word weights.
        seed: Of everything random.
    """

    trees: int = 300
    leaves: int = 24
    learning_rate: float = 0.06
    hidden: int = 64
    decay: float = 3e-2
    epochs: int = 7
    word_strength: float = 0.15
    seed: int = 0


@dataclass(slots=True)
class Rows:
    """Pairs as numbers.

    Attributes:
        features: float32 of shape [n, features]; the two learned word columns are zero.
        only: Sparse counts of words that one text alone has, shape [n, buckets].
        both: Sparse counts of words that both have.
        a: Vectors of the first texts, float32 of shape [n, dim].
        b: Vectors of the second.
        labels: 0 or 1.
        weights: How much each row counts.
    """

    features: NDArray[np.float32]
    only: Any
    both: Any
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> Rows:
        """Some of the rows."""
        return Rows(
            self.features[rows],
            self.only[rows],
            self.both[rows],
            self.a[rows],
            self.b[rows],
            self.labels[rows],
            self.weights[rows],
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """Models before calibration."""

    words: Words
    trees: list[Tree]
    network: Network

    def outputs(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log odds by the trees and by the network, as the core computes them but for rounding."""
        features = _with_words(rows, self.words.only, self.words.both)
        trees = np.zeros(len(features))
        for tree in self.trees:
            trees += _leaves_of(tree, features)
        net = self.network
        hidden = np.maximum(_inputs(rows, features, net.mean, net.scale) @ net.rows.T + net.bias, 0.0)
        return trees, hidden @ net.out + net.out_bias


def require() -> tuple[Any, Any, Any]:
    """LightGBM, scikit-learn and scipy.sparse, or an error that names the extra."""
    try:
        import lightgbm  # noqa: PLC0415 - an extra
        import sklearn.linear_model  # noqa: PLC0415 - an extra
        import sklearn.neural_network  # noqa: PLC0415 - an extra
        from scipy import sparse  # noqa: PLC0415 - comes with scikit-learn
    except ImportError as error:
        raise MissingDependencyError(
            f"fitting needs {error.name}; install it with: pip install 'nearhit[train]'"
        ) from error
    return lightgbm, sklearn, sparse


def rarity_of(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Inverse document frequencies of hashed words, 255 for a word of no text; uint8 of shape [buckets]."""
    counts = np.zeros(BUCKETS)
    for buckets in _core.word_buckets(list(texts)):
        counts[buckets] += 1
    rarity = np.log((len(texts) + 1) / (counts + 1)) / np.log(len(texts) + 1)
    return np.asarray(np.rint(255 * np.clip(rarity, 0.0, 1.0)), np.uint8)


def rows_of(
    pairs: Sequence[Pair], vectors: VectorTable, rarity: NDArray[np.uint8], weights: NDArray[np.float64] | None = None
) -> Rows:
    """Turns labelled pairs into numbers."""
    _, _, sparse = require()
    a, b = vectors.of(pair.a for pair in pairs), vectors.of(pair.b for pair in pairs)
    texts = [(pair.a, pair.b) for pair in pairs]
    similarities = np.einsum("ij,ij->i", a, b)
    raw = _core.pair_features(texts, similarities.tolist(), rarity.tobytes())
    features = np.frombuffer(raw, np.float32).reshape(len(pairs), -1)
    words = _core.pair_words(texts)

    def counts(side: int) -> Any:
        columns = [column for row in words for column in row[side]]
        ends = np.cumsum([0] + [len(row[side]) for row in words])
        return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(pairs), BUCKETS))

    labels = np.array([pair.label for pair in pairs], np.int64)
    return Rows(features, counts(0), counts(1), a, b, labels, np.ones(len(pairs)) if weights is None else weights)


def fit(rows: Rows, rarity: NDArray[np.uint8], options: Options = Options()) -> Fitted:
    """Fits word weights, trees and network.

    The word weights that the trees and the network learn from are fitted on other rows than the ones they are used
    for (four folds), or both would believe them too much.
    """
    lightgbm, sklearn, _ = require()
    chance = np.random.default_rng(options.seed)
    fold = chance.integers(0, 4, len(rows.labels))
    learned = np.zeros((len(rows.labels), 2))
    for number in range(4):
        only, both = _fit_words(sklearn, rows.take(fold != number), options)
        held = rows.take(fold == number)
        learned[fold == number] = np.stack([held.only @ only, held.both @ both], axis=1)
    only, both = _fit_words(sklearn, rows, options)
    features = rows.features.copy()
    features[:, -2:] = np.clip(learned, -6.0, 6.0)
    booster = lightgbm.LGBMClassifier(
        n_estimators=options.trees,
        num_leaves=options.leaves,
        learning_rate=options.learning_rate,
        min_child_samples=60,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.6,
        reg_lambda=2.0,
        monotone_constraints=[int(name in RISING) for name in _core.pair_feature_names()],
        random_state=options.seed,
        deterministic=True,
        n_jobs=1,
        verbose=-1,
    ).fit(features, rows.labels, sample_weight=rows.weights)
    trees = [_tree_of(info["tree_structure"]) for info in booster.booster_.dump_model()["tree_info"]]
    network = _fit_network(sklearn, rows, features, options, chance)
    return Fitted(Words(rarity, only, both), trees, network)


def _fit_words(sklearn: Any, rows: Rows, options: Options) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy import sparse  # noqa: PLC0415 - comes with scikit-learn

    context = sparse.csr_matrix(rows.features[:, [0, 6, 9, 15]] * 3)  # similarity and overlaps explain what they can
    model = sklearn.linear_model.LogisticRegression(C=options.word_strength, max_iter=60, solver="liblinear")
    model.fit(sparse.hstack([rows.only, rows.both, context]).tocsr(), rows.labels, sample_weight=rows.weights)
    weights = model.coef_[0]
    return weights[:BUCKETS], weights[BUCKETS : 2 * BUCKETS]


def _fit_network(
    sklearn: Any, rows: Rows, features: NDArray[np.float32], options: Options, chance: np.random.Generator
) -> Network:
    mean, scale = features.mean(axis=0), 1.0 / (features.std(axis=0) + 1e-6)
    whole = np.floor(rows.weights) + (chance.random(len(rows.weights)) < rows.weights % 1.0)
    repeated = np.repeat(np.arange(len(rows.labels)), whole.astype(int))  # the class takes no weights
    inputs = _inputs(rows, features, mean, scale)[repeated].astype(np.float32)
    import warnings  # noqa: PLC0415 - only here

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops after the given passes on purpose
        model = sklearn.neural_network.MLPClassifier(
            (options.hidden,), alpha=options.decay, batch_size=256, max_iter=options.epochs, random_state=options.seed
        ).fit(inputs, rows.labels[repeated])
    (first, second), (bias, out_bias) = model.coefs_, model.intercepts_
    return Network(mean, scale, DIFFERENCE, PRODUCT, first.T, bias, second[:, 0], float(out_bias[0]))


def _inputs(
    rows: Rows, features: NDArray[np.float32], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    standard = np.clip((features - mean) * scale, -LIMIT, LIMIT)
    return np.hstack([np.abs(rows.a - rows.b) * DIFFERENCE, rows.a * rows.b * PRODUCT, standard])


def _with_words(rows: Rows, only: NDArray[np.float64], both: NDArray[np.float64]) -> NDArray[np.float32]:
    features = rows.features.copy()
    features[:, -2] = np.clip(rows.only @ only, -6.0, 6.0)
    features[:, -1] = np.clip(rows.both @ both, -6.0, 6.0)
    return features


def _tree_of(structure: dict[str, Any]) -> Tree:
    """Flattens LightGBM's nested tree, parents before children."""
    nodes: list[tuple[int, float, int, int] | None] = []
    leaves: list[float] = []

    def walk(node: dict[str, Any]) -> int:
        if "leaf_value" in node:
            leaves.append(float(node["leaf_value"]))
            return -len(leaves)
        place = len(nodes)
        nodes.append(None)
        left, right = walk(node["left_child"]), walk(node["right_child"])
        exact = float(node["threshold"])
        threshold = np.float32(exact)
        if threshold > exact:  # features are float32: round down, so that "at most" keeps its meaning
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        nodes[place] = (int(node["split_feature"]), float(threshold), left, right)
        return place

    walk(structure)
    return Tree(cast("list[tuple[int, float, int, int]]", nodes), leaves)


def _leaves_of(tree: Tree, features: NDArray[np.float32]) -> NDArray[np.float64]:
    at = np.zeros(len(features), np.int64) if tree.nodes else np.full(len(features), -1)
    table = np.array(tree.nodes or [(0, 0.0, -1, -1)], np.float64)
    values = np.array(tree.leaves)
    while (inside := np.flatnonzero(at >= 0)).size:
        node = table[at[inside]]
        left = features[inside, node[:, 0].astype(int)] <= node[:, 1]
        at[inside] = np.where(left, node[:, 2], node[:, 3]).astype(int)
    return cast("NDArray[np.float64]", values[-1 - at])


def calibrate(
    trees: NDArray[np.float64], network: NDArray[np.float64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> Calibration:
    """Logistic regression of both outputs, and of the trees alone, on rows that neither was fitted on."""
    both = logistic(np.stack([trees, network], axis=1), labels, weights)
    alone = logistic(trees[:, None], labels, weights)
    return Calibration(both[0], both[1], both[2], alone[0], alone[1])


def logistic(
    inputs: NDArray[np.float64], labels: NDArray[np.int64], weights: NDArray[np.float64], penalty: float = 1e-3
) -> list[float]:
    """Weights and bias of a logistic regression, by Newton's method; numpy is enough for it."""
    design = np.hstack([inputs, np.ones((len(inputs), 1))])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        probability = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weights * (labels - probability)) - penalty * beta
        spread = weights * probability * (1.0 - probability)
        hessian = (design * spread[:, None]).T @ design + penalty * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta += step
        if np.abs(step).max() < CONVERGED:
            break
    return [float(value) for value in beta]


def assemble(fitted: Fitted, calibration: Calibration, *, embedder: str, dim: int, threshold: float) -> VerifierFile:
    """Everything that the core needs, ready to be written."""
    return VerifierFile(embedder, dim, threshold, calibration, fitted.words, fitted.trees, fitted.network)
