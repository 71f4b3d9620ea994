"""The feature network behind a name, for every command and task that scores images."""

from visionseq.errors import ConfigError
from visionseq.metrics.extractor import FeatureExtractor, FeatureNetwork
from visionseq.metrics.inception import InceptionFeatures
from visionseq.zoo.loading import load

INCEPTION = "inception:"


def feature_network(name: str) -> FeatureExtractor:
    """The extractor behind a name in the zoo, a model folder, or inception:FILE; `ConfigError` for other models."""
    if name.startswith(INCEPTION):
        return FeatureExtractor(InceptionFeatures(name.removeprefix(INCEPTION)))
    network = load(name)
    if not isinstance(network, FeatureNetwork):
        raise ConfigError(f"features {name}: a {type(network).__name__} has no feature layer, expected a FeatureCNN")
    return FeatureExtractor(network, name=name)
