"""Records as tidy tables, with means, spreads and paired comparisons over seeds. Needs pandas and scipy."""

from splinelib.tables.claims import claim_table as claim_table
from splinelib.tables.claims import describe as describe
from splinelib.tables.claims import detection_claim as detection_claim
from splinelib.tables.claims import pruning_claim as pruning_claim
from splinelib.tables.claims import study_claim as study_claim
from splinelib.tables.compare import CONFIDENCE as CONFIDENCE
from splinelib.tables.compare import MARGIN as MARGIN
from splinelib.tables.compare import paired_differences as paired_differences
from splinelib.tables.compare import stack as stack
from splinelib.tables.compare import summarise as summarise
from splinelib.tables.compare import verdict as verdict
from splinelib.tables.early_bird import detection_summary as detection_summary
from splinelib.tables.early_bird import detection_table as detection_table
from splinelib.tables.early_bird import epoch_table as epoch_table
from splinelib.tables.early_bird import layer_matrix as layer_matrix
from splinelib.tables.early_bird import mean_matrix as mean_matrix
from splinelib.tables.phases import PHASES as PHASES
from splinelib.tables.phases import dense_training_flops as dense_training_flops
from splinelib.tables.phases import phase_flops as phase_flops
from splinelib.tables.phases import phase_table as phase_table
from splinelib.tables.pruning import method_name as method_name
from splinelib.tables.pruning import one_shot_table as one_shot_table
from splinelib.tables.pruning import pruning_table as pruning_table
from splinelib.tables.pruning import width_table as width_table
