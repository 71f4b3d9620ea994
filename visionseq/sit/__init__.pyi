from visionseq.sit.convert import from_official as from_official
from visionseq.sit.convert import to_official as to_official
from visionseq.sit.density import Likelihood as Likelihood
from visionseq.sit.density import likelihood as likelihood
from visionseq.sit.losses import prediction_loss as prediction_loss
from visionseq.sit.model import SiT as SiT
from visionseq.sit.presets import PRESETS as PRESETS
from visionseq.sit.sampling import sample as sample
from visionseq.sit.task import SiTTask as SiTTask

LOADABLE: tuple[str, ...]
