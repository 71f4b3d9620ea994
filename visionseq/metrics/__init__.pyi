from visionseq.metrics.comparison import compare_features as compare_features
from visionseq.metrics.detection import Argoverse2AP as Argoverse2AP
from visionseq.metrics.detection import KittiAP as KittiAP
from visionseq.metrics.detection import NuScenesNDS as NuScenesNDS
from visionseq.metrics.detection import OnceAP as OnceAP
from visionseq.metrics.detection import WaymoAP as WaymoAP
from visionseq.metrics.extractor import FeatureExtractor as FeatureExtractor
from visionseq.metrics.features import FeatureCNN as FeatureCNN
from visionseq.metrics.frechet import feature_statistics as feature_statistics
from visionseq.metrics.frechet import frechet_distance as frechet_distance
from visionseq.metrics.image_scores import FrechetDistance as FrechetDistance
from visionseq.metrics.image_scores import KernelDistance as KernelDistance
from visionseq.metrics.image_scores import PrecisionRecall as PrecisionRecall
from visionseq.metrics.inception import InceptionFeatures as InceptionFeatures
from visionseq.metrics.reference import load_statistics as load_statistics
from visionseq.metrics.reference import save_statistics as save_statistics
from visionseq.metrics.task import FeatureTask as FeatureTask

LOADABLE: tuple[str, ...]
