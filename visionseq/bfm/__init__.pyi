from visionseq.bfm.data import LatentsWithImages as LatentsWithImages
from visionseq.bfm.encoder import encoder_from as encoder_from
from visionseq.bfm.model import BFM as BFM
from visionseq.bfm.sampling import sample as sample
from visionseq.bfm.task import BFMTask as BFMTask
from visionseq.bfm.task import FRNTask as FRNTask

LOADABLE: tuple[str, ...]
