"""Figures. Each function draws on axes it is given and returns them; nothing is computed here. Needs seaborn."""

from splinelib.plots.anatomy import alignment_by_layer as alignment_by_layer
from splinelib.plots.early_bird import distance_and_accuracy as distance_and_accuracy
from splinelib.plots.early_bird import epoch_matrix as epoch_matrix
from splinelib.plots.early_bird import layer_distances as layer_distances
from splinelib.plots.images import canvas_grid as canvas_grid
from splinelib.plots.images import image_grid as image_grid
from splinelib.plots.pruning import difference_forest as difference_forest
from splinelib.plots.pruning import dots_by_ratio as dots_by_ratio
from splinelib.plots.pruning import forest_by_ratio as forest_by_ratio
from splinelib.plots.pruning import layer_widths as layer_widths
from splinelib.plots.pruning import method_dots as method_dots
from splinelib.plots.pruning import ratio_curves as ratio_curves
from splinelib.plots.savings import pareto as pareto
from splinelib.plots.savings import phase_bars as phase_bars
from splinelib.plots.savings import ticket_outcomes as ticket_outcomes
from splinelib.plots.settling import canvas_draws as canvas_draws
from splinelib.plots.settling import detected_epochs as detected_epochs
from splinelib.plots.settling import exact_and_sampled as exact_and_sampled
from splinelib.plots.settling import rule_map as rule_map
from splinelib.plots.settling import schedule_curves as schedule_curves
from splinelib.plots.settling import schedule_draws as schedule_draws
from splinelib.plots.style import columns as columns
from splinelib.plots.style import panels as panels
from splinelib.plots.style import reference_line as reference_line
from splinelib.plots.style import save_figure as save_figure
from splinelib.plots.style import use_style as use_style
