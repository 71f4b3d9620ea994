from visionseq.arflow.convert import from_official as from_official
from visionseq.arflow.convert import to_official as to_official
from visionseq.arflow.data import SequenceData as SequenceData
from visionseq.arflow.model import ARFlow as ARFlow
from visionseq.arflow.presets import PRESETS as PRESETS
from visionseq.arflow.sampling import sample as sample
from visionseq.arflow.task import ARFlowTask as ARFlowTask

LOADABLE: tuple[str, ...]
