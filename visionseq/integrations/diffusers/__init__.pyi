from visionseq.integrations.diffusers.drop_in import ratio_aware_guidance as ratio_aware_guidance
from visionseq.integrations.diffusers.guider import RAAGGuidance as RAAGGuidance
from visionseq.integrations.diffusers.presets import PRESETS as PRESETS
from visionseq.integrations.diffusers.presets import Preset as Preset
from visionseq.integrations.diffusers.steps import GuidedSteps as GuidedSteps
