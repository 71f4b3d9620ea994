from visionseq.lion.backbone import LION3DBackboneOneStride as LION3DBackboneOneStride
from visionseq.lion.backbone import LION3DBackboneOneStride_Sparse as LION3DBackboneOneStride_Sparse
from visionseq.lion.block import LIONBlock as LIONBlock
from visionseq.lion.detections import Detections as Detections
from visionseq.lion.evaluation import Argoverse2Metric as Argoverse2Metric
from visionseq.lion.evaluation import KittiMetric as KittiMetric
from visionseq.lion.evaluation import NuScenesMetric as NuScenesMetric
from visionseq.lion.evaluation import OnceMetric as OnceMetric
from visionseq.lion.evaluation import WaymoMetric as WaymoMetric
from visionseq.lion.inference import FrameInput as FrameInput
from visionseq.lion.inference import detect_frame as detect_frame
from visionseq.lion.inference import load_detector as load_detector
from visionseq.lion.layer import LIONLayer as LIONLayer
from visionseq.lion.model import LionDetector as LionDetector
from visionseq.lion.submissions import Argoverse2Submission as Argoverse2Submission
from visionseq.lion.submissions import KittiSubmission as KittiSubmission
from visionseq.lion.submissions import NuScenesSubmission as NuScenesSubmission
from visionseq.lion.submissions import WaymoSubmission as WaymoSubmission
from visionseq.lion.task import LionTask as LionTask

LOADABLE: tuple[str, ...]
