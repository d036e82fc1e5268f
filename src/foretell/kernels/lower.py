"""From a fitted scikit-learn estimator to a kernel, by the estimator's class. Nothing of scikit-learn is imported: an
estimator's attributes are read. Estimators of other libraries that fit into its pipelines have their library's name
before their own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from foretell.kernels import (
    adaboost,
    bayes,
    binning,
    boosting,
    clusters,
    columns,
    distributions,
    encoding,
    ensembles,
    features,
    imputing,
    lightgbm,
    linear,
    machines,
    meta,
    scaling,
    selecting,
    targets,
    xgboost,
)
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

_XGBOOST = ("XGBClassifier", "XGBRanker", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor")
_FORESTS = ("DecisionTree", "ExtraTree", "ExtraTrees", "RandomForest")

HEADS: dict[str, Lowering] = {
    **dict.fromkeys(_REGRESSORS.split(), linear.regressor),
    **dict.fromkeys(_CLASSIFIERS.split(), linear.classifier),
    **dict.fromkeys(("SVC", "NuSVC"), machines.classifier),
    **dict.fromkeys(("SVR", "NuSVR", "OneClassSVM"), machines.regressor),
    **dict.fromkeys((f"{kind}Classifier" for kind in _FORESTS), ensembles.classifier),
    **dict.fromkeys((f"{kind}Regressor" for kind in _FORESTS), ensembles.regressor),
    **dict.fromkeys((f"lightgbm.LGBM{kind}" for kind in ("Classifier", "Ranker", "Regressor")), lightgbm.estimator),
    **dict.fromkeys((f"xgboost.{name}" for name in _XGBOOST), xgboost.estimator),
    "AdaBoostClassifier": adaboost.classifier,
    "AdaBoostRegressor": adaboost.regressor,
    "BaggingClassifier": ensembles.bagging_classifier,
    "BaggingRegressor": ensembles.bagging_regressor,
    "BernoulliNB": bayes.bernoulli,
    "BisectingKMeans": clusters.split_means,
    "CalibratedClassifierCV": lambda estimator, making: meta.calibrated(estimator, making, kernel_of),
    "CategoricalNB": bayes.categorical,
    "ComplementNB": bayes.complement,
    "DummyClassifier": targets.same_class,
    "DummyRegressor": targets.same_number,
    "GaussianNB": bayes.gaussian,
    "GradientBoostingClassifier": boosting.classifier,
    "GradientBoostingRegressor": lambda estimator, making: boosting.regressor(estimator, making, kernel_of),
    "HistGradientBoostingClassifier": boosting.histogram_classifier,
    "HistGradientBoostingRegressor": boosting.histogram_regressor,
    "IsolationForest": ensembles.isolation,
    "KMeans": clusters.means,
    "MiniBatchKMeans": clusters.means,
    "MultinomialNB": bayes.multinomial,
    "MultiOutputClassifier": lambda estimator, making: meta.one_an_output(estimator, making, kernel_of),
    "MultiOutputRegressor": lambda estimator, making: meta.one_an_output(estimator, making, kernel_of),
    "NearestCentroid": clusters.centroids,
    "OneVsRestClassifier": lambda estimator, making: meta.one_a_class(estimator, making, kernel_of),
    "TransformedTargetRegressor": lambda estimator, making: targets.turned_back(estimator, making, kernel_of),
    "VotingClassifier": lambda estimator, making: meta.voting(estimator, making, kernel_of),
    "VotingRegressor": lambda estimator, making: meta.voting(estimator, making, kernel_of),
}
"""Predictors by class name."""

_SELECTORS = (
    "GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest SelectPercentile "
    "SequentialFeatureSelector VarianceThreshold"
)

STEPS: dict[str, Lowering] = {
    **dict.fromkeys(_SELECTORS.split(), selecting.selector),
    "Binarizer": binning.binarizer,
    "ColumnTransformer": lambda estimator, making: columns.transformer(estimator, making, step_of),
    "FeatureUnion": lambda estimator, making: columns.union(estimator, making, step_of),
    "FunctionTransformer": columns.function,
    "KBinsDiscretizer": binning.discretizer,
    "MaxAbsScaler": scaling.max_abs,
    "MinMaxScaler": scaling.min_max,
    "MissingIndicator": imputing.indicator,
    "Normalizer": features.unit_rows,
    "OneHotEncoder": encoding.one_hot,
    "OrdinalEncoder": encoding.ordinal,
    "PCA": features.principal,
    "Pipeline": lambda estimator, making: columns.pipeline(estimator, making, step_of),
    "PolynomialFeatures": features.powers,
    "PowerTransformer": distributions.power,
    "QuantileTransformer": distributions.quantile,
    "RobustScaler": scaling.robust,
    "SimpleImputer": imputing.imputer,
    "StandardScaler": scaling.standard,
    "TargetEncoder": encoding.target,
    "TruncatedSVD": features.singular,
}
"""Transformers by class name."""


_PLAIN = (
    *("MaxAbsScaler", "MinMaxScaler", "Normalizer", "PCA", "PolynomialFeatures", "PowerTransformer"),
    *("QuantileTransformer", "RobustScaler", "StandardScaler", "TruncatedSVD"),
)
"""Transformers that leave a matrix in C order in C order."""


def lower(estimator: Any, making: Making, *, frame: bool) -> Kernel:
    """The kernel of a fitted estimator or Pipeline. frame: whether the library is given a frame, if there are names.

    Raises NotCovered.
    """
    *steps, last = _chain(estimator)
    head = replace(making, plain=making.plain and not frame and all(map(_is_plain, steps)))
    if making.params and type(last).__name__ != "BayesianRidge":
        raise NotCovered(f"{type(last).__name__} with the parameters {', '.join(making.params)}")
    return Kernel(
        tuple(columns.chain(steps, replace(making, plain=head.plain), step_of)),
        _of(last, HEADS, head),
        frame and making.names is not None,
    )


def kernel_of(estimator: Any, making: Making) -> Kernel:
    """The kernel of a member of another model. Raises NotCovered."""
    if type(estimator).__name__ == "FrozenEstimator" and _is_theirs(estimator):
        estimator = estimator.estimator
    if columns.writes(estimator):
        raise NotCovered(f"{type(estimator).__name__} with copy=False beside others")
    return lower(estimator, making, frame=False)


def step_of(transformer: Any, making: Making) -> Step | None:
    """The step of a transformer; None where it changes nothing. Raises NotCovered."""
    if transformer is None or isinstance(transformer, str):
        return None
    if getattr(transformer, "_sklearn_output_config", {}).get("transform", "default") not in ("default", None):
        raise NotCovered(f"{type(transformer).__name__} that gives frames")
    step: Step | None = _of(transformer, STEPS, making)
    return step


def _chain(estimator: Any) -> list[Any]:
    """A pipeline's steps, nested ones too, in order; any other estimator alone."""
    if type(estimator).__name__ == "Pipeline" and _is_theirs(estimator):
        return [part for _, step in estimator.steps for part in _chain(step)]
    return [estimator]


def _of(estimator: Any, table: dict[str, Lowering], making: Making) -> Any:
    name = type(estimator).__name__
    if not _is_theirs(estimator):
        name = f"{type(estimator).__module__.partition('.')[0]}.{name}"
    if name not in table:
        raise NotCovered(name)
    try:
        return table[name](estimator, making)
    except AttributeError as error:
        raise NotCovered(f"{name}, which is not as its library fits it: {error}") from error


def _is_plain(step: Any) -> bool:
    """Whether a step of a pipeline leaves a matrix as it lies."""
    passed = step is None or isinstance(step, str)
    return passed or (type(step).__name__ in _PLAIN and getattr(step, "order", "C") == "C")


def _is_theirs(estimator: Any) -> bool:
    return type(estimator).__module__.startswith("sklearn.")
