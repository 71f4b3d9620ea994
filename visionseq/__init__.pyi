from visionseq.convert import from_official as from_official
from visionseq.convert import to_official as to_official
from visionseq.flow.pipeline import pipeline as pipeline
from visionseq.zoo.index import list_models as list_models
from visionseq.zoo.loading import load as load

__version__: str
