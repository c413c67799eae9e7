// Steps of fused optimizers. The kernels compute in float32, the hyperparameters included, and round once.
#include <cmath>

#include "widening.h"

// ---- Adam ----------------------------------------------------------------------------------------------------------------------

struct AdamSettings {
    float lr, beta1, beta2, weight_decay, eps;
    bool amsgrad, maximize, decoupled;  // decoupled: AdamW's weight decay
};

/// One step for one parameter. `step` counts the finished steps: torch_npu subtracts 1 from torch's counter and the kernel adds it.
static void adam(const Output& parameter, const Output& exp_avg, const Output& exp_avg_sq, const Output& max_exp_avg_sq,
                 const Tensor& gradient, const Tensor& step, const AdamSettings& s) {
    float t = step.reshape({-1})[0].item<float>() + 1;
    Tensor p = widened(parameter), g = widened(gradient);
    if (s.maximize) g = at::neg(g);
    if (s.decoupled)
        p = at::mul(p, 1 - s.lr * s.weight_decay);
    else if (s.weight_decay != 0)
        g = at::add(g, p, s.weight_decay);
    Tensor m = at::lerp(widened(exp_avg), g, 1 - s.beta1);
    Tensor v = at::add(at::mul(widened(exp_avg_sq), s.beta2), at::mul(g, g), 1 - s.beta2);
    Tensor largest = v;
    if (s.amsgrad) {
        TORCH_CHECK(max_exp_avg_sq.tensor.defined(), "amsgrad needs the largest second moments so far");
        largest = at::maximum(widened(max_exp_avg_sq), v);
        max_exp_avg_sq = largest;
    }
    float correction1 = 1 - std::pow(s.beta1, t), correction2 = 1 - std::pow(s.beta2, t);
    Tensor denominator = at::add(at::mul(at::sqrt(largest), 1 / std::sqrt(correction2)), s.eps);
    parameter = at::addcdiv(p, m, denominator, -s.lr / correction1);
    exp_avg = m;
    exp_avg_sq = v;
}

// torch.optim.AdamW(fused=True). The operator has no place for grad_scale and found_inf, and torch_npu drops them: a step that
// torch.amp.GradScaler would skip, or whose gradients it leaves to the optimizer to unscale, is taken as it is.
OPERATOR(aclnnApplyAdamWV2, Approximate,
         (Output self, Output exp_avg, Output exp_avg_sq, Output max_exp_avg_sq, Tensor grad, Tensor step, float lr, float beta1,
          float beta2, float weight_decay, float eps, bool amsgrad, bool maximize),
         adam(self, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, step, {lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, true}))

/// Divides gradients by the loss scale, in place, as torch's own fused optimizers do; not where there is no loss scaler. They are
/// declared as inputs, because noise must not touch gradients that nothing wrote.
static void unscale(const Tensors& grads, const Tensor& grad_scale) {
    if (!grad_scale.defined()) return;
    float inverse = 1 / grad_scale.item<float>();
    for (auto& grad : grads) grad.mul_(inverse);
}

// torch.optim.Adam(fused=True) on an Ascend950; on older chips torch_npu takes that step on the CPU.
OPERATOR(aclnnFusedAdam, Approximate,
         (Outputs self, Tensors grads, Outputs exp_avgs, Outputs exp_avg_sqs, Outputs max_exp_avg_sqs, Tensors state_steps,
          Tensor grad_scale, Tensor found_inf, double lr, double beta1, double beta2, double weight_decay, double eps, bool amsgrad,
          bool maximize),
         if (found_inf.defined() && found_inf.item<float>() == 1) return;
         unscale(grads, grad_scale);
         AdamSettings settings{static_cast<float>(lr), static_cast<float>(beta1), static_cast<float>(beta2),
                               static_cast<float>(weight_decay), static_cast<float>(eps), amsgrad, maximize, false};
         for (size_t i = 0; i < self.size(); i++)
             adam(self[i], exp_avgs[i], exp_avg_sqs[i], i < max_exp_avg_sqs.size() ? max_exp_avg_sqs[i] : Output{}, grads[i],
                  state_steps[i], settings))

// ---- SGD -------------------------------------------------------------------------------------------------------------------------

OPERATOR(
    aclnnFusedSgd, Approximate,
    (Outputs self, Tensors grads, Outputs momentum_buffers, Tensor grad_scale, float weight_decay, float momentum, float lr,
     float dampening, bool nesterov, bool maximize, bool is_first_step),
    unscale(grads, grad_scale);
    for (size_t i = 0; i < self.size(); i++) {
        Tensor p = widened(self[i]), g = widened(grads[i]);
        if (maximize) g = at::neg(g);
        if (weight_decay != 0) g = at::add(g, p, weight_decay);
        if (i < momentum_buffers.size()) {
            Tensor buffer = is_first_step ? g : at::add(at::mul(widened(momentum_buffers[i]), momentum), g, 1 - dampening);
            momentum_buffers[i] = buffer;
            g = nesterov ? at::add(g, buffer, momentum) : buffer;
        }
        self[i] = at::sub(p, g, lr);
    })
