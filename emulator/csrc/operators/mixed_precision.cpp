// Loss scaling: unscaling gradients, detecting overflow, updating the scale.
#include "operator.h"

/// Looks for inf and NaN in all gradients as they are, before they are multiplied; sets found_inf to 1 or leaves it as it was.
static void check_and_unscale(const Outputs& scaled_grads, const Output& found_inf, const Tensor& inv_scale) {
    bool finite = true;
    for (auto& grad : scaled_grads.tensors) {
        finite = finite && at::isfinite(grad).all().item<bool>();
        grad.mul_(inv_scale.reshape({}));
    }
    if (!finite) found_inf->fill_(1);
}
OPERATOR(aclnnForeachNonFiniteCheckAndUnscale, Elementwise, (Outputs scaled_grads, Output found_inf, Tensor inv_scale),
         check_and_unscale(scaled_grads, found_inf, inv_scale))

OPERATOR(aclnnAmpUpdateScale, Elementwise,
         (Tensor current_scale, Tensor growth_tracker, Tensor found_inf, double growth_factor, double backoff_factor,
          int64_t growth_interval, Output scale_out, Output tracker_out),
         Tensor scale = current_scale.clone();
         Tensor tracker = growth_tracker.clone();
         at::_amp_update_scale_(scale, tracker, found_inf, growth_factor, backoff_factor, growth_interval); scale_out = scale;
         tracker_out = tracker)
