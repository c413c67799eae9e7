// Loss functions and their gradients. Reduction is 0 for none, 1 for mean, 2 for sum, as in torch (at::Reduction).
#include "widening.h"

/// The gradient of a reduced loss, from the gradient of each of its terms.
static Tensor reduced_gradient(const Tensor& of_terms, const Tensor& grad, int64_t reduction) {
    Tensor gradient = at::mul(of_terms, widened(grad));
    return reduction == at::Reduction::Mean ? at::div(gradient, of_terms.numel()) : gradient;
}

// ---- classification ---------------------------------------------------------------------------------------------------------

OPERATOR(aclnnNLLLoss, Accumulating,
         (Tensor self, Tensor target, Tensor weight, int64_t reduction, int64_t ignore_index, Output out, Output total_weight), {
             auto [loss, total] =
                 at::nll_loss_forward(widened(self), target.to(at::kLong), widened_if_given(weight), reduction, ignore_index);
             out = loss;
             total_weight = total;
         })
OPERATOR(aclnnNLLLossBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor target, Tensor weight, int64_t reduction, int64_t ignore_index, Tensor total_weight, Output out),
         out = at::nll_loss_backward(widened(grad), widened(self), target.to(at::kLong), widened_if_given(weight), reduction, ignore_index,
                                     widened(total_weight).reshape({})))
OPERATOR(aclnnNLLLoss2d, Accumulating,
         (Tensor self, Tensor target, Tensor weight, int64_t reduction, int64_t ignore_index, Output out, Output total_weight), {
             auto [loss, total] =
                 at::nll_loss2d_forward(widened(self), target.to(at::kLong), widened_if_given(weight), reduction, ignore_index);
             out = loss;
             total_weight = total;
         })
OPERATOR(aclnnNLLLoss2dBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor target, Tensor weight, int64_t reduction, int64_t ignore_index, Tensor total_weight, Output out),
         out = at::nll_loss2d_backward(widened(grad), widened(self), target.to(at::kLong), widened_if_given(weight), reduction,
                                       ignore_index, widened(total_weight).reshape({})))

static int64_t reduction_named(const Text& name) {
    if (name == "none") return at::Reduction::None;
    if (name == "mean") return at::Reduction::Mean;
    TORCH_CHECK(name == "sum", "reduction must be none, mean or sum, not ", name);
    return at::Reduction::Sum;
}

// The z-loss is in CANN's interface, but its documentation says that it is not supported yet.
OPERATOR(aclnnCrossEntropyLoss, Accumulating,
         (Tensor self, Tensor target, Tensor weight, Text reduction, int64_t ignore_index, double label_smoothing, double zloss_scale,
          bool zloss_wanted, Output loss, Output log_probability, Output zloss, Output logsumexp),
         {
             TORCH_CHECK(zloss_scale == 0 && !zloss_wanted, "the z-loss (lse_square_scale_for_zloss, return_zloss) is not supported");
             Tensor x = widened(self);
             log_probability = at::log_softmax(x, 1);
             loss = at::cross_entropy_loss(x, target.to(at::kLong), widened_if_given(weight), reduction_named(reduction), ignore_index,
                                           label_smoothing);
         })
OPERATOR(aclnnCrossEntropyLossGrad, Accumulating,
         (Tensor grad, Tensor log_probability, Tensor target, Tensor weight, Tensor grad_zloss, Tensor logsumexp, Text reduction,
          int64_t ignore_index, double label_smoothing, double zloss_scale, Output out),
         {
             TORCH_CHECK(zloss_scale == 0 && !grad_zloss.defined(), "the z-loss (lse_square_scale_for_zloss) is not supported");
             Tensor log_p = widened(log_probability);
             Tensor labels = target.to(at::kLong);
             Tensor counted = labels.ne(ignore_index).to(log_p.scalar_type());
             Tensor safe_labels = at::where(labels.ne(ignore_index), labels, at::zeros_like(labels));
             Tensor class_weight = weight.defined() ? widened(weight) : at::ones({log_p.size(1)}, log_p.options());
             Tensor row_weight = at::mul(class_weight.index_select(0, safe_labels), counted);
             Tensor row_grad = at::mul(widened(grad).reshape({-1}), counted);
             if (reduction_named(reduction) == at::Reduction::Mean) row_grad = at::div(row_grad, row_weight.sum());
             // Each row's loss is -sum_c q_c log p_c; q is the smoothed, weighted label.
             Tensor q = at::mul(class_weight.expand_as(log_p), label_smoothing / static_cast<double>(log_p.size(1)));
             q = at::scatter_add(q, 1, safe_labels.unsqueeze(1), at::mul(row_weight, 1 - label_smoothing).unsqueeze(1));
             Tensor gradient = at::sub(at::mul(at::exp(log_p), q.sum(1, true)), q);
             out = at::mul(gradient, row_grad.unsqueeze(1));
         })

OPERATOR(aclnnMultilabelMarginLoss, Accumulating, (Tensor self, Tensor target, int64_t reduction, Output out, Output is_target), {
    auto [loss, mask] = at::multilabel_margin_loss_forward(widened(self), target.to(at::kLong), reduction);
    out = loss;
    is_target = mask;
})

// ---- regression -------------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnMseLoss, Accumulating, (Tensor self, Tensor target, int64_t reduction, Output out),
         out = at::mse_loss(widened(self), widened(target), reduction))
OPERATOR(aclnnMseLossBackward, Accumulating, (Tensor grad, Tensor self, Tensor target, int64_t reduction, Output out),
         out = reduced_gradient(at::mul(at::sub(widened(self), widened(target)), 2), grad, reduction))
OPERATOR(aclnnL1Loss, Accumulating, (Tensor self, Tensor target, int64_t reduction, Output out),
         out = at::l1_loss(widened(self), widened(target), reduction))
OPERATOR(aclnnL1LossBackward, Accumulating, (Tensor grad, Tensor self, Tensor target, int64_t reduction, Output out),
         out = reduced_gradient(at::sign(at::sub(widened(self), widened(target))), grad, reduction))
OPERATOR(aclnnSmoothL1Loss, Accumulating, (Tensor self, Tensor target, int64_t reduction, float beta, Output out),
         out = at::smooth_l1_loss(widened(self), widened(target), reduction, beta))
OPERATOR(aclnnSmoothL1LossBackward, Accumulating, (Tensor grad, Tensor self, Tensor target, int64_t reduction, float beta, Output out),
         out = at::smooth_l1_loss_backward(widened(grad), widened(self), widened(target), reduction, beta))

// ---- probabilities -----------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnBinaryCrossEntropy, Accumulating, (Tensor self, Tensor target, Tensor weight, int64_t reduction, Output out),
         out = at::binary_cross_entropy(widened(self), widened(target), widened_if_given(weight), reduction))
OPERATOR(aclnnBinaryCrossEntropyBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor target, Tensor weight, int64_t reduction, Output out),
         out = at::binary_cross_entropy_backward(widened(grad), widened(self), widened(target), widened_if_given(weight), reduction))
OPERATOR(aclnnBinaryCrossEntropyWithLogits, Accumulating,
         (Tensor self, Tensor target, Tensor weight, Tensor pos_weight, int64_t reduction, Output out),
         out = at::binary_cross_entropy_with_logits(widened(self), widened(target), widened_if_given(weight), widened_if_given(pos_weight),
                                                    reduction))
OPERATOR(aclnnBinaryCrossEntropyWithLogitsBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor target, Tensor weight, Tensor pos_weight, int64_t reduction, Output out), {
             Tensor p = at::sigmoid(widened(self));
             Tensor label = widened(target);
             Tensor positive = pos_weight.defined() ? at::mul(label, widened(pos_weight)) : label;
             // d/dx of -(w+ y log p + (1 - y) log(1 - p))
             Tensor gradient = at::sub(at::mul(p, at::add(at::sub(positive, label), 1)), positive);
             if (weight.defined()) gradient = at::mul(gradient, widened(weight));
             out = reduced_gradient(gradient, grad, reduction);
         })
OPERATOR(aclnnKlDiv, Accumulating, (Tensor self, Tensor target, int64_t reduction, bool log_target, Output out),
         out = at::kl_div(widened(self), widened(target), reduction, log_target))
OPERATOR(aclnnKlDivBackward, Accumulating, (Tensor grad, Tensor self, Tensor target, int64_t reduction, bool log_target, Output out),
         out = reduced_gradient(at::neg(log_target ? at::exp(widened(target)) : widened(target)).expand_as(self), grad, reduction))
OPERATOR(aclnnKlDivTargetBackward, Accumulating, (Tensor grad, Tensor self, Tensor target, int64_t reduction, bool log_target, Output out),
         {
             Tensor t = widened(target);
             Tensor excess = at::add(at::sub(log_target ? t : at::log(t), widened(self)), 1);
             out = reduced_gradient(log_target ? at::mul(at::exp(t), excess) : excess, grad, reduction);
         })
OPERATOR(aclnnSoftMarginLoss, Accumulating, (Tensor self, Tensor target, int64_t reduction, Output out),
         out = at::soft_margin_loss(widened(self), widened(target), reduction))
OPERATOR(aclnnSoftMarginLossBackward, Accumulating, (Tensor grad, Tensor self, Tensor target, int64_t reduction, Output out),
         out = at::soft_margin_loss_backward(widened(grad), widened(self), widened(target), reduction))

// ---- sequences ------------------------------------------------------------------------------------------------------------------------

/// The device pads the last dimension of log_alpha to a multiple of 8 numbers.
static Tensor unpadded(const Tensor& log_alpha, int64_t width) { return log_alpha.narrow(-1, 0, width); }

OPERATOR(aclnnCtcLoss, Accumulating,
         (Tensor log_probabilities, Tensor targets, Ints input_lengths, Ints target_lengths, int64_t blank, bool zero_infinity,
          Output negative_log_likelihood, Output log_alpha),
         {
             auto [loss, alpha] =
                 at::_ctc_loss(log_probabilities, targets.to(at::kLong), input_lengths.ref(), target_lengths.ref(), blank, zero_infinity);
             negative_log_likelihood = loss;
             Tensor rows = alpha.view({-1, alpha.size(-2), alpha.size(-1)});
             // torch leaves what lies behind the end of a short input as it was in memory.
             for (int64_t row = 0; row < rows.size(0); row++)
                 rows.select(0, row).slice(0, input_lengths.values[input_lengths.values.size() > 1 ? row : 0]).zero_();
             log_alpha->zero_();
             unpadded(log_alpha, alpha.size(-1)).copy_(rows);
         })
OPERATOR(aclnnCtcLossBackward, Accumulating,
         (Tensor grad, Tensor log_probabilities, Tensor targets, Ints input_lengths, Ints target_lengths, Tensor negative_log_likelihood,
          Tensor log_alpha, int64_t blank, bool zero_infinity, Output out),
         {
             int64_t longest = 0;
             for (int64_t length : target_lengths.values) longest = std::max(longest, length);
             Tensor alpha = unpadded(log_alpha, 2 * longest + 1).contiguous();
             if (log_probabilities.dim() == 2) alpha = alpha.squeeze(0);
             out = at::_ctc_loss_backward(grad, log_probabilities, targets.to(at::kLong), input_lengths.ref(), target_lengths.ref(),
                                          negative_log_likelihood, alpha, blank, zero_infinity);
         })
