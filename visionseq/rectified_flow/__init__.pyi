from visionseq.rectified_flow.convert import from_official as from_official
from visionseq.rectified_flow.convert import to_official as to_official
from visionseq.rectified_flow.inversion import interpolate as interpolate
from visionseq.rectified_flow.inversion import invert as invert
from visionseq.rectified_flow.inversion import reconstruct as reconstruct
from visionseq.rectified_flow.inversion import translate as translate
from visionseq.rectified_flow.model import EDMDenoiser as EDMDenoiser
from visionseq.rectified_flow.model import EDMVelocity as EDMVelocity
from visionseq.rectified_flow.model import build_network as build_network
from visionseq.rectified_flow.pairs import ReflowPairs as ReflowPairs
from visionseq.rectified_flow.presets import PRESETS as PRESETS
from visionseq.rectified_flow.sampling import sample as sample
from visionseq.rectified_flow.task import RectifiedFlowTask as RectifiedFlowTask
from visionseq.rectified_flow.task import ReflowTask as ReflowTask
from visionseq.rectified_flow.task import TeacherTask as TeacherTask
from visionseq.rectified_flow.teacher import edm_sample as edm_sample

LOADABLE: tuple[str, ...]
