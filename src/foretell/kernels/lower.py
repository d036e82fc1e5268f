"""From a fitted scikit-learn estimator to a kernel, by the estimator's class. Nothing of scikit-learn is imported: an
estimator's attributes are read."""

from collections.abc import Callable
from typing import Any

from foretell.kernels import bayes, clusters, linear, machines, scaling
from foretell.kernels.kernel import Kernel
from foretell.kernels.node import Making, NotCovered, Step

Lowering = Callable[[Any, Making], Any]

_REGRESSORS = (
    "ARDRegression BayesianRidge ElasticNet ElasticNetCV GammaRegressor HuberRegressor Lars LarsCV Lasso LassoCV "
    "LassoLars LassoLarsCV LassoLarsIC LinearRegression LinearSVR MultiTaskElasticNet MultiTaskElasticNetCV "
    "MultiTaskLasso MultiTaskLassoCV OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV PassiveAggressiveRegressor "
    "PoissonRegressor QuantileRegressor Ridge RidgeCV SGDRegressor TheilSenRegressor TweedieRegressor"
)
_CLASSIFIERS = (
    "LinearDiscriminantAnalysis LinearSVC LogisticRegression LogisticRegressionCV PassiveAggressiveClassifier "
    "Perceptron RidgeClassifier RidgeClassifierCV SGDClassifier"
)

HEADS: dict[str, Lowering] = {
    **dict.fromkeys(_REGRESSORS.split(), linear.regressor),
    **dict.fromkeys(_CLASSIFIERS.split(), linear.classifier),
    "BernoulliNB": bayes.bernoulli,
    "BisectingKMeans": clusters.split_means,
    "CategoricalNB": bayes.categorical,
    "ComplementNB": bayes.complement,
    "GaussianNB": bayes.gaussian,
    "KMeans": clusters.means,
    "MiniBatchKMeans": clusters.means,
    "MultinomialNB": bayes.multinomial,
    "NearestCentroid": clusters.centroids,
    **dict.fromkeys(("SVC", "NuSVC"), machines.classifier),
    **dict.fromkeys(("SVR", "NuSVR", "OneClassSVM"), machines.regressor),
}
"""Predictors by class name."""

STEPS: dict[str, Lowering] = {
    "MaxAbsScaler": scaling.max_abs,
    "MinMaxScaler": scaling.min_max,
    "RobustScaler": scaling.robust,
    "StandardScaler": scaling.standard,
}
"""Transformers by class name."""


def lower(estimator: Any, making: Making, *, frame: bool) -> Kernel:
    """The kernel of a fitted estimator or Pipeline. frame: whether the library is given a frame. Raises NotCovered."""
    *steps, last = _chain(estimator)
    if making.params and type(last).__name__ != "BayesianRidge":
        raise NotCovered(f"{type(last).__name__} with the parameters {', '.join(making.params)}")
    made = [step_of(step, making) for step in steps]
    return Kernel(tuple(step for step in made if step is not None), _of(last, HEADS, making), frame)


def step_of(transformer: Any, making: Making) -> Step | None:
    """The step of a transformer; None where it changes nothing. Raises NotCovered."""
    if transformer is None or isinstance(transformer, str):
        return None
    step: Step = _of(transformer, STEPS, making)
    return step


def _chain(estimator: Any) -> list[Any]:
    """A pipeline's steps, nested ones too, in order; any other estimator alone."""
    if type(estimator).__name__ == "Pipeline" and _is_theirs(estimator):
        return [part for _, step in estimator.steps for part in _chain(step)]
    return [estimator]


def _of(estimator: Any, table: dict[str, Lowering], making: Making) -> Any:
    name = type(estimator).__name__
    if name not in table or not _is_theirs(estimator):
        raise NotCovered(name)
    try:
        return table[name](estimator, making)
    except AttributeError as error:
        raise NotCovered(f"{name}, which is not as scikit-learn fits it: {error}") from error


def _is_theirs(estimator: Any) -> bool:
    return type(estimator).__module__.startswith("sklearn.")
